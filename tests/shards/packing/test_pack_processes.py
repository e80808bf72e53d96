"""Packing by any number of processes, stopped anywhere: the same bytes."""

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shards.codecs.filmstrip import decode_strip, encode_strips
from shards.dataset import ShardDataset
from shards.decoding.video import open_video
from shards.errors import UserError
from shards.packing.clip_preparation import PackConfig
from shards.packing.pack import REPORT_NAME, pack
from shards.packing.request import Annotators
from shards.sources import ClipEntry, Listing
from tests.shards.packing.packs import (
    CONFIG,
    BatchMean,
    Progress,
    StopHereError,
    ThreadShare,
    content,
    listing_of,
    mask_files,
    pack_as_processes,
)


def test_the_bytes_do_not_depend_on_the_number_of_workers(tmp_path, videos, masks):
    listing = listing_of(videos)
    folders = {}
    for workers in (1, 2):
        out = tmp_path / f"out{workers}"
        config = PackConfig(height=32, samples_per_shard=3, workers=workers)
        pack(listing, out, config, annotators=mask_files(masks, listing))
        folders[workers] = content(out)
    assert folders[1] == folders[2]
    assert {"shard-000000.tar", "shard-000001.tar", "manifest.json", REPORT_NAME} <= folders[1].keys()
    assert {path.name for path in tmp_path.iterdir()} == {"masks", "out1", "out2"}


@pytest.mark.parametrize("world_size", [2, 5])
def test_the_bytes_do_not_depend_on_the_number_of_processes(tmp_path, videos, masks, world_size):
    listing = listing_of(videos)
    options = {"annotators": mask_files(masks, listing)}
    (report,) = pack_as_processes(1, listing, tmp_path / "one", CONFIG, **options)
    reports = pack_as_processes(world_size, listing, tmp_path / "several", CONFIG, **options)
    assert content(tmp_path / "several") == content(tmp_path / "one")
    assert reports == [report, *[None] * (world_size - 1)]
    assert pack_as_processes(world_size, listing, tmp_path / "several", CONFIG, **options) == [None] * world_size


@pytest.mark.parametrize("samples_per_shard", [1, 3])
def test_a_process_may_have_broken_clips_only(tmp_path, videos, samples_per_shard):
    listing = listing_of(videos)
    config = replace(CONFIG, samples_per_shard=samples_per_shard)
    pack_as_processes(7, listing, tmp_path / "several", config)
    pack(listing, tmp_path / "one", config)
    assert content(tmp_path / "several") == content(tmp_path / "one")
    assert len(ShardDataset.open(tmp_path / "one")) == 6


@pytest.mark.parametrize("world_size", [1, 4])
def test_shards_are_numbered_without_gaps(tmp_path, with_broken_ones, world_size):
    config = replace(CONFIG, samples_per_shard=1)
    pack_as_processes(world_size, with_broken_ones, tmp_path / "out", config)
    dataset = ShardDataset.open(tmp_path / "out")
    expected = [f"shard-{number:06d}.tar" for number in range(6)]
    assert [record.name for record in dataset.manifest.shards] == expected
    assert sorted(path.name for path in (tmp_path / "out").glob("*.tar")) == expected
    for suffix in (".idx", ".index.npz"):
        there = sorted(path.name for path in (tmp_path / "out").glob(f"*{suffix}"))
        assert there == [name.replace(".tar", suffix) for name in expected]
    assert list(dataset.verify()) == []
    assert len(dataset) == 6


def test_a_pack_that_is_stopped_while_it_numbers_the_shards_goes_on_and_makes_none_again(
    tmp_path, with_broken_ones, monkeypatch
):
    config = replace(CONFIG, samples_per_shard=1)
    pack(with_broken_ones, tmp_path / "undisturbed", config)
    rename = Path.rename
    renamed: list[Path] = []

    def stopping(path: Path, target: Path) -> Path:
        renamed.append(path)
        if len(renamed) > most:
            raise StopHereError
        return rename(path, target)

    stops = most = 0
    first = Progress()
    while not (tmp_path / "out").exists():
        renamed.clear()
        progress = Progress() if stops else first
        with monkeypatch.context() as patch:
            patch.setattr(Path, "rename", stopping)
            try:
                pack(with_broken_ones, tmp_path / "out", config, progress=progress)
            except StopHereError:
                stops += 1
        assert stops <= 1 or progress.calls == [12]  # nothing is decoded again
        most += 1
    assert stops > 9
    assert content(tmp_path / "out") == content(tmp_path / "undisturbed")


