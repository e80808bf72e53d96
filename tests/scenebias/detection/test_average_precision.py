"""mAP against its definition in plain Python, and by hand."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scenebias.detection.average_precision import Matches
from scenebias.detection.comparing import match_segments
from scenebias.detection.instances import AMBIGUOUS, Segments
from scenebias.detection.matching import PROTOCOLS, Protocol
from tests.scenebias.detection.reference import Segment, Video, average_precision, tensors, videos

CLASSES = 3
THRESHOLDS = (Fraction(1, 10), Fraction(1, 2), Fraction(3, 4))


def matched(found: list[Video], truth: list[Video], protocol: Protocol = "voc", classes: int = CLASSES) -> Matches:
    return match_segments(
        [tensors(video, scored=True) for video in found],
        [tensors(video, scored=False) for video in truth],
        classes,
        tuple(map(float, THRESHOLDS)),
        protocol,
    )


def at_half(found: Video, truth: Video, protocol: Protocol = "voc") -> float:
    return matched([found], [truth], protocol, classes=1).at(0.5).mean_average_precision


@given(videos(CLASSES), st.sampled_from(PROTOCOLS))
def test_average_precision_is_that_of_its_definition(
    drawn: tuple[list[Video], list[Video]], protocol: Protocol
) -> None:
    found, truth = drawn
    ap_KC = matched(found, truth, protocol).average_precision_KC()
    for k, threshold in enumerate(THRESHOLDS):
        for label in range(CLASSES):
            expected = average_precision(found, truth, label, threshold, protocol)
            assert ap_KC[k, label] == pytest.approx(np.nan if expected is None else float(expected), nan_ok=True)


@given(videos(CLASSES), st.sampled_from(PROTOCOLS), st.lists(st.integers(0, 3), min_size=4, max_size=4))
def test_a_video_that_counts_twice_is_two_videos(
    drawn: tuple[list[Video], list[Video]], protocol: Protocol, times: list[int]
) -> None:
    found, truth = ([video for video, n in zip(each, times, strict=False) for _ in range(n)] for each in drawn)
    expected = matched(found, truth, protocol).average_precision_KC()
    weight_VD = np.array([times[: len(drawn[0])], [1] * len(drawn[0])]).T
    weighted_KCD = matched(*drawn, protocol).average_precision_KCD(weight_VD)
    np.testing.assert_allclose(weighted_KCD[..., 0], expected)
    np.testing.assert_allclose(weighted_KCD[..., 1], matched(*drawn, protocol).average_precision_KC())


@given(videos(CLASSES), st.sampled_from(PROTOCOLS), st.randoms())
def test_the_order_of_the_videos_does_not_matter(
    drawn: tuple[list[Video], list[Video]], protocol: Protocol, random
) -> None:
    pairs = list(zip(*drawn, strict=True))
    random.shuffle(pairs)
    shuffled = matched([f for f, _ in pairs], [t for _, t in pairs], protocol).average_precision_KC()
    np.testing.assert_allclose(shuffled, matched(*drawn, protocol).average_precision_KC())


@given(videos(CLASSES), st.sampled_from(PROTOCOLS))
def test_the_truth_as_prediction_has_100(drawn: tuple[list[Video], list[Video]], protocol: Protocol) -> None:
    truth = drawn[1]
    clear = [[one for one in video if one.label != AMBIGUOUS] for video in truth]
    matches = matched(clear, truth, protocol)
    if any(clear):
        assert matches.mean_average_precision == pytest.approx(1)
        np.testing.assert_allclose(matches.recall_K, 1)
    else:
        assert np.isnan(matches.mean_average_precision_K()).all()
        assert np.isnan(matches.recall_K).all()


def test_true_segments_with_random_scores_of_all_classes_have_one_in_so_many() -> None:
    """A detector that knows where, but not what: each true segment, once for each of 8 equal classes."""
    random = torch.Generator().manual_seed(0)
    found, truth = [], []
    for _ in range(100):
        start_N, label_N = torch.arange(16.0), torch.arange(16) % 8
        truth.append(Segments(start_s_N=start_N, end_s_N=start_N + 0.5, label_N=label_N))
        start_M, label_M = start_N.repeat(8), torch.arange(8).repeat_interleave(16)
        score_M = torch.rand(128, generator=random)
        found.append(Segments(start_s_N=start_M, end_s_N=start_M + 0.5, label_N=label_M, score_N=score_M))
    for protocol in PROTOCOLS:
        map_K = match_segments(found, truth, 8, protocol=protocol).mean_average_precision_K()
        np.testing.assert_allclose(map_K, 0.125, atol=0.01)


def test_true_segments_with_one_random_label_each_have_the_square_of_that() -> None:
    """Recall is 1/8 and precision is 1/8 there."""
    random = torch.Generator().manual_seed(0)
    start_N = torch.arange(16.0)
    truth = [Segments(start_s_N=start_N, end_s_N=start_N + 0.5, label_N=torch.arange(16) % 8)] * 300
    found = [
        Segments(
            start_s_N=start_N,
            end_s_N=start_N + 0.5,
            label_N=torch.randint(8, (16,), generator=random),
            score_N=torch.rand(16, generator=random),
        )
        for _ in truth
    ]
    map_K = match_segments(found, truth, 8, protocol="thumos").mean_average_precision_K()
    np.testing.assert_allclose(map_K, 1 / 64, atol=0.004)


def test_of_duplicates_one_is_right() -> None:
    assert at_half([Segment(0, 10, 0, 2), Segment(0, 10, 0, 1)], [Segment(0, 10, 0)]) == 1
    assert at_half([Segment(0, 10, 0, 2), Segment(0, 10, 0, 1), Segment(20, 30, 0, 0)], [
        Segment(0, 10, 0), Segment(20, 30, 0)]) == pytest.approx(1 / 2 * (1 + 2 / 3))  # fmt: skip


def test_the_precision_of_a_higher_recall_counts_for_voc_alone() -> None:
    """wrong, right, right: precision is 1/2, then 2/3."""
    found = [Segment(50, 60, 0, 3), Segment(0, 10, 0, 2), Segment(20, 30, 0, 1)]
    truth = [Segment(0, 10, 0), Segment(20, 30, 0)]
    assert at_half(found, truth) == pytest.approx(2 / 3)
    assert at_half(found, truth, "thumos") == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_ties_count_together() -> None:
    """One right and one wrong of one score: precision 1/2, whichever comes first."""
    right, wrong = Segment(0, 10, 0, 1), Segment(50, 60, 0, 1)
    for protocol in PROTOCOLS:
        for found in ([right, wrong], [wrong, right]):
            assert at_half(found, [Segment(0, 10, 0)], protocol) == 1 / 2


def test_an_overlap_of_the_threshold_is_enough_for_voc_alone() -> None:
    found, truth = [Segment(0, 5, 0, 1)], [Segment(0, 10, 0)]
    assert at_half(found, truth) == 1
    assert at_half(found, truth, "thumos") == 0


def test_the_protocols_differ_in_who_chooses() -> None:
    """The better score overlaps less: it takes the truth for voc, and is passed over for thumos."""
    found, truth = [Segment(0, 6, 0, 2), Segment(0, 9, 0, 1)], [Segment(0, 10, 0)]
    assert at_half(found, truth) == 1
    assert at_half(found, truth, "thumos") == 1 / 2


def test_what_overlaps_an_ambiguous_instance_does_no_harm_for_thumos() -> None:
    found = [Segment(19, 30, 0, 2), Segment(0, 10, 0, 1)]
    truth = [Segment(0, 10, 0), Segment(10, 20, AMBIGUOUS)]
    assert at_half(found, truth, "thumos") == 1  # the second only touches it
    assert at_half(found, truth) == 1 / 2
    assert at_half([*found, Segment(0, 12, 0, 3)], truth, "thumos") == 1  # not counted either; the second is taken


def test_classes_without_truth_do_not_count_and_classes_that_are_never_found_do() -> None:
    found = [[Segment(0, 10, 0, 1), Segment(0, 10, 2, 1)]]
    matches = matched(found, [[Segment(0, 10, 0), Segment(20, 30, 1)]])
    assert matches.mean_average_precision == 1 / 2
    np.testing.assert_array_equal(matches.average_precision_KC()[0], [1, 0, np.nan])


def test_detections_in_a_video_without_truth_are_wrong_and_a_video_without_detections_is_missed() -> None:
    matches = matched(
        [[Segment(0, 10, 0, 2)], [Segment(0, 10, 0, 1)], []], [[], [Segment(0, 10, 0)], [Segment(0, 1, 0)]]
    )
    assert matches.at(0.5).mean_average_precision == 1 / 4
    np.testing.assert_array_equal(matches.recall_K, 1 / 2)


def test_without_any_detection_it_is_0() -> None:
    assert at_half([], [Segment(0, 10, 0)]) == 0


@pytest.mark.parametrize("label", [AMBIGUOUS, CLASSES])
def test_a_detection_of_no_class_is_refused(label: int) -> None:
    with pytest.raises(ValueError, match="labels of detections must be from 0 to 2"):
        matched([[Segment(0, 10, label, 1)]], [[]])


def test_a_score_that_is_no_number_is_refused() -> None:
    one = Segments(
        start_s_N=torch.zeros(1),
        end_s_N=torch.ones(1),
        label_N=torch.zeros(1).long(),
        score_N=torch.tensor([torch.nan]),
    )
    with pytest.raises(ValueError, match="scores of detections must be numbers"):
        match_segments([one], [one], 1)


def test_an_unknown_protocol_is_refused() -> None:
    with pytest.raises(ValueError, match="protocol must be one of voc, thumos, not 'coco'"):
        match_segments([], [], 1, protocol="coco")  # type: ignore[arg-type]
