"""Segments and boxes are cut to a clip's frames and scaled to its pixels; what does not fit is told, with its place."""

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.dataset import ShardDataset
from shards.decoding.display import VideoInfo
from shards.decoding.refusal import BrokenClipError
from shards.errors import UserError
from shards.format.sample import Crop
from shards.format.truth import BOX_DTYPE, Segment, box_corners, box_problems, segment_problems
from shards.packing.pack import REPORT_NAME, pack
from shards.packing.truth_fitting import (
    ACROSS,
    BEYOND,
    CUT,
    NO_FRAME,
    OTHER_VIDEO,
    OUTSIDE,
    OVERHANG,
    SAME_FRAME,
    View,
    fit_truth,
    with_boxes_of_masks,
)
from shards.sources.listing import Listing
from shards.sources.truths.listed import ListedBoxes, ListedSegment, ListedTruth, VideoPromise
from tests.shards.packing.packs import CONFIG, Progress, StopHereError, content, listing_of, mask_files

INFO = VideoInfo(height=240, width=320, aspect=Fraction(4, 3), fps=25.0)
WHOLE = View(INFO, 0, 100, True, None, 86, 64)


def segments(*spans: tuple) -> ListedTruth:
    return ListedTruth(tuple(ListedSegment(*span, f"a.txt, line {k}") for k, span in enumerate(spans, start=1)))


def boxes(*rows: tuple, **options) -> ListedTruth:
    return ListedTruth(boxes=ListedBoxes(np.array(list(rows), BOX_DTYPE), "b.csv", np.arange(len(rows)) + 1, **options))


def test_segments_are_cut_to_the_video_and_that_is_told():
    listed = segments((3.5, 4.5, 1), (0.0, 1.0, 0), (4.5, 5.0, 2), (3.0, 4.03, None))
    truth, problems = fit_truth(listed, WHOLE)
    assert truth.segments == (Segment(0, 1, 0), Segment(3, 4, None), Segment(3.5, 4, 1))
    assert truth.boxes is None
    assert problems == (
        (OVERHANG, "a.txt, line 1: 3.5 to 4.5 s, the video ends at 4 s"),
        (BEYOND, "a.txt, line 3: 4.5 to 5 s, the video ends at 4 s"),
    )


def test_a_part_of_a_video_has_its_part_of_the_segments_without_a_word():
    view = replace(WHOLE, first_frame=50, frame_count=25, to_the_end=False)
    truth, problems = fit_truth(segments((0, 1, 0), (1, 2.5, 1), (2.5, 9, 2), (3.5, 4, 2)), view)
    assert truth.segments == (Segment(0, 0.5, 1), Segment(0.5, 1, 2))
    assert problems == ()


def test_boxes_are_scaled_to_the_stored_frame_and_put_in_order():
    truth, problems = fit_truth(boxes((7, 0, 3, 0, 120, 160, 240), (2, 1, 0, 160, 0, 320, 60)), WHOLE)
    assert truth.boxes.tolist() == [(2, 1, 0, 43, 0, 86, 16), (7, 0, 3, 0, 32, 43, 64)]
    assert not truth.key_frames_only
    assert problems == ()


def test_boxes_by_time_and_shares_become_frames_and_pixels():
    listed = boxes((0, 4, 1, 0.5, 0, 1, 0.25), times_s=np.array([1.999]), in_shares=True)
    truth, _ = fit_truth(listed, WHOLE)
    assert truth.boxes.tolist() == [(50, 4, 1, 43, 0, 86, 16)]
    assert truth.key_frames_only


def test_boxes_outside_are_left_out_or_cut_and_told_by_the_first_of_a_clip():
    rows = [(0, 0, 0, -10, 0, 50, 50), (1, 0, 0, 330, 0, 340, 50), (99, 0, 0, 0, 0, 5, 240.4), (100, 0, 0, 0, 0, 5, 5)]
    truth, problems = fit_truth(boxes(*rows, (2, 0, 0, -99, 0, 1, 50)), WHOLE)
    assert [row[:3] for row in truth.boxes.tolist()] == [(0, 0, 0), (99, 0, 0)]
    assert dict(problems) == {
        NO_FRAME: "b.csv, line 4",
        OUTSIDE: "b.csv, line 2 and 1 more of this clip",
        ACROSS: "b.csv, line 1",
    }
    assert truth.boxes["x1"][0] == 0
    assert truth.boxes["y2"][1] == 64