def test_a_damaged_work_folder_is_refused_or_dropped(tmp_path, many_clips):
    config = PackConfig(height=16, samples_per_shard=30, workers=1)
    pack(many_clips, tmp_path / "fresh", config)
    work = tmp_path / ".out.packing"
    for name, data in (
        ("request.json", b""),
        ("request.json", b"\xff\xfe"),
        ("journals/shard-000000.tar.journal", b"null\n"),
        ("dataset/shard-000000.idx", b""),
        ("dataset/shard-000000.index.npz", b""),
    ):
        with pytest.raises(StopHereError):
            pack(many_clips, tmp_path / "out", config, progress=Progress(stop_after=4), overwrite=True)
        assert (work / name).is_file()
        (work / name).write_bytes(data)
        if name == "request.json":
            with pytest.raises(UserError, match=r"holds an unfinished pack .*--overwrite"):
                pack(many_clips, tmp_path / "out", config)
        pack(many_clips, tmp_path / "out", config, overwrite=True)
        assert content(tmp_path / "out") == content(tmp_path / "fresh")
        shutil.rmtree(tmp_path / "out")


def test_a_process_that_does_not_see_the_folder_says_so(tmp_path, videos):
    share = ThreadShare(rank=1, world_size=2)
    with pytest.raises(UserError, match=r"process 1 does not see .*\.out\.packing; give a shared folder"):
        pack(listing_of(videos), tmp_path / "out", CONFIG, share=share)


@pytest.mark.parametrize("world_size", [1, 2])
def test_a_pack_that_is_stopped_anywhere_goes_on_to_the_same_bytes(tmp_path, many_clips, world_size):
    config = PackConfig(height=16, samples_per_shard=50, workers=1)
    annotators = Annotators(mask_network=BatchMean(), scene_network=BatchMean())
    pack(many_clips, tmp_path / "undisturbed", config, annotators=annotators)
    seen = []
    for _ in range(5):
        progress = Progress(stop_after=1)
        with pytest.raises(StopHereError):
            pack(many_clips, tmp_path / "stopped", config, annotators=annotators, progress=progress)
        seen += progress.calls
    assert seen == [0, 16, 16, 32, 32, 48, 48, 50, 50, 66]
    pack_as_processes(world_size, many_clips, tmp_path / "stopped", config, annotators=annotators)
    assert content(tmp_path / "stopped") == content(tmp_path / "undisturbed")
    assert {path.name for path in tmp_path.iterdir()} == {"stopped", "undisturbed"}
    dataset = ShardDataset.open(tmp_path / "stopped")
    assert list(dataset.verify()) == []
    assert [shard.samples for shard in dataset.manifest.shards] in ([49, 21], [50, 20])
    assert dataset.mask_count == dataset.scene_count == 70


@pytest.fixture(scope="module")
def segments(tmp_path_factory, write_video) -> Listing:
    """Forty overlapping segments of one video with B-frames, and of a second one."""
    root = tmp_path_factory.mktemp("segments")
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    frames_NHWC = np.stack([np.roll(noise, (n // 16, 4 * n), axis=(0, 1)) for n in range(100)])
    options = {"crf": "18", "preset": "ultrafast", "g": "12", "bf": "3"}
    clips = []
    for video in ("x.mp4", "y.mkv"):
        path = write_video(root / video, frames_NHWC, pixel_format="yuv420p", options=options)
        clips += [ClipEntry(f"a/{path.stem}{start}", path, "a", start, start + 9) for start in range(0, 91, 5)]
    return Listing("d", "1", "all", ("a",), tuple(clips))


def test_segments_of_a_video_are_the_frames_that_a_decode_from_its_start_gives(tmp_path, segments):
    pack(segments, tmp_path / "out", replace(CONFIG, samples_per_shard=7))
    dataset = ShardDataset.open(tmp_path / "out")
    entries = {entry.name: entry for entry in segments.clips}
    for i in range(len(dataset)):
        entry = entries.pop(dataset.info(i).name)
        with open_video(entry.path) as video:
            original = np.stack([frame.rgb(32) for frame in video.frames()])[entry.start_frame : entry.end_frame]
        (strip,) = encode_strips(original, CONFIG.quality)
        assert np.array_equal(dataset[i].frames, decode_strip(strip, 32))
        assert dataset.info(i).source_sha256 == hashlib.sha256(entry.path.read_bytes()).hexdigest()
    assert not entries
    assert_nothing_left_but(tmp_path, {"out"})


def assert_nothing_left_but(folder: Path, names: set[str]) -> None:
    assert {path.name for path in folder.iterdir()} == names


def test_the_bytes_of_segments_depend_on_no_process_nor_interruption(tmp_path, segments):
    config = replace(CONFIG, samples_per_shard=20)
    pack(segments, tmp_path / "plain", config)
    pack(segments, tmp_path / "workers", replace(config, workers=2))
    pack_as_processes(2, segments, tmp_path / "processes", config)
    for stop_after in (1, 1):
        with pytest.raises(StopHereError):
            pack(segments, tmp_path / "resumed", config, progress=Progress(stop_after))
    assert list((tmp_path / ".resumed.packing" / "surveys").glob("*.json"))
    pack(segments, tmp_path / "resumed", config)
    assert_nothing_left_but(tmp_path, {"plain", "workers", "processes", "resumed"})
    for name in ("workers", "processes", "resumed"):
        assert content(tmp_path / name) == content(tmp_path / "plain"), name
