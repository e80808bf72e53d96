"""Suppression beside its definition, and instances that cannot be."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scenebias.detection.instances import FrameBoxes, Segments, Tube
from tests.scenebias.detection.reference import Segment, Video, overlap, segments, tensors

of_their_own_score = st.lists(segments(2, ambiguous=False), max_size=8).map(
    lambda video: [Segment(*one[:3], score) for score, one in enumerate(video)]
)


@given(of_their_own_score, st.sampled_from([0.3, 0.5]), st.none() | st.integers(1, 3))
def test_of_segments_that_overlap_too_much_the_best_is_kept(video: Video, max_overlap: float, most: int | None) -> None:
    kept: Video = []
    for one in sorted(video, key=lambda one: -one.score):
        if all(one.label != better.label or overlap(one, better) <= max_overlap for better in kept):
            kept.append(one)
    suppressed = tensors(video, scored=True).suppressed(max_overlap, most)
    assert suppressed.scores.tolist() == [one.score for one in kept[:most]]


def test_boxes_of_other_frames_and_classes_are_kept() -> None:
    box_N4 = torch.tensor([[0.0, 0, 4, 4]]).repeat(4, 1)
    found = FrameBoxes(
        frame_N=torch.tensor([0, 0, 1, 1]),
        box_N4=box_N4,
        label_N=torch.tensor([0, 1, 0, 0]),
        score_N=torch.tensor([0.1, 0.2, 0.3, 0.4]),
    )
    torch.testing.assert_close(found.suppressed(0.5).scores, torch.tensor([0.4, 0.2, 0.1]))


def test_instances_that_cannot_be_are_refused() -> None:
    two, three = torch.zeros(2), torch.zeros(3)
    with pytest.raises(ValueError, match="as many of each"):
        Segments(start_s_N=two, end_s_N=three, label_N=two.long())
    with pytest.raises(ValueError, match="must be at least start_s_N"):
        Segments(start_s_N=two + 1, end_s_N=two, label_N=two.long())
    with pytest.raises(ValueError, match="ascending"):
        Tube(frame_T=torch.tensor([1, 1]), box_T4=torch.zeros(2, 4), label=0)
    with pytest.raises(ValueError, match="a box for each frame"):
        Tube(frame_T=torch.tensor([1, 2]), box_T4=torch.zeros(3, 4), label=0)