def test_of_boxes_of_one_actor_whose_times_are_in_one_frame_the_first_stays_and_that_is_told():
    rows = [(0, 0, 0, 0, 0, 9, 9), (0, 1, 0, 0, 0, 8, 8), (0, 0, 0, 0, 0, 7, 7), (0, 0, 1, 0, 0, 6, 6)]
    truth, problems = fit_truth(boxes(*rows, times_s=np.array([1, 1.01, 1.01, 1.01])), WHOLE)
    assert truth.boxes[["frame", "tube", "label"]].tolist() == [(25, 0, 0), (25, 0, 1), (25, 1, 0)]
    assert truth.boxes["x2"].tolist() == pytest.approx(np.array([9, 6, 8]) * 86 / 320)
    assert problems == ((SAME_FRAME, "b.csv, line 3"),)


def test_segments_are_the_stretches_in_which_a_class_has_a_box():
    rows = [
        (frame, tube, 3, 0, 0, 9, 9) for tube, frames in ((0, range(10, 20)), (1, range(15, 30))) for frame in frames
    ]
    rows += [(frame, 0, 1, 0, 0, 9, 9) for frame in (*range(5), *range(40, 45), 99, 100)]
    listed = replace(boxes(*rows), segments_from_boxes=True)
    truth, problems = fit_truth(listed, WHOLE)
    spans = [(0, 5, 1), (10, 30, 3), (40, 45, 1), (99, 100, 1)]
    assert truth.segments == tuple(Segment(start / 25, end / 25, label) for start, end, label in spans)
    assert [kind for kind, _ in problems] == [NO_FRAME]
    part = replace(WHOLE, first_frame=20, frame_count=21, to_the_end=False)
    assert fit_truth(listed, part)[0].segments == (Segment(0, 10 / 25, 3), Segment(20 / 25, 21 / 25, 1))
    crop = Crop(left=160, top=80, width=96, height=96, on_person=True)
    hidden, _ = fit_truth(listed, replace(WHOLE, crop=crop, width=64, height=64))
    assert len(hidden.boxes) == 0
    assert hidden.segments == truth.segments


def test_in_a_square_around_people_boxes_count_from_its_corner():
    crop = Crop(left=100, top=40, width=128, height=128, on_person=True)
    view = replace(WHOLE, crop=crop, width=64, height=64)
    rows = [(0, 0, 0, 120, 60, 160, 100), (1, 0, 0, 90, 60, 110, 100), (2, 0, 0, 0, 0, 101, 41)]
    truth, problems = fit_truth(boxes(*rows), view)
    assert truth.boxes.tolist() == [(0, 0, 0, 10, 10, 30, 30), (1, 0, 0, 0, 10, 5, 30)]
    assert problems == ((CUT, "b.csv, line 2 and 1 more of this clip"),)


@given(
    st.lists(st.tuples(*[st.floats(-400, 700, width=32)] * 4), max_size=6),
    st.integers(0, 200),
    st.sampled_from([None, Crop(2, 4, 16, 16, True), Crop(0, 0, 240, 240, False)]),
    st.lists(st.tuples(st.floats(0, 9), st.floats(0, 9)), max_size=6),
)
def test_whatever_is_listed_what_is_stored_fits(corners, first_frame, crop, spans):
    width = 64 if crop else 86
    view = View(INFO, first_frame, 20, True, crop, width, 64)
    rows = [(190 + k, k, 0, *corner) for k, corner in enumerate(corners) if corner[0] < corner[2]]
    listed = replace(
        boxes(*(row for row in rows if row[4] < row[6])),
        segments=segments(*((*span, 0) for span in spans if span[0] < span[1])).segments,
    )
    truth, _ = fit_truth(listed, view)
    assert list(box_problems(truth.boxes, 20, width, 64)) == []
    assert list(segment_problems(truth.segments, 20 / 25)) == []


