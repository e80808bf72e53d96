"""A long video needs no more memory than a short one, in packing, indexing and reading; its bytes are the same."""

import hashlib
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shards.codecs.parts import LazyParts
from shards.dataset import ShardDataset
from shards.decoding.refusal import BrokenClipError
from shards.errors import UserError
from shards.format.growing_shard import GrowingShard
from shards.format.index import ShardIndex
from shards.packing import part_spool
from shards.packing.clip_preparation import PackConfig, PreparedClip, prepare_clip
from shards.packing.pack import pack
from shards.packing.request import versions
from shards.sources import ClipEntry, Listing
from tests.shards.packing.packs import CONFIG, content, mask_files, real_listing

SMALL = PackConfig(height=48, codec="h264", crf=10, segment_frames=8, workers=1)
SPOOLED_BYTES = 100_000


def peak_of(function: Callable[[], object]) -> int:
    """What the function and what it gave hold at most, in bytes."""
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.fixture(scope="module")
def noisy(tmp_path_factory, write_video) -> Callable[[int], ClipEntry]:
    """Makes a clip of so many frames of noise, which hardly compress."""
    folder = tmp_path_factory.mktemp("noisy") / "run"

    def make(frame_count: int) -> ClipEntry:
        path = folder / f"{frame_count}.mp4"
        if not path.exists():
            random = np.random.default_rng(0)
            write_video(path, (random.integers(0, 256, (48, 64, 3), np.uint8) for _ in range(frame_count)))
        return ClipEntry(f"run/{frame_count}", path, "run")

    return make


@pytest.fixture
def spooling(monkeypatch) -> None:
    monkeypatch.setattr(part_spool, "IN_MEMORY_BYTES", SPOOLED_BYTES)


def size_of(clip: PreparedClip) -> int:
    return sum(map(len, clip.sample.parts))


def append(path: Path, clip: PreparedClip) -> None:
    with GrowingShard(path) as shard:
        shard.append(0, clip.sample.components())


def test_memory_does_not_grow_with_the_length_of_a_video(tmp_path, noisy, spooling):
    peaks = {}
    for frame_count in (100, 1600):
        entry = noisy(frame_count)
        clips: list[PreparedClip] = []

        def prepare(entry: ClipEntry = entry, clips: list[PreparedClip] = clips) -> None:
            clips.append(prepare_clip(entry, 0, SMALL, spool_folder=tmp_path))

        prepared = peak_of(prepare)
        (clip,) = clips
        shard = tmp_path / f"{frame_count}.tar"
        appended = peak_of(lambda shard=shard, clip=clip: append(shard, clip))
        indexed = peak_of(lambda shard=shard: ShardIndex.read(shard))
        peaks[frame_count] = np.array([prepared, appended, indexed])
        assert clip.sample.info.frame_count == frame_count
    assert size_of(clip) > 50 * SPOOLED_BYTES
    # Only what is known of each of the 200 segments stays: some 2 kB.
    assert (peaks[1600] - peaks[100] < 5 * SPOOLED_BYTES).all(), peaks


def test_without_a_folder_the_parts_stay_in_memory(noisy, spooling):
    clip = prepare_clip(noisy(100), 0, SMALL)
    assert clip.spooled is None
    assert isinstance(clip.sample.parts, tuple)
    assert size_of(clip) > SPOOLED_BYTES


def test_parts_in_a_file_are_the_same_as_in_memory(tmp_path, noisy, spooling):
    entry = noisy(100)
    spooled, in_memory = (prepare_clip(entry, 0, SMALL, spool_folder=folder) for folder in (tmp_path, None))
    assert isinstance(spooled.sample.parts, LazyParts)
    assert spooled.sample.parts == in_memory.sample.parts
    assert in_memory.sample.parts == spooled.sample.parts
    assert spooled.sample.parts[2:4] == in_memory.sample.parts[2:4]
    assert spooled.sample.parts != in_memory.sample.parts[1:]
    for name, clip in (("a.tar", spooled), ("b.tar", in_memory)):
        append(tmp_path / name, clip)
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()


def test_a_clip_that_turns_out_broken_leaves_no_file(tmp_path, noisy, spooling):
    broken = tmp_path / "broken.mp4"
    data = noisy(100).path.read_bytes()
    broken.write_bytes(data[: len(data) * 3 // 4])
    spool = tmp_path / "spool"
    spool.mkdir()
    with pytest.raises(BrokenClipError):
        prepare_clip(ClipEntry("run/broken", broken, "run"), 0, SMALL, spool_folder=spool)
    assert list(spool.iterdir()) == []


def test_a_disk_without_room_does_not_set_a_clip_aside(tmp_path, noisy, spooling):
    with pytest.raises(UserError, match=r"nowhere.*: cannot be written") as raised:
        prepare_clip(noisy(100), 0, SMALL, spool_folder=tmp_path / "nowhere")
    assert not isinstance(raised.value, BrokenClipError)


def test_a_long_clip_is_packed_by_workers_and_read_anywhere(tmp_path, write_video):
    """Frames of noise, large enough that their parts wait in a file at the usual limit."""
    random = np.random.default_rng(1)
    path = write_video(
        tmp_path / "videos" / "run" / "a.mp4",
        (random.integers(0, 256, (320, 400, 3), np.uint8) for _ in range(300)),
        options={"crf": "20", "preset": "ultrafast"},
    )
    entry = ClipEntry("run/a", path, "run")
    config = PackConfig(height=320, quality=95, workers=1)
    alone = prepare_clip(entry, 0, config)
    assert size_of(alone) > part_spool.IN_MEMORY_BYTES
    assert len(alone.sample.parts) == 2
    pack(Listing("d", "1", "all", ("run",), (entry,)), tmp_path / "out", config)
    assert not (tmp_path / ".out.packing").exists()
    with GrowingShard(tmp_path / "alone") as shard:
        shard.append(0, alone.sample.components())
        shard.finish(tmp_path / "alone.tar")
    assert (tmp_path / "out" / "shard-000000.tar").read_bytes() == (tmp_path / "alone.tar").read_bytes()
    dataset = ShardDataset.open(tmp_path / "out")
    whole = dataset[0].frames
    for start in (0, 120, 196, 284):
        frames = np.arange(start, start + 16)
        np.testing.assert_array_equal(dataset.decode(0, dataset.read_clip(0, frames)), whole[frames])


@pytest.mark.parametrize(
    ("codec", "sha256"),
    [
        ("filmstrip", "979cb458d3cab11727ea86c8069b625f47b491d2083aa067c4f713395e56e5c8"),
        ("h264", "fe35dfcf85b68c9f82b6d23329ee7215b8592728e304772cdf851589b72f90c8"),
    ],
)
def test_the_bytes_of_real_shards_are_those_of_earlier_versions(real_data, tmp_path, codec, sha256):
    if versions() != {"av": "18.1.0", "numpy": "2.4.6", "pillow": "13.0.0"}:
        pytest.skip("other versions of the libraries give other bytes")
    listing = real_listing(real_data / "jhmdb/videos", real_data / "labels", every=60)
    config = replace(CONFIG, height=64, codec=codec)
    pack(listing, tmp_path / "out", config, annotators=mask_files(real_data / "jhmdb/masks", listing))
    shards = [digest for name, digest in sorted(content(tmp_path / "out").items()) if name.endswith(".tar")]
    assert hashlib.sha256("".join(shards).encode()).hexdigest() == sha256
