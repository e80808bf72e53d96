"""Points and segments: who answers for whom, and that right answers cost nothing."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scenebias.localize.features.tracks import FeatureTrack
from scenebias.localize.head.decoding import DecodingConfig, find_segments
from scenebias.localize.head.points import CENTRE_RADIUS, REACH, Points, assign, point_loss, segment_boxes
from scenebias.localize.head.pyramid import PointOutputs, Pyramid, PyramidConfig

LENGTH, LEVELS = 40, 3
POINTS = Points.of(LENGTH, LEVELS)
spans = st.tuples(st.floats(-2, LENGTH), st.floats(0.1, 30)).map(lambda pair: [pair[0], pair[0] + pair[1]])


@given(st.lists(spans, max_size=4))
def test_a_point_answers_for_the_shortest_segment_that_fits_it(segments: list[list[float]]) -> None:
    segment_N2 = torch.tensor(segments, dtype=torch.float64).reshape(-1, 2)
    number_P = assign(POINTS, segment_N2).tolist()
    level = 0
    for point, (position, stride) in enumerate(zip(*(p.tolist() for p in vars(POINTS).values()), strict=True)):
        level = {1: 0, 2: 1, 4: 2}[int(stride)]
        fitting = []
        for number, (start, end) in enumerate(segments):
            far = max(position - start, end - position)
            least = 0 if level == 0 else REACH * 2 ** (level - 1)
            highest = float("inf") if level == LEVELS - 1 else REACH * 2**level
            near_middle = abs(position - (start + end) / 2) <= CENTRE_RADIUS * stride
            if start < position < end and near_middle and least < far <= highest:
                fitting.append((end - start, number))
        assert number_P[point] == (min(fitting)[1] if fitting else -1)


@given(st.floats(0, 20), st.floats(2, 19))
def test_every_segment_within_a_video_has_a_point(start: float, length: float) -> None:
    assert (assign(POINTS, torch.tensor([[start, start + length]])) == 0).any()


@given(st.lists(spans, min_size=1, max_size=3))
def test_right_answers_cost_next_to_nothing_and_the_wrong_class_much(segments: list[list[float]]) -> None:
    segment_N2 = torch.tensor(segments).reshape(-1, 2)
    label_N = torch.arange(len(segments)) % 2
    number_P = assign(POINTS, segment_N2)
    target_P2 = segment_N2[number_P.clamp(min=0)]
    distance_P2 = torch.stack([POINTS.position_P - target_P2[:, 0], target_P2[:, 1] - POINTS.position_P], dim=1)
    logits_PA = torch.full((len(number_P), 2), -20.0)
    logits_PA[number_P >= 0, label_N[number_P[number_P >= 0]]] = 20.0
    inside_BP = torch.ones(1, len(number_P), dtype=torch.bool)

    def loss(logits_PA: torch.Tensor) -> float:
        outputs = PointOutputs(logits_PA[None], distance_P2[None], inside_BP)
        found = point_loss(outputs, POINTS, [segment_N2], [label_N])
        return (found.total / found.answers.clamp(min=1)).item()

    assert loss(logits_PA) == pytest.approx(0, abs=1e-3)
    if (number_P >= 0).any():
        assert loss(logits_PA.flip(1)) > 1


def test_the_loss_is_that_of_a_calculation_by_hand() -> None:
    """One level, one point in the segment: focal losses of p = 1/2, and a segment that is half as long as it should."""
    points = Points.of(3, 1)
    outputs = PointOutputs(torch.zeros(1, 3, 1), torch.full((1, 3, 2), 0.25), torch.tensor([[True, True, False]]))
    loss, answers = point_loss(outputs, points, [torch.tensor([[0.5, 1.5]])], [torch.tensor([0])])
    assert answers == 1
    ln2 = 0.6931472
    assert loss.item() == pytest.approx(0.25 * 0.25 * ln2 + 0.75 * 0.25 * ln2 + 0.5, abs=1e-5)


@settings(max_examples=20)
@given(st.integers(1, 23), st.integers(0, 9))
def test_what_fills_a_video_up_changes_nothing(length: int, filled: int) -> None:
    torch.manual_seed(0)
    pyramid = Pyramid(4, 2, PyramidConfig(levels=3, width=8)).eval()
    pyramid.standardise_by([torch.randn(4, 50) + 3])
    feature_BCT = torch.randn(1, 4, length) + 3
    alone = pyramid(feature_BCT, torch.tensor([length]))
    garbage = torch.cat([feature_BCT, torch.full((1, 4, filled), 1e3)], dim=2)
    beside = pyramid(garbage, torch.tensor([length]))
    assert beside.is_inside_BP.sum() == alone.is_inside_BP.sum() == alone.logits_BPA.shape[1]
    torch.testing.assert_close(beside.logits_BPA[beside.is_inside_BP], alone.logits_BPA[0])
    torch.testing.assert_close(beside.distance_BP2[beside.is_inside_BP], alone.distance_BP2[0])


def test_features_are_standardised_by_those_of_the_training() -> None:
    pyramid = Pyramid(2, 1, PyramidConfig(levels=1, width=8))
    pyramid.standardise_by([torch.tensor([[1.0, 3.0], [5.0, 5.0]]), torch.tensor([[1.0, 3.0], [5.0, 5.0]])])
    assert pyramid.mean_C1.ravel().tolist() == [2, 5]
    assert pyramid.std_C1.ravel().tolist() == [1, 1]


def test_segments_are_told_in_seconds_within_the_video_the_most_probable_first() -> None:
    torch.manual_seed(0)
    pyramid = Pyramid(4, 3, PyramidConfig(levels=3, width=8))
    track = FeatureTrack(feature_CT=torch.randn(4, 30), first_s=1.0, step_s=0.5, duration_s=16.0)
    found = find_segments(pyramid, track, DecodingConfig(min_score=0, max_overlap=1, most_segments=50))
    assert pyramid.training
    assert len(found) == 50
    assert (found.start_s_N >= 0).all()
    assert (found.end_s_N <= 16).all()
    assert (found.scores.diff() <= 0).all()
    outputs = pyramid.eval()(track.feature_CT[None], torch.tensor([30]))
    point, label = divmod(int(outputs.logits_BPA[0].argmax()), 3)
    box_4 = segment_boxes(Points.of(30, 3), outputs.distance_BP2)[0, point]
    assert found.label_N[0] == label
    expected = (box_4[0::2] * 0.5 + 1).clamp(0, 16)
    torch.testing.assert_close(torch.stack([found.start_s_N[0], found.end_s_N[0]]), expected)
    assert len(find_segments(pyramid, track, DecodingConfig(min_score=0.99))) == 0


@pytest.mark.parametrize(
    "options", [{"min_score": 1.0}, {"max_overlap": 1.5}, {"candidate_segments": 0}, {"most_segments": 0}]
)
def test_options_out_of_range_are_refused(options: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        DecodingConfig(**options)


def test_a_track_without_features_is_refused() -> None:
    with pytest.raises(ValueError, match="one or more features"):
        FeatureTrack(feature_CT=torch.zeros(4, 0), first_s=0, step_s=1, duration_s=1)
    with pytest.raises(ValueError, match="step_s"):
        FeatureTrack(feature_CT=torch.zeros(4, 1), first_s=0, step_s=0, duration_s=1)