@given(st.integers(0, 2**32 - 1))
def test_boxes_of_masks_are_their_extents(seed):
    random = np.random.default_rng(seed)
    mask_NHW = random.random((5, 12, 16)) < random.choice([0.002, 0.05])
    listed = with_boxes_of_masks(ListedTruth(boxes_from_masks=True), mask_NHW, 3, 70)
    for frame, mask_HW in enumerate(mask_NHW):
        rows = listed.boxes.rows[listed.boxes.rows["frame"] == 70 + frame]
        pixels = np.argwhere(mask_HW)
        if not len(pixels):
            assert len(rows) == 0
            continue
        (y1, x1), (y2, x2) = pixels.min(axis=0), pixels.max(axis=0) + 1
        assert rows.tolist() == [(70 + frame, 0, 3, x1, y1, x2, y2)]


def with_promise(truth: ListedTruth, **promise) -> ListedTruth:
    return replace(truth, promise=VideoPromise("p.json, video x", **promise))


def test_labels_of_another_video_are_told():
    truth = segments((0, 1, 0))
    assert fit_truth(with_promise(truth, fps=25.1, frame_count=104, duration_s=4.9), WHOLE)[1] == ()
    for promise, sentence in [
        ({"fps": 30}, "of a video of 30 fps, this one has 25"),
        ({"frame_count": 120}, "of a video of 120 frames, this one has 100"),
        ({"duration_s": 9.0}, "of a video of 9.0 s, this one has 4.0 s"),
    ]:
        assert fit_truth(with_promise(truth, **promise), WHOLE)[1] == ((OTHER_VIDEO, f"p.json, video x: {sentence}"),)


def test_boxes_of_other_frames_set_a_clip_aside():
    listed = boxes((0, 0, 0, 0, 0, 5, 5))
    assert fit_truth(with_promise(listed, frame_count=100), WHOLE)[1] == ()
    (problem,) = fit_truth(with_promise(listed, frame_count=102), WHOLE)[1]
    assert problem.kind == OTHER_VIDEO
    with pytest.raises(BrokenClipError, match="of a video of 120 frames, this one has 100, so its boxes are of other"):
        fit_truth(with_promise(listed, frame_count=120), WHOLE)


@pytest.fixture
def annotated(videos) -> Listing:
    """The small videos, with a segment and a box each, one of them beyond the end."""
    listing = listing_of(videos)
    truths = [
        replace(boxes((0, 0, 2, 16, 12, 48, 36), (90, 0, 2, 0, 0, 9, 9)), segments=segments((0, 0.1, 2)).segments),
        segments((0.04, 0.12, None), (7, 8, 1)),
        ListedTruth(()),
    ]
    clips = [replace(entry, truth=truths[k % 3] if k != 5 else None) for k, entry in enumerate(listing.clips)]
    return replace(listing, clips=tuple(clips))


def test_a_pack_holds_them_and_tells_what_did_not_fit(tmp_path, annotated):
    report = pack(annotated, tmp_path / "out", CONFIG)
    assert report is not None
    told = json.loads((tmp_path / "out" / REPORT_NAME).read_text())["truth"]
    assert told.keys() == {BEYOND, NO_FRAME}
    assert told[BEYOND][0].startswith("a.txt, line 2: 7 to 8 s, the video ends at 0.")
    dataset = ShardDataset.open(tmp_path / "out")
    assert list(dataset.verify()) == []
    truth_of = {dataset.info(i).name: dataset.truth(i) for i in range(len(dataset))}
    for entry in annotated.clips:
        if entry.name == "jump/bad":
            continue
        truth = truth_of[entry.name]
        if entry.truth is None:
            assert (truth.segments, truth.boxes) == (None, None)
        elif entry.truth.boxes is not None:
            assert truth.segments == (Segment(0, 0.1, 2),)
            assert truth.boxes["label"].tolist() == [2]
            assert box_corners(truth.boxes).tolist() == pytest.approx(np.array([[10.5, 8, 31.5, 24]]), abs=0.26)
        elif entry.truth.segments:
            assert truth.segments == (Segment(0.04, 0.12, None),)
        else:
            assert truth.segments == ()


