"""Long videos that are joined from clips: what is in them, where it begins, and what their cuts alone are worth."""

import csv
import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scenebias.data.splice import CUTS_NAME, SpliceConfig, main, plan_splices
from scenebias.detection.instances import Segments
from scenebias.localize.cuts import read_cuts, spans_found
from scenebias.localize.found_segments import FoundSegments, Video
from shards.dataset import ShardDataset
from shards.errors import UserError
from shards.packing.clip_preparation import PackConfig
from shards.packing.pack import pack
from shards.sources import FolderSource
from tools.trials.ready_samples import sample_from_frames, write_samples

FPS = 10.0
FRAMES = (7, 9, 12, 8, 10)


def write_clips(folder: Path, classes: tuple[str, ...], grey: int, width: int = 64) -> str:
    """Five clips, each of one grey of its own."""
    samples = [
        sample_from_frames(
            np.full((count, 48, width, 3), grey + 10 * number, np.uint8),
            name=f"{classes[number % len(classes)]}/clip{number}",
            label=number % len(classes),
            fps=FPS,
        )
        for number, count in enumerate(FRAMES)
    ]
    write_samples(folder, samples, classes)
    return str(folder)


@given(st.integers(1, 40), st.integers(1, 5), st.integers(0, 3), st.integers(0, 5))
def test_every_target_is_shown_once_and_distractors_stand_around_it(
    targets: int, distractors: int, more: int, seed: int
) -> None:
    config = SpliceConfig(targets="", distractors="", out=Path(), least_targets=2, most_targets=2 + more, seed=seed)
    splices = plan_splices(config, targets, distractors)
    shown = Counter(piece.sample for pieces in splices for piece in pieces if piece.is_target)
    assert shown == Counter(range(targets))
    for pieces in splices:
        assert [piece.is_target for piece in pieces] == [False, True] * (len(pieces) // 2) + [False]
        assert all(piece.is_target or 0 <= piece.sample < distractors for piece in pieces)
    assert all(len(pieces) // 2 >= 2 for pieces in splices[:-1])


@pytest.fixture(scope="module")
def spliced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("splices")
    targets = write_clips(folder / "targets", ("catch", "throw"), 20)
    distractors = write_clips(folder / "distractors", ("walk",), 150)
    main(SpliceConfig(targets=targets, distractors=distractors, out=folder / "out", least_targets=2, most_targets=2))
    return folder


def test_segments_and_cuts_are_where_the_frames_change(spliced: Path) -> None:
    out = spliced / "out"
    classes = out / "classes.txt"
    source = FolderSource(root=out / "videos", segments=out / "segments.csv", classes=classes, dataset="splices")
    pack(source.listing(), spliced / "packed", PackConfig(height=48))
    dataset = ShardDataset.open(spliced / "packed")
    cuts = json.loads((out / CUTS_NAME).read_text())
    assert dataset.classes == ("catch", "throw")
    assert len(dataset) == len(cuts) == 3
    found = Counter()
    for video in range(len(dataset)):
        frames_NHWC = dataset.decode(video, dataset.read_clip(video, np.arange(dataset.frame_counts[video])))
        grey_N = frames_NHWC.mean(axis=(1, 2, 3))
        changes = np.flatnonzero(np.abs(np.diff(grey_N)) > 4) + 1
        times_s = cuts[dataset.info(video).name.rpartition("/")[2]]
        np.testing.assert_allclose(changes / FPS, times_s)
        for segment in dataset.truth(video).segments or ():
            inside = grey_N[round(segment.start_s * FPS) : round(segment.end_s * FPS)]
            number = round(float(inside.mean() - 20) / 10)
            assert np.ptp(inside) < 3
            assert len(inside) == FRAMES[number]
            assert segment.label == number % 2
            found[number] += 1
    assert found == Counter(range(5))


def test_the_cuts_alone_find_all_segments_and_their_classes_by_chance(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    videos, cuts, classes = [], {}, tuple("abcdefgh")
    nothing = torch.zeros(0, dtype=torch.float64)
    for number in range(150):
        edges = np.concatenate([[0.0], np.cumsum(random.uniform(1, 3, 9))])
        spans = list(pairwise(edges.tolist()))[1::2]
        truth = Segments(
            start_s_N=torch.tensor([start for start, _ in spans]),
            end_s_N=torch.tensor([end for _, end in spans]),
            label_N=torch.from_numpy(random.integers(8, size=len(spans))),
        )
        none = Segments(start_s_N=nothing, end_s_N=nothing, label_N=nothing.long(), score_N=nothing)
        videos.append(Video(f"videos/{number}", float(edges[-1]), truth, none))
        cuts[str(number)] = edges[1:-1].tolist()
    (tmp_path / "cuts.json").write_text(json.dumps(cuts))
    control = spans_found(FoundSegments(classes, videos), read_cuts(tmp_path / "cuts.json"), "--cuts")
    matches = control.matches("voc")
    np.testing.assert_allclose(matches.recall_K, 1)
    # Four of nine spans are right for one class of eight each.
    np.testing.assert_allclose(matches.mean_average_precision_K(), 4 / 9 / 8, atol=0.02)


def test_what_does_not_go_together_is_refused(spliced: Path, tmp_path: Path) -> None:
    targets, distractors = str(spliced / "targets"), str(spliced / "distractors")
    with pytest.raises(UserError, match="has classes of --targets, such as catch: give other ones"):
        main(SpliceConfig(targets=targets, distractors=targets, out=tmp_path / "out"))
    wide = write_clips(tmp_path / "wide", ("walk",), 150, width=80)
    with pytest.raises(UserError, match="2 sizes and frame rates"):
        main(SpliceConfig(targets=targets, distractors=wide, out=tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match="most_targets must be at least"):
        SpliceConfig(targets=targets, distractors=distractors, out=tmp_path, least_targets=4, most_targets=2)
    (tmp_path / "cuts.json").write_text("[1]")
    with pytest.raises(UserError, match=r"--cuts .* cannot be read"):
        read_cuts(tmp_path / "cuts.json")
    none = FoundSegments(("a",), [])
    assert not spans_found(none, {}, "--cuts").videos


def test_segments_file_has_the_columns_that_packing_reads(spliced: Path) -> None:
    with (spliced / "out" / "segments.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["label"] for row in rows} == {"catch", "throw"}
    assert len(rows) == 5
