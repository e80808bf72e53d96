"""Tubes that are linked from boxes whose actors are known, and their mAP."""

import numpy as np
import pytest
import torch

from scenebias.detection.comparing import match_frames, match_tubes
from scenebias.detection.instances import FrameBoxes, Tube
from scenebias.detection.linking import LinkingConfig, link


def walk(first: int, end: int, left: float, step: float, *, label: int = 0, score: float | None = None) -> Tube:
    """An actor of 10 by 20 that walks to the right on one height."""
    frame_T = torch.arange(first, end)
    left_T = left + step * (frame_T - first).double()
    box_T4 = torch.stack([left_T, torch.zeros(len(frame_T)), left_T + 10, torch.full((len(frame_T),), 20.0)], dim=1)
    return Tube(frame_T=frame_T, box_T4=box_T4, label=label, score=score)


def boxes_of(*tubes: Tube, scored: bool = True) -> FrameBoxes:
    return FrameBoxes(
        frame_N=torch.cat([tube.frame_T for tube in tubes]),
        box_N4=torch.cat([tube.box_T4 for tube in tubes]),
        label_N=torch.cat([torch.full((len(tube.frame_T),), tube.label) for tube in tubes]),
        score_N=torch.cat([torch.full((len(t.frame_T),), t.score or 1.0) for t in tubes]) if scored else None,
    )


def same(one: Tube, other: Tube) -> bool:
    return torch.equal(one.frame_T, other.frame_T) and torch.allclose(one.box_T4.double(), other.box_T4.double())


APART = (walk(0, 20, 0, 1, score=0.9), walk(5, 15, 60, -0.5, score=0.8), walk(3, 9, 0, 1, label=1, score=0.7))


def test_the_boxes_of_actors_that_are_apart_give_the_actors() -> None:
    linked = link(boxes_of(*APART))
    assert [(tube.label, round(tube.score or 0, 6)) for tube in linked] == [(0, 0.9), (0, 0.8), (1, 0.7)]
    assert all(map(same, linked, APART))


def test_frames_that_were_missed_are_interpolated_and_a_longer_gap_ends_a_tube() -> None:
    actor = walk(0, 20, 0, 0.5, score=0.9)
    found = boxes_of(actor)
    seen = found[(found.frame_N < 5) | (found.frame_N >= 10)]
    (tube,) = link(seen, LinkingConfig(link_gap_frames=5))
    assert same(tube, actor)
    assert [tube.frame_T.tolist() for tube in link(seen, LinkingConfig(link_gap_frames=4))] == [
        list(range(5)),
        list(range(10, 20)),
    ]


def test_the_better_tube_goes_on_with_the_better_box() -> None:
    better, worse = walk(0, 2, 0, 0, score=0.9), walk(0, 2, 4, 0, score=0.5)
    in_next_frame = boxes_of(walk(2, 3, 2, 0, score=0.8), walk(2, 3, 1, 0, score=0.6))
    found = boxes_of(worse, better)
    together = FrameBoxes(
        frame_N=torch.cat([found.frame_N, in_next_frame.frame_N]),
        box_N4=torch.cat([found.box_N4, in_next_frame.box_N4]),
        label_N=torch.cat([found.label_N, in_next_frame.label_N]),
        score_N=torch.cat([found.scores, in_next_frame.scores]),
    )
    first, second = link(together, LinkingConfig(tube_overlap=1))
    assert first.box_T4[:, 0].tolist() == [0, 0, 2]
    assert second.box_T4[:, 0].tolist() == [4, 4, 1]
    assert first.score == pytest.approx((0.9 + 0.9 + 0.8) / 3)
    assert len(link(together, LinkingConfig(tube_overlap=0.3))) == 1


def test_no_boxes_are_no_tubes() -> None:
    found = boxes_of(*APART)
    assert link(found[torch.zeros(len(found), dtype=torch.bool)]) == []


def test_true_boxes_and_tubes_as_predictions_have_100() -> None:
    truth = [list(APART), [walk(0, 4, 0, 1, label=1)], []]
    found = [link(boxes_of(*tubes)) if tubes else [] for tubes in truth]
    matches = match_tubes(found, truth, 3)
    np.testing.assert_allclose(matches.mean_average_precision_K(), 1)
    boxes = [boxes_of(*tubes) for tubes in truth if tubes]
    np.testing.assert_allclose(match_frames(boxes, boxes, 3).mean_average_precision_K(), 1)


def test_a_tube_of_half_the_frames_is_found_up_to_half_an_overlap() -> None:
    matches = match_tubes([[walk(0, 10, 0, 1, score=1)]], [[walk(0, 20, 0, 1)]], 1)
    np.testing.assert_array_equal(matches.mean_average_precision_K() == 1, np.array(matches.thresholds) <= 0.5)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [({"link_overlap": 2}, "link_overlap must be from 0 to 1"), ({"link_gap_frames": -1}, "link_gap_frames must be"),
     ({"link_candidates": 0}, "link_candidates must be"), ({"tube_overlap": -1}, "tube_overlap must be from 0 to 1")],
)  # fmt: skip
def test_options_out_of_range_are_refused(options: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        LinkingConfig(**options)