def test_strict_refuses_what_does_not_fit_again_and_again(tmp_path, annotated):
    whole = replace(annotated, clips=tuple(entry for entry in annotated.clips if entry.name != "jump/bad"))
    with pytest.raises(UserError, match=r"--strict: boxes in frames that the video does not have, .*b\.csv, line 2"):
        pack(whole, tmp_path / "out", CONFIG, strict=True)
    assert pack(whole, tmp_path / "out", CONFIG) is not None
    with pytest.raises(UserError, match="--strict: boxes in frames"):
        pack(whole, tmp_path / "out", CONFIG, strict=True)


def test_an_interrupted_pack_gives_the_same_bytes_and_tells_the_same(tmp_path, annotated):
    assert pack(annotated, tmp_path / "whole", CONFIG) is not None
    with pytest.raises(StopHereError):
        pack(annotated, tmp_path / "cut", CONFIG, progress=Progress(stop_after=1))
    assert pack(annotated, tmp_path / "cut", CONFIG) is not None
    whole, cut = content(tmp_path / "whole"), content(tmp_path / "cut")
    assert whole.keys() == cut.keys()
    assert {name for name in whole if whole[name] != cut[name]} <= {"inputs.npy"}


def test_other_labels_make_another_data_set(tmp_path, annotated):
    assert pack(annotated, tmp_path / "out", CONFIG) is not None
    assert pack(annotated, tmp_path / "out", CONFIG) is None
    moved = [replace(entry, truth=segments((0, 0.05, 2))) for entry in annotated.clips]
    with pytest.raises(UserError, match="--overwrite"):
        pack(replace(annotated, clips=tuple(moved)), tmp_path / "out", CONFIG)


def test_boxes_are_made_of_masks_in_the_squares_around_people_too(tmp_path, videos, masks):
    listing = listing_of(videos)
    clips = tuple(replace(entry, truth=ListedTruth(boxes_from_masks=True)) for entry in listing.clips)
    listing = replace(listing, clips=clips)
    with pytest.raises(UserError, match="boxes of actors are made from ready-made masks; give --masks FOLDER"):
        pack(listing, tmp_path / "out", CONFIG)
    for focus in ("frame", "person"):
        config = replace(CONFIG, focus=focus, focus_margin=1.0)
        assert pack(listing, tmp_path / focus, config, annotators=mask_files(masks, listing)) is not None
        dataset = ShardDataset.open(tmp_path / focus)
        for i in range(len(dataset)):
            rows, width = dataset.truth(i).boxes, int(dataset.frame_sizes[i][1])
            if dataset.info(i).name == "jump/clip5":
                assert rows is None
                continue
            assert rows["frame"].tolist() == list(range(1, int(dataset.frame_counts[i])))
            assert set(rows["label"].tolist()) == {int(dataset.labels[i])}
            crop = dataset.info(i).crop
            right = width / 2 if crop is None else (32 - crop.left) * width / crop.width
            assert box_corners(rows)[0].tolist() == pytest.approx([0, 0, right, 32])


def test_truth_travels_to_worker_processes(tmp_path, annotated):
    assert pack(annotated, tmp_path / "one", CONFIG) is not None
    assert pack(annotated, tmp_path / "two", replace(CONFIG, workers=2)) is not None
    assert content(tmp_path / "one") == content(tmp_path / "two")


def test_without_truth_a_report_has_no_word_of_it(tmp_path, videos):
    assert pack(listing_of(videos), tmp_path / "out", CONFIG) is not None
    assert "truth" not in json.loads((tmp_path / "out" / REPORT_NAME).read_text())
    assert not Path(tmp_path / "out" / "truths.npy").exists()
