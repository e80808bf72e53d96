"""IoU of segments, boxes and tubes, beside counting of whole units and pixels."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from scenebias.detection.instances import FrameBoxes, Tube
from scenebias.detection.overlap import frame_box_overlaps, segment_overlaps, tube_overlap
from tests.scenebias.detection.reference import Video, segments, tensors

SIDE = 6
FRAMES = 5

corners = st.tuples(st.integers(0, SIDE), st.integers(0, SIDE)).filter(lambda c: c[0] != c[1]).map(sorted)
boxes = st.tuples(corners, corners).map(lambda c: (c[0][0], c[1][0], c[0][1], c[1][1]))
tubes = st.dictionaries(st.integers(0, FRAMES - 1), boxes, min_size=1)


def volume(tube: dict[int, tuple[int, int, int, int]]) -> np.ndarray:
    """Which pixels of which frames it covers."""
    covered = np.zeros((FRAMES, SIDE, SIDE), bool)
    for frame, (left, top, right, bottom) in tube.items():
        covered[frame, top:bottom, left:right] = True
    return covered


def as_tube(tube: dict[int, tuple[int, int, int, int]]) -> Tube:
    frames = sorted(tube)
    return Tube(frame_T=torch.tensor(frames), box_T4=torch.tensor([tube[f] for f in frames]).float(), label=0)


@given(st.lists(segments(1, ambiguous=False), max_size=4), st.lists(segments(1, ambiguous=False), max_size=4))
def test_segments_overlap_as_the_sets_of_their_units(found: Video, truth: Video) -> None:
    overlap_DG = segment_overlaps(tensors(found, scored=True), tensors(truth, scored=False))
    assert overlap_DG.shape == (len(found), len(truth))
    for d, one in enumerate(found):
        for g, other in enumerate(truth):
            a, b = set(range(one.start, one.end)), set(range(other.start, other.end))
            assert overlap_DG[d, g] == len(a & b) / len(a | b)


@given(tubes, tubes)
def test_tubes_overlap_by_the_mean_over_the_frames_of_either(one: dict, other: dict) -> None:
    a, b = volume(one), volume(other)
    union_T = (a | b).sum(axis=(1, 2))
    iou_T = np.divide((a & b).sum(axis=(1, 2)), union_T, out=np.zeros(FRAMES), where=union_T > 0)
    expected = iou_T.sum() / len(one.keys() | other.keys())
    assert np.isclose(tube_overlap(as_tube(one), as_tube(other)), expected)


@given(tubes, tubes)
def test_boxes_of_different_frames_do_not_overlap(one: dict, other: dict) -> None:
    def as_boxes(tube: dict) -> FrameBoxes:
        return FrameBoxes(
            frame_N=torch.tensor(list(tube)),
            box_N4=torch.tensor(list(tube.values())),
            label_N=torch.zeros(len(tube)).long(),
        )

    overlap_DG = frame_box_overlaps(as_boxes(one), as_boxes(other))
    for d, (frame, box) in enumerate(one.items()):
        for g, (other_frame, other_box) in enumerate(other.items()):
            a, b = volume({frame: box}), volume({other_frame: other_box})
            assert np.isclose(overlap_DG[d, g], (a & b).sum() / (a | b).sum())
