import errno
import hashlib
import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scenebias.annotators import JhmdbMasks, SceneFile, open_mask_source
from shards.codecs.filmstrip import decode_strip, encode_strips
from shards.codecs.masks import unpack_masks
from shards.dataset import ShardDataset
from shards.errors import UserError
from shards.format.sample import SCENE_COUNT
from shards.packing import source_files
from shards.packing.clip_preparation import PackConfig
from shards.packing.pack import REPORT_NAME, pack
from shards.packing.request import Annotators
from shards.packing.video import open_video
from shards.sources import ClipEntry, FolderSource, JhmdbSource, Listing
from shards.sources.listing import MissingClip
from shards.system.checksums import sha256_of

CONFIG = PackConfig(height=32, samples_per_shard=3, workers=1)
CONFIG_16 = PackConfig(height=32, samples_per_shard=100, workers=1)


@pytest.fixture(scope="module")
def videos(tmp_path_factory, write_video) -> Path:
    """Six whole clips of two classes, and one broken clip."""
    root = tmp_path_factory.mktemp("videos")
    random = np.random.default_rng(0)
    for number in range(6):
        coarse = random.integers(0, 256, (4 + number, 6, 8, 3), dtype=np.uint8)
        frames_NHWC = coarse.repeat(8, axis=1).repeat(8, axis=2)
        write_video(root / ("run", "jump")[number % 2] / f"clip{number}.mp4", frames_NHWC)
    (root / "jump" / "bad.mp4").write_bytes(b"nothing")
    return root


@pytest.fixture
def masks(videos, tmp_path) -> Path:
    """Masks of all clips but one: the left half, and nobody in the first frame."""
    folder = tmp_path / "masks"
    for entry in listing_of(videos).clips:
        number = int(entry.path.stem.removeprefix("clip").replace("bad", "0"))
        mask_NHW = np.zeros((4 + number, 48, 64), bool)
        mask_NHW[1:, :, :32] = True
        if number != 5:
            (folder / entry.class_name).mkdir(parents=True, exist_ok=True)
            np.savez(folder / f"{entry.name}.npz", masks=mask_NHW)
    return folder


def listing_of(videos: Path) -> Listing:
    """With a third class; that it is without any clip is no mistake."""
    return replace(FolderSource(root=videos).listing(), classes=("jump", "none", "run"), may_lack_classes=True)


def mask_files(folder: Path, listing: Listing) -> Annotators:
    return Annotators(mask_source=open_mask_source(folder, listing.clips))


class StopHereError(Exception):
    pass


