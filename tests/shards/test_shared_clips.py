"""What a packed data set says of the videos that its clips are of, and which clips two data sets share."""

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shards.dataset import ShardDataset
from shards.errors import UserError
from shards.format.clip_sources import SOURCE_DTYPE, SOURCES_NAME
from shards.format.index import rebuild_index
from shards.material import WHOLE_END
from shards.packing.clip_preparation import PackConfig
from shards.packing.pack import pack
from shards.shared_clips import SharedClips
from shards.sources import CsvSource
from tests.project import ROOT
from tools.trials.ready_samples import write_samples

OLDER = ROOT / "tests" / "shards" / "data"
Row = tuple[str, str, int | None, int | None]
"""File, label, first frame and end."""


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory, write_video: Callable) -> Path:
    """Three videos of 30 frames, and a copy of the first under another name."""
    folder = tmp_path_factory.mktemp("videos")
    random = np.random.default_rng(0)
    for name in ("a", "b", "c"):
        coarse = random.integers(0, 256, (30, 6, 8, 3), dtype=np.uint8)
        write_video(folder / f"{name}.mp4", coarse.repeat(8, axis=1).repeat(8, axis=2))
    shutil.copy(folder / "a.mp4", folder / "copy of a.mp4")
    return folder


@pytest.fixture
def packed(videos: Path, tmp_path: Path) -> Callable[..., ShardDataset]:
    """A function that packs rows of a CSV file, under names that are always the same."""

    def make(*rows: Row, height: int = 32) -> ShardDataset:
        number = len(list(tmp_path.iterdir()))
        listing = tmp_path / f"{number}.csv"
        with listing.open("w") as file:
            csv.writer(file).writerows([("path", "label", "start", "end"), *rows])
        config = PackConfig(height=height, samples_per_shard=2, workers=1)
        pack(CsvSource(file=listing, root=videos).listing(), tmp_path / f"packed{number}", config)
        return ShardDataset.open(tmp_path / f"packed{number}")

    return make


def names_of_shared(dataset: ShardDataset, other: ShardDataset) -> set[str]:
    return set(SharedClips.find(dataset, other.material).names())


def test_clips_are_compared_by_their_videos_not_by_what_they_are_called(packed: Callable[..., ShardDataset]) -> None:
    ours = packed(("a.mp4", "run", None, None), ("b.mp4", "walk", None, None))
    theirs = packed(("copy of a.mp4", "jump", None, None), ("c.mp4", "walk", None, None), height=48)
    assert names_of_shared(theirs, ours) == {"jump/copy of a"}
    assert names_of_shared(ours, theirs) == {"run/a"}
    assert str(SharedClips.find(theirs, ours.material)) == "1 of its 2 clips (jump/copy of a)"


def test_overlapping_parts_of_a_video_are_the_same_material_and_disjoint_ones_are_not(
    packed: Callable[..., ShardDataset],
) -> None:
    parts = packed(("a.mp4", "run", 0, 10), ("a.mp4", "run", 20, None), ("b.mp4", "run", 5, 9))
    beside = packed(("copy of a.mp4", "run", 10, 20), ("b.mp4", "run", 0, 5), ("b.mp4", "run", 9, 12))
    assert names_of_shared(parts, beside) == names_of_shared(beside, parts) == set()
    across = packed(("a.mp4", "run", 9, 12), ("a.mp4", "run", 12, 16), ("b.mp4", "run", 8, None))
    assert names_of_shared(across, parts) == {"run/a_9_12", "run/b_8_end"}
    whole = packed(("a.mp4", "run", None, None))
    assert names_of_shared(whole, beside) == {"run/a"}
    assert names_of_shared(beside, whole) == {"run/copy of a_10_20"}


def test_the_range_of_a_part_is_what_was_stored_of_it(packed: Callable[..., ShardDataset]) -> None:
    # An annotated end may lie a little beyond that of the video.
    dataset = packed(("a.mp4", "run", 4, 31), ("b.mp4", "run", 7, None), ("c.mp4", "run", None, None))
    ranges = {info.name: info.source_frames for info in map(dataset.info, range(3))}
    assert ranges == {"run/a_4_31": (4, 30), "run/b_7_end": (7, 30), "run/c": None}
    clip = {dataset.info(i).name: i for i in range(3)}
    assert dataset.material.start_N[[clip["run/a_4_31"], clip["run/c"]]].tolist() == [4, 0]
    assert dataset.material.end_N[[clip["run/a_4_31"], clip["run/c"]]].tolist() == [30, WHOLE_END]


def test_the_index_holds_the_checksums_and_is_made_anew_to_the_byte(packed: Callable[..., ShardDataset]) -> None:
    dataset = packed(("a.mp4", "run", 4, 9), ("b.mp4", "run", None, None), ("c.mp4", "run", 0, None))
    path = Path(dataset.location) / SOURCES_NAME
    rows = np.load(path)
    assert rows.dtype == SOURCE_DTYPE
    assert [row["sha256"].tobytes().hex() for row in rows] == [dataset.info(i).source_sha256 for i in range(3)]
    before = path.read_bytes()
    assert list(dataset.verify()) == []
    rows["end_frame"] += 1
    np.save(path, rows)
    (problem,) = dataset.verify()
    assert f"{path} is not the index of these shards" in problem
    rebuild_index(path.parent)
    assert path.read_bytes() == before
    np.save(path, rows[:-1])
    with pytest.raises(UserError, match=r"sources\.npy cannot be read .*--rebuild-index"):
        _ = ShardDataset.open(path.parent).material


@pytest.mark.parametrize("codec", ["filmstrip", "h264"])
def test_shards_of_an_earlier_version_are_compared_by_what_their_clips_say(codec: str, tmp_path: Path) -> None:
    older = ShardDataset.open(OLDER / codec)
    assert not (OLDER / codec / SOURCES_NAME).exists()
    assert list(older.verify()) == []
    expected = [json.loads(older.info(i).to_json())["source_sha256"] for i in range(len(older))]
    assert all(expected)
    tails = [f"{source:016x}" for source in older.material.source_N.tolist()]
    assert tails == [checksum[-16:] for checksum in expected]
    assert older.material.is_known
    assert set(older.material.end_N.tolist()) == {WHOLE_END}
    copied = shutil.copytree(OLDER / codec, tmp_path / codec)
    rebuild_index(copied)
    again = ShardDataset.open(copied)
    assert (copied / SOURCES_NAME).exists()
    assert len(SharedClips.find(again, older.material)) == len(again)


def test_a_clip_of_an_unknown_video_is_not_known_and_shared_with_nothing(
    tmp_path: Path, synthetic_sample: Callable
) -> None:
    samples = [synthetic_sample(number) for number in range(2)]
    samples[1] = replace(samples[1], info=replace(samples[1].info, source_sha256=""))
    write_samples(tmp_path / "d", samples, ("clap", "jump", "wave"))
    dataset = ShardDataset.open(tmp_path / "d")
    assert dataset.material.known_N.tolist() == [True, False]
    assert dataset.material.shared_with(dataset.material).tolist() == [True, False]