class Progress:
    """Notes how many clips were done, and stops the pack after so many groups of it."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.calls: list[int] = []
        self._stop_after = stop_after

    def begin(self, done: int, total: int) -> None:
        assert done <= total
        self.calls.append(done)

    def update(self, done: int) -> None:
        self.calls.append(done)
        if len(self.calls) - 1 == self._stop_after:
            raise StopHereError


def content(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def assert_nothing_left(tmp_path: Path) -> None:
    assert [path.name for path in tmp_path.iterdir() if path.name != "masks"] == []


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


def test_what_is_stored_is_what_was_decoded(tmp_path, videos, masks):
    listing = listing_of(videos)
    report = pack(listing, tmp_path / "out", CONFIG, annotators=mask_files(masks, listing))
    assert report is not None
    assert list(report.broken) == ["jump/bad"]
    assert report.without_masks == ("jump/clip5",)
    counts = {name: (c.wanted, c.packed, c.missing, c.broken) for name, c in report.counts().items()}
    assert counts == {"jump": (4, 3, 0, 1), "none": (0, 0, 0, 0), "run": (3, 3, 0, 0)}

    dataset = ShardDataset.open(tmp_path / "out")
    assert list(dataset.verify()) == []
    assert [clip.name for clip in dataset.manifest.broken] == ["jump/bad"]
    assert dataset.manifest.class_counts == (3, 0, 3)
    assert sum(shard.masks for shard in dataset.manifest.shards) == 5
    for shard in dataset.manifest.shards:
        data = (tmp_path / "out" / shard.name).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (shard.bytes, shard.sha256)
    entries = {entry.name: entry for entry in listing.clips}
    for i in range(len(dataset)):
        info = dataset.info(i)
        entry = entries.pop(info.name)
        assert listing.classes[dataset.labels[i]] == entry.class_name
        assert info.source_sha256 == hashlib.sha256(entry.path.read_bytes()).hexdigest()
        assert info.fps == 25
        clip = dataset.read_clip(i, np.arange(info.frame_count))
        with open_video(entry.path) as video:
            original = np.stack([frame.rgb(32) for frame in video.frames()])
        (strip,) = encode_strips(original, CONFIG.quality)
        assert np.array_equal(dataset.decode(i, clip), decode_strip(strip, 32))
        if info.name == "jump/clip5":
            assert clip.masks is None
            continue
        mask_THW = unpack_masks(clip.masks, info.mask_width)
        assert mask_THW.shape[1:] == (16, round(info.width / 2))
        assert not mask_THW[0].any()
        assert mask_THW[1:, :, :10].all()
        assert not mask_THW[:, :, 12:].any()
        assert info.person_share == (info.frame_count - 1) / info.frame_count
    assert list(entries) == ["jump/bad"]


def test_the_seed_decides_the_order(tmp_path, videos):
    listing = listing_of(videos)
    names = []
    for seed in (0, 1):
        pack(listing, tmp_path / f"{seed}", PackConfig(height=32, workers=1, seed=seed))
        dataset = ShardDataset.open(tmp_path / f"{seed}")
        names.append([dataset.info(i).name for i in range(len(dataset))])
    assert names[0] != names[1]
    assert sorted(names[0]) == sorted(names[1])
    assert names[0] != sorted(names[0])


def test_a_second_run_returns_at_once_and_other_content_is_kept(tmp_path, videos):
    listing = listing_of(videos)
    out = tmp_path / "out"
    assert pack(listing, out, CONFIG) is not None
    before = content(out)
    assert pack(listing, out, PackConfig(height=32, samples_per_shard=3, workers=2)) is None
    with pytest.raises(UserError, match=r"holds another data set, .*--overwrite"):
        pack(listing, out, PackConfig(height=48, workers=1))
    assert content(out) == before
    assert pack(listing, out, PackConfig(height=48, workers=1), overwrite=True) is not None
    assert ShardDataset.open(out).manifest.frame_height == 48
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_failed_overwrite_keeps_the_old_data_set(tmp_path, videos):
    listing = listing_of(videos)
    pack(listing, tmp_path / "out", CONFIG)
    before = content(tmp_path / "out")
    with pytest.raises(UserError, match="--strict"):
        pack(listing, tmp_path / "out", PackConfig(height=48, workers=1), overwrite=True, strict=True)
    assert content(tmp_path / "out") == before


def test_foreign_files_are_never_removed(tmp_path, videos):
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.tex").write_text("precious")
    with pytest.raises(UserError, match="holds other files"):
        pack(listing_of(videos), out, CONFIG, overwrite=True)
    assert content(out).keys() == {"thesis.tex"}


@pytest.mark.parametrize("shape", [(9, 48, 64), (3, 48, 64), (5, 64, 48), (5, 32, 42)])
def test_a_clip_whose_masks_misfit_is_set_aside_and_named(tmp_path, videos, masks, shape):
    np.savez(masks / "jump" / "clip1.npz", masks=np.ones(shape, bool))
    listing = listing_of(videos)
    sentence = r"clip1\.npz: masks of shape .* for 5 frames of 48x64"
    report = pack(listing, tmp_path / "out", CONFIG, annotators=mask_files(masks, listing))
    assert report.broken.keys() == {"jump/bad", "jump/clip1"}
    assert re.search(sentence, report.broken["jump/clip1"])
    only = replace(listing, clips=tuple(entry for entry in listing.clips if entry.name == "jump/clip1"))
    with pytest.raises(UserError, match=f"--strict: broken: .*{sentence}"):
        pack(only, tmp_path / "strict", CONFIG, annotators=mask_files(masks, listing), strict=True)


def test_a_mistake_that_breaks_every_clip_stops_the_pack_at_once(tmp_path, videos):
    entry = ClipEntry("jump/bad", videos / "jump" / "bad.mp4", "jump")
    clips = tuple(replace(entry, name=f"jump/bad{number}") for number in range(40))
    seen = Progress()
    with pytest.raises(UserError, match=r"none of the first 16 clips could be packed: jump/bad\d+ \("):
        pack(Listing("d", "1", "all", ("jump",), clips), tmp_path / "deep" / "out", CONFIG_16, progress=seen)
    assert seen.calls == [0]
    assert_nothing_left(tmp_path)


def test_strict_makes_missing_and_broken_clips_errors(tmp_path, videos):
    listing = listing_of(videos)
    with pytest.raises(UserError, match="--strict: broken: jump/bad"):
        pack(listing, tmp_path / "broken", CONFIG, strict=True)
    assert not (tmp_path / "broken").exists()
    gone = MissingClip("run/gone", videos / "run" / "gone.mp4", "run")
    listing = Listing("d", "1", "all", ("run",), tuple(e for e in listing.clips if e.class_name == "run"), (gone,))
    with pytest.raises(UserError, match=r"--strict: missing: .*gone\.mp4"):
        pack(listing, tmp_path / "out", CONFIG, strict=True)
    assert not list(tmp_path.glob("*out*"))
    report = pack(listing, tmp_path / "out", CONFIG)
    assert report is not None
    assert [clip.name for clip in ShardDataset.open(tmp_path / "out").manifest.missing] == ["run/gone"]


def test_strict_refuses_clips_without_masks(tmp_path, videos, masks):
    listing = listing_of(videos)
    with pytest.raises(UserError, match=r"--strict: without masks: jump/clip5; .*--masks none"):
        pack(listing, tmp_path / "out", CONFIG, annotators=mask_files(masks, listing), strict=True)
    assert_nothing_left(tmp_path)


def write_scenes(path: Path, names: list[str]) -> SceneFile:
    np.savez(path, clips=np.array(names), probs=np.full((len(names), SCENE_COUNT), 1 / SCENE_COUNT))
    return SceneFile(path)


def test_clips_without_a_scene_label_are_packed_and_reported(tmp_path, videos):
    listing = listing_of(videos)
    names = [entry.name for entry in listing.clips if entry.name not in ("jump/bad", "run/clip2")]
    annotators = Annotators(scene_source=write_scenes(tmp_path / "some.npz", names))
    report = pack(listing, tmp_path / "out", CONFIG, annotators=annotators)
    assert list(report.broken) == ["jump/bad"]
    assert report.without_scenes == ("run/clip2",)
    assert ShardDataset.open(tmp_path / "out").scene_count == 5
    assert json.loads((tmp_path / "out" / REPORT_NAME).read_bytes())["without_scenes"] == ["run/clip2"]
    whole = replace(listing, clips=tuple(entry for entry in listing.clips if entry.name != "jump/bad"))
    with pytest.raises(UserError, match=r"--strict: without a scene label: run/clip2; .*--scenes none"):
        pack(whole, tmp_path / "strict", CONFIG, annotators=annotators, strict=True)


def test_a_link_to_a_folder_stays_a_link(tmp_path, videos):
    listing = listing_of(videos)
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to("disk")
    for height in (32, 48):
        pack(listing, tmp_path / "out", PackConfig(height=height, workers=1), overwrite=True)
        assert (tmp_path / "out").readlink() == Path("disk")
        assert ShardDataset.open(tmp_path / "disk").manifest.frame_height == height
    assert {path.name for path in tmp_path.iterdir()} == {"disk", "out"}


def test_places_that_cannot_be_replaced_are_refused_before_packing(tmp_path, videos, monkeypatch):
    listing = listing_of(videos)
    monkeypatch.chdir(tmp_path)
    Path("out").symlink_to("nowhere")
    for out, sentence in ((Path("out"), "a link to nothing; make nowhere"), (Path(), "the current folder")):
        with pytest.raises(UserError, match=sentence):
            pack(listing, out, CONFIG)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_pack_without_any_whole_clip_is_an_error_and_leaves_nothing(tmp_path, videos):
    bad = ClipEntry("jump/bad", videos / "jump" / "bad.mp4", "jump")
    with pytest.raises(UserError, match=r"none of the first 1 clips could be packed: jump/bad \("):
        pack(Listing("d", "1", "all", ("jump",), (bad,)), tmp_path / "out", CONFIG)
    with pytest.raises(UserError, match=r"none of its videos is there, for example .*bad\.mp4; check --root"):
        pack(Listing("d", "1", "all", ("jump",), (), (bad,)), tmp_path / "out", CONFIG)
    with pytest.raises(UserError, match="none of its videos is there; check --root"):
        pack(Listing("d", "1", "all", ("jump",), ()), tmp_path / "out", CONFIG)
    assert_nothing_left(tmp_path)


def test_clips_may_be_ranges_of_one_video(tmp_path, videos):
    path = videos / "run" / "clip4.mp4"
    clips = (ClipEntry("run/first", path, "run", 0, 3), ClipEntry("run/rest", path, "run", 3))
    pack(Listing("d", "1", "all", ("run",), clips), tmp_path / "out", CONFIG)
    dataset = ShardDataset.open(tmp_path / "out")
    assert {dataset.info(i).name: dataset.info(i).frame_count for i in range(2)} == {"run/first": 3, "run/rest": 5}


@dataclass(frozen=True)
class ThreadShare:
    """The part of one thread among several."""

    rank: int
    world_size: int
    wait_for_all: Callable[[], object] = lambda: None
    from_main: Callable[[int], int] = lambda value: value
    local_world_size: int = 1


def pack_as_processes(world_size: int, *arguments, **options) -> list:
    """Pack in ``world_size`` threads, which stand for processes; returns what each of them gave."""
    barrier = threading.Barrier(world_size)
    values: list[int] = []

    def from_main(value: int) -> int:
        values.append(value)
        barrier.wait()
        return any(values)

    shares = [ThreadShare(rank, world_size, barrier.wait, from_main) for rank in range(world_size)]
    with ThreadPoolExecutor(world_size) as threads:
        return list(threads.map(lambda share: pack(*arguments, share=share, **options), shares))


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


@pytest.fixture
def with_broken_ones(videos) -> Listing:
    """Six whole clips and six broken ones: in shards of one clip, half of them would be empty."""
    whole = [entry for entry in listing_of(videos).clips if entry.name != "jump/bad"]
    broken = [ClipEntry(f"jump/bad{k}", videos / "jump" / "bad.mp4", "jump") for k in range(6)]
    return Listing("d", "1", "all", ("jump", "run"), (*whole, *broken))


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


def test_a_data_set_that_lacks_a_shard_or_is_damaged_is_not_called_complete(tmp_path, videos):
    listing, out = listing_of(videos), tmp_path / "out"
    for damage in ("shard-000001.tar", "samples.npy", "manifest.json"):
        pack(listing, out, CONFIG, overwrite=True)
        whole = content(out)
        assert pack(listing, out, CONFIG) is None
        (out / damage).write_bytes(b"{")
        with pytest.raises(UserError, match="or a damaged one"):
            pack(listing, out, CONFIG)
        assert pack(listing, out, CONFIG, overwrite=True) is not None
        assert content(out) == whole


def test_strict_refuses_an_empty_class_unless_the_lists_have_none_of_it(tmp_path, videos):
    clips = tuple(entry for entry in listing_of(videos).clips if entry.name != "jump/bad")
    listing = replace(listing_of(videos), clips=clips)
    with pytest.raises(UserError, match="--strict: classes without any clip: none; "):
        pack(replace(listing, may_lack_classes=False), tmp_path / "out", CONFIG, strict=True)
    assert pack(listing, tmp_path / "out", CONFIG, strict=True) is not None


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


def test_strict_refuses_a_data_set_that_was_packed_without(tmp_path, videos):
    listing = listing_of(videos)
    pack(listing, tmp_path / "out", CONFIG)
    with pytest.raises(UserError, match="--strict: broken: jump/bad"):
        pack(listing, tmp_path / "out", CONFIG, strict=True)


def test_masks_that_are_exchanged_are_noticed(tmp_path, videos, masks):
    listing = listing_of(videos)
    pack(listing, tmp_path / "out", CONFIG, annotators=mask_files(masks, listing))
    one, other = masks / "jump" / "clip1.npz", masks / "jump" / "clip3.npz"
    one.rename(masks / "aside")
    other.rename(one)
    (masks / "aside").rename(other)
    with pytest.raises(UserError, match="annotations have changed since"):
        pack(listing, tmp_path / "out", CONFIG, annotators=mask_files(masks, listing))


def test_input_that_changes_while_packing_is_noticed_and_taken_up(tmp_path, videos, masks):
    listing = listing_of(videos)

    class Change(Progress):
        def update(self, done: int) -> None:
            np.savez(masks / "jump" / "clip1.npz", masks=np.zeros((5, 48, 64), bool))

    annotators = mask_files(masks, listing)
    with pytest.raises(UserError, match="have changed meanwhile; give the same command again"):
        pack(listing, tmp_path / "out", CONFIG, annotators=annotators, progress=Change())
    pack(listing, tmp_path / "out", CONFIG, annotators=annotators)
    pack(listing, tmp_path / "fresh", CONFIG, annotators=annotators)
    assert content(tmp_path / "out") == content(tmp_path / "fresh")


def test_a_process_that_does_not_see_the_folder_says_so(tmp_path, videos):
    share = ThreadShare(rank=1, world_size=2)
    with pytest.raises(UserError, match=r"process 1 does not see .*\.out\.packing; give a shared folder"):
        pack(listing_of(videos), tmp_path / "out", CONFIG, share=share)


class BatchMean:
    """A network whose answers depend on all frames of a batch, as rounding makes them depend on it in real ones."""

    every = 2

    def settings(self) -> dict:
        return {"network": "batch mean"}

    def masks(self, frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        frames = iter(frames)
        while batch := list(islice(frames, 16)):
            threshold = np.mean([frame.mean() for frame in batch])
            yield from (frame[..., 0] > threshold for frame in batch)

    def probabilities(self, frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        for frame in frames:
            yield np.eye(SCENE_COUNT, dtype=np.float32)[int(frame.mean())]


@pytest.fixture(scope="module")
def many_clips(videos) -> Listing:
    """70 ranges of frames of six videos, and a broken one: five groups in one shard of 50 and one of 21."""
    whole = [entry for entry in listing_of(videos).clips if entry.name != "jump/bad"]
    clips = [replace(whole[k % 6], name=f"{whole[k % 6].name}_{k}", start_frame=k % 4) for k in range(70)]
    bad = ClipEntry("jump/bad", videos / "jump" / "bad.mp4", "jump")
    return Listing("d", "1", "all", ("jump", "run"), (*clips, bad))


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


def test_a_shard_whose_input_has_changed_is_made_again_and_no_other(tmp_path, videos, many_clips):
    root = tmp_path / "videos"
    shutil.copytree(videos, root)
    clips = tuple(replace(e, path=root / e.path.relative_to(videos)) for e in many_clips.clips)
    listing = replace(many_clips, clips=clips)
    config = PackConfig(height=16, samples_per_shard=10, workers=1)
    with pytest.raises(StopHereError):
        pack(listing, tmp_path / "out", config, progress=Progress(stop_after=6))
    done = {path.name: path.stat().st_ino for path in (tmp_path / ".out.packing" / "dataset").glob("*.tar")}
    assert len(done) == 5  # the sixth is whole, but not finished
    (root / "jump" / "bad.mp4").write_bytes((root / "jump" / "clip1.mp4").read_bytes())
    report = pack(listing, tmp_path / "out", config)
    assert not report.broken
    shards = {path.name: path.stat().st_ino for path in (tmp_path / "out").glob("*.tar")}
    assert sum(shards[name] != done[name] for name in done) <= 1
    pack(listing, tmp_path / "fresh", config)
    assert content(tmp_path / "out") == content(tmp_path / "fresh")


def test_masks_made_anew_are_noticed_even_where_their_size_is_the_same(tmp_path, videos, masks):
    listing = listing_of(videos)
    assert pack(listing, tmp_path / "out", CONFIG, annotators=mask_files(masks, listing)) is not None
    assert pack(listing, tmp_path / "out", CONFIG, annotators=mask_files(masks, listing)) is None
    np.savez(masks / "jump" / "clip1.npz", masks=np.zeros((5, 48, 64), bool))
    with pytest.raises(UserError, match="holds another data set"):
        pack(listing, tmp_path / "out", CONFIG, annotators=mask_files(masks, listing))


@pytest.fixture
def own_input(tmp_path, videos, masks) -> tuple[Path, Callable[[Path], tuple[Listing, Annotators]]]:
    """Videos, masks and scene labels of the test, and what to pack of such a folder."""
    root = tmp_path / "input"
    shutil.copytree(videos, root / "videos")
    shutil.copytree(masks, root / "masks")
    write_scenes(root / "scenes.npz", [entry.name for entry in listing_of(videos).clips])

    def input_in(folder: Path) -> tuple[Listing, Annotators]:
        listing = listing_of(folder / "videos")
        source = open_mask_source(folder / "masks", listing.clips)
        return listing, Annotators(mask_source=source, scene_source=SceneFile(folder / "scenes.npz"))

    return root, input_in


def is_known_again(folder: Path, out: Path, input_in: Callable[[Path], tuple[Listing, Annotators]]) -> bool:
    """Whether a pack of the folder finds that ``out`` holds its data set."""
    listing, annotators = input_in(folder)
    before = content(out)
    again = pack(listing, out, CONFIG, annotators=annotators, overwrite=True) is None
    assert not again or content(out) == before
    return again


def test_a_finished_pack_is_known_again_by_the_content_of_its_files_whatever_clocks_say(tmp_path, own_input):
    root, input_in = own_input
    out, files = tmp_path / "out", sorted(path for path in root.rglob("*") if path.is_file())
    for path in files:
        os.utime(path, (2e9, 2e9))  # in the future, by the clock of another machine
    listing, annotators = input_in(root)
    pack(listing, out, CONFIG, annotators=annotators)
    assert is_known_again(root, out, input_in)
    for path in files:
        path.chmod(0o400)
        os.utime(path, (1e9, 1e9))
    assert is_known_again(root, out, input_in)
    copied = Path(shutil.copytree(root, tmp_path / "copied", copy_function=shutil.copyfile))
    assert is_known_again(copied, Path(shutil.copytree(out, tmp_path / "elsewhere")), input_in)


def change(path: Path) -> None:
    """Give a file another content of the same size."""
    size = path.stat().st_size
    if path.suffix == ".npz":
        arrays = dict(np.load(path))
        if "masks" in arrays:
            arrays["masks"] = ~arrays["masks"]
        else:
            arrays["probs"] = np.eye(SCENE_COUNT)[: len(arrays["probs"])]
        np.savez(path, **arrays)
    else:
        path.write_bytes(path.read_bytes()[:-1] + b"!")
    assert path.stat().st_size == size


@pytest.mark.parametrize("name", ["videos/run/clip2.mp4", "videos/jump/bad.mp4", "masks/jump/clip1.npz", "scenes.npz"])
@pytest.mark.parametrize("recorded", [True, False])
def test_a_file_of_another_content_makes_another_data_set(tmp_path, own_input, name, recorded):
    """An earlier version has recorded nothing but the videos of the clips that it packed."""
    root, input_in = own_input
    listing, annotators = input_in(root)
    pack(listing, tmp_path / "out", CONFIG, annotators=annotators)
    if not recorded:
        (tmp_path / "out" / "inputs.npy").unlink()
        assert is_known_again(root, tmp_path / "out", input_in)
    change(root / name)
    assert is_known_again(root, tmp_path / "out", input_in) == (not recorded and "clip2" not in name)


def test_only_files_with_other_times_are_read_to_know_a_pack_again(tmp_path, own_input, monkeypatch):
    root, input_in = own_input
    listing, annotators = input_in(root)
    pack(listing, tmp_path / "out", CONFIG, annotators=annotators)
    read = []
    monkeypatch.setattr(source_files, "sha256_of", lambda path: read.append(path) or sha256_of(path))
    assert is_known_again(root, tmp_path / "out", input_in)
    assert read == []
    touched = [root / "videos" / "run" / "clip2.mp4", root / "scenes.npz"]
    for path in touched:
        os.utime(path, (1e9, 1e9))
    assert is_known_again(root, tmp_path / "out", input_in)
    assert read == touched


def test_a_pack_of_touched_files_differs_in_what_it_says_of_their_times_alone(tmp_path, own_input):
    root, input_in = own_input
    folders = []
    for name in ("before", "after"):
        listing, annotators = input_in(root)
        pack(listing, tmp_path / name, CONFIG, annotators=annotators)
        folders.append(content(tmp_path / name))
        for path in root.rglob("*"):
            os.utime(path, (1e9, 1e9))
    assert {name for name in folders[0] if folders[0][name] != folders[1].get(name)} == {"inputs.npy"}


def test_where_a_path_starts_from_decides_nothing(tmp_path, videos, monkeypatch):
    """As in a list of relative and absolute paths that is itself given relatively."""
    listing, written = listing_of(videos), {}
    monkeypatch.chdir(videos.parent)
    for name, relative in (("all", set()), ("some", {"jump/bad", "run/clip2"}), ("none", {*map(str, listing.classes)})):
        clips = tuple(
            replace(entry, path=entry.path.relative_to(videos.parent))
            if entry.name in relative or entry.class_name in relative
            else entry
            for entry in listing.clips
        )
        assert pack(replace(listing, clips=clips), tmp_path / name, CONFIG) is not None
        assert pack(replace(listing, clips=clips), tmp_path / name, CONFIG) is None
        written[name] = content(tmp_path / name)
    assert written["all"] == written["some"] == written["none"]
    assert json.loads((tmp_path / "some" / REPORT_NAME).read_bytes())["broken"]["jump/bad"]["file"] == "jump/bad.mp4"


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            OSError(errno.EACCES, "Permission denied", "/elsewhere/a.npz"),
            r"^/elsewhere/a\.npz: Permission denied; mend",
        ),
        (OSError(errno.EAGAIN, "Resource temporarily unavailable"), r"^Resource temporarily unavailable; mend that"),
        (OSError(errno.ENOSPC, "No space left on device"), r"^--out .*: cannot be written \(No space left on device\)"),
    ],
)
def test_what_is_no_fault_of_the_place_is_not_blamed_on_it(tmp_path, videos, monkeypatch, error, sentence):
    def fail(*_, **__) -> None:
        raise error

    monkeypatch.setattr("shards.packing.packer.run_in_order", fail)
    with pytest.raises(UserError, match=sentence):
        pack(listing_of(videos), tmp_path / "out", CONFIG)


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A file system of 300 KB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=300k", "none", str(disk)], capture_output=True, text=True, check=False
    )
    if mount.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {mount.stderr.strip()}")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_stops_the_pack_in_one_sentence_and_loses_nothing(tmp_path, many_clips, small_disk):
    config = PackConfig(height=64, samples_per_shard=20, workers=1)
    with pytest.raises(UserError, match=r"cannot be written \(No space left on device\); mend that"):
        pack(many_clips, small_disk / "out", config)
    done = list((small_disk / ".out.packing" / "journals").glob("*.journal"))
    assert done
    subprocess.run(["mount", "-o", "remount,size=50m", str(small_disk)], check=True)
    progress = Progress()
    pack(many_clips, small_disk / "out", config, progress=progress)
    assert progress.calls[0] >= 16
    pack(many_clips, tmp_path / "undisturbed", config)
    assert content(small_disk / "out") == content(tmp_path / "undisturbed")
    assert {path.name for path in small_disk.iterdir()} == {"out"}


def test_a_mounted_disk_is_refused_before_packing(videos, small_disk):
    with pytest.raises(UserError, match="a disk is mounted there, and cannot be replaced; choose a folder in it"):
        pack(listing_of(videos), small_disk, CONFIG)


def test_a_read_only_place_is_refused_in_one_sentence(videos, small_disk):
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(UserError, match=r"--out .*cannot be written \(Read-only file system\)"):
        pack(listing_of(videos), small_disk / "out", CONFIG)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"height": 100}, "height"),
        ({"height": 65504}, "height"),
        ({"quality": 0}, "quality"),
        ({"mask_scale": 1.5}, "mask_scale"),
        ({"samples_per_shard": 0}, "samples_per_shard"),
        ({"workers": 0}, "workers"),
        ({"codec": "av1"}, "codec"),
        ({"codec": "h264", "crf": 52}, "crf"),
        ({"codec": "vp9", "crf": 0}, "crf"),
        ({"segment_frames": 0}, "segment_frames"),
        ({"network_side": 0}, "network_side"),
    ],
)
def test_options_are_checked(options, field):
    with pytest.raises(ValueError, match=field):
        PackConfig(**options)


def real_listing(root: Path, labels: Path, every: int = 22) -> Listing:
    """Every ``every``-th test clip of JHMDB in ``root``."""
    whole = JhmdbSource(root=root, labels=labels / "hmdb51", subset="test").listing()
    return Listing(whole.dataset, whole.split, whole.subset, whole.classes, whole.clips[::every])


def assert_real_clips_are_kept(listing: Listing, root: Path, out: Path) -> None:
    masks, scenes = open_mask_source(root / "masks", listing.clips), SceneFile(root / "scene_probs.npz")
    report = pack(listing, out, PackConfig(workers=2), annotators=Annotators(mask_source=masks, scene_source=scenes))
    assert report is not None
    assert report.packed_count == len(listing.clips) == 12
    dataset = ShardDataset.open(out)
    assert list(dataset.verify()) == []
    entries = {entry.name: entry for entry in listing.clips}
    for i in range(len(dataset)):
        info = dataset.info(i)
        entry = entries[info.name]
        assert (info.width, info.height, info.mask_width, info.mask_height) == (170, 128, 85, 64)
        assert np.array_equal(dataset.scenes[i], scenes.vector(entry))
        original_NHW = masks.load(entry, info.frame_count, 240, 320, info.fps)
        assert info.person_share == original_NHW.any(axis=(1, 2)).mean()
        packed = dataset.read_clip(i, np.array([0, info.frame_count - 1])).masks
        for stored, original in zip(unpack_masks(packed, 85), original_NHW[[0, -1]], strict=True):
            reference = np.asarray(Image.fromarray(original.astype(np.uint8) * 255).resize((85, 64), Image.BILINEAR))
            assert (stored == (reference >= 128)).mean() > 0.98


def test_real_clips_keep_their_frames_masks_and_scenes(tmp_path, real_data):
    root = real_data / "jhmdb"
    assert_real_clips_are_kept(real_listing(root / "videos", real_data / "labels"), root, tmp_path / "out")


def test_masks_drawn_at_another_rate_than_the_video_s_fit_once_the_rate_is_known(tmp_path, real_data, write_video):
    """As copies of JHMDB in circulation: frames are repeated to reach 30 fps; the masks were drawn at 25."""
    root = real_data / "jhmdb"
    for entry in real_listing(root / "videos", real_data / "labels").clips:
        with open_video(entry.path) as video:
            frames = [frame.rgb(240) for frame in video.frames()]
        retimed = [frames[number * 25 // 30] for number in range(len(frames) * 30 // 25)]
        write_video(tmp_path / "videos" / f"{entry.name}.mp4", retimed, fps=30)
    listing = real_listing(tmp_path / "videos", real_data / "labels", every=1)
    with pytest.raises(UserError, match=r"none of the first 12 clips .* masks of shape .*--mask-fps"):
        pack(listing, tmp_path / "out", CONFIG_16, annotators=Annotators(mask_source=JhmdbMasks(root / "masks")))
    assert [path.name for path in tmp_path.iterdir()] == ["videos"]
    assert_real_clips_are_kept(listing, root, tmp_path / "out")


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
