"""Intervals against tables, resampling written out, and how often they cover what they should."""

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scenebias.statistics.intervals import Interval, clip_interval, paired_bootstrap, seed_interval

finite = st.floats(-1e3, 1e3)


def test_an_interval_over_seeds_is_the_one_by_hand() -> None:
    interval = seed_interval([0.2, 0.3, 0.4])
    half_width = 4.302653 * 0.1 / math.sqrt(3)  # t(0.975, 2) from a table
    assert interval.mean == pytest.approx(0.3)
    assert interval.low == pytest.approx(0.3 - half_width)
    assert interval.high == pytest.approx(0.3 + half_width)


@given(st.lists(finite, min_size=2, max_size=9), st.floats(0.5, 0.99))
def test_an_interval_over_seeds_holds_its_mean_and_grows_with_confidence(values: list[float], confidence: float):
    narrow, wide = seed_interval(values, confidence), seed_interval(values, confidence + 0.005)
    assert wide.low <= narrow.low <= narrow.mean <= narrow.high <= wide.high


def test_the_interval_of_one_seed_is_unknown() -> None:
    interval = seed_interval([0.25])
    assert interval.mean == 0.25
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)


def test_intervals_over_seeds_cover_the_mean_as_often_as_they_say() -> None:
    random = np.random.default_rng(0)
    intervals = [seed_interval(random.normal(0.4, 0.1, 3).tolist(), 0.9) for _ in range(2000)]
    assert np.mean([i.low <= 0.4 <= i.high for i in intervals]) == pytest.approx(0.9, abs=0.025)


@given(st.lists(st.booleans(), min_size=1, max_size=300), st.floats(0.5, 0.99))
def test_wilsons_interval_ends_where_the_score_test_no_longer_refuses(correct: list[bool], confidence: float) -> None:
    """It holds the accuracies p with |observed - p| ≤ z √(p (1 - p) / N): at its ends both sides are alike."""
    interval = clip_interval(np.array(correct), confidence)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    assert interval.mean == pytest.approx(sum(correct) / len(correct))
    assert 0 <= interval.low <= interval.mean + 1e-12
    assert interval.mean - 1e-12 <= interval.high <= 1
    for end in (interval.low, interval.high):
        deviation = z * math.sqrt(end * (1 - end) / len(correct))
        assert abs(interval.mean - end) == pytest.approx(deviation, abs=1e-7)


def test_an_interval_over_clips_does_not_shrink_to_nothing_where_all_are_right() -> None:
    interval = clip_interval(np.ones(20, dtype=bool))
    assert (interval.mean, interval.high) == (1, pytest.approx(1))
    assert interval.low == pytest.approx(20 / (20 + 1.959964**2))  # Wilson's formula at p = 1


def test_intervals_over_clips_cover_the_accuracy_as_often_as_they_say() -> None:
    random = np.random.default_rng(0)
    intervals = [clip_interval(random.random(80) < 0.3, 0.9) for _ in range(2000)]
    assert np.mean([i.low <= 0.3 <= i.high for i in intervals]) == pytest.approx(0.9, abs=0.025)


def drawn_by_hand(*differences: np.ndarray) -> list[float]:
    """The quantiles of the mean over splits of the means of clips drawn anew, one resample after another."""
    random = np.random.default_rng(2)
    means = [
        np.mean(
            [
                np.mean([difference_N[i] for i in random.integers(len(difference_N), size=len(difference_N))])
                for difference_N in differences
            ]
        )
        for _ in range(10_000)
    ]
    return np.quantile(means, [0.025, 0.975]).tolist()


def test_the_bootstrap_agrees_with_resampling_by_hand() -> None:
    random = np.random.default_rng(1)
    a_RN, b_RN = random.random((3, 200)) < 0.6, random.random((3, 200)) < 0.5
    ours = paired_bootstrap(a_RN, b_RN)
    difference_N = a_RN.mean(axis=0) - b_RN.mean(axis=0)
    reference = drawn_by_hand(difference_N)
    assert ours.mean == pytest.approx(difference_N.mean())
    assert (ours.low, ours.high) == pytest.approx(reference, abs=0.004)


def test_splits_are_drawn_each_by_itself_and_count_alike() -> None:
    random = np.random.default_rng(1)
    a, b = ([random.random((2, count)) < share for count in (60, 300)] for share in (0.7, 0.5))
    ours = paired_bootstrap(a, b)
    differences = [(x.mean(axis=0) - y.mean(axis=0)) for x, y in zip(a, b, strict=True)]
    reference = drawn_by_hand(*differences)
    assert ours.mean == pytest.approx(np.mean([d.mean() for d in differences]))
    assert (ours.low, ours.high) == pytest.approx(reference, abs=0.005)


def test_bootstrap_intervals_cover_the_difference_as_often_as_they_say() -> None:
    random = np.random.default_rng(0)
    covered = []
    for trial in range(300):
        hard_N = random.random(80)  # what both models share makes the pairs worth having
        a_N, b_N = random.random(80) < 0.3 + 0.5 * hard_N, random.random(80) < 0.2 + 0.5 * hard_N
        interval = paired_bootstrap(a_N, b_N, seed=trial, resamples=400, confidence=0.9)
        covered.append(interval.low <= 0.1 <= interval.high)
    assert np.mean(covered) == pytest.approx(0.9, abs=0.05)


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 30), st.integers(0, 2**32))
def test_swapping_the_models_turns_the_sign_and_equal_models_do_not_differ(
    runs_a: int, runs_b: int, clips: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    a_RN, b_RN = random.random((runs_a, clips)), random.random((runs_b, clips))
    one, other = (paired_bootstrap(x, y, resamples=200) for x, y in ((a_RN, b_RN), (b_RN, a_RN)))
    assert (one.mean, one.low, one.high) == pytest.approx((-other.mean, -other.high, -other.low))
    same = paired_bootstrap(a_RN, a_RN, resamples=20)
    assert (same.mean, same.low, same.high) == (0, 0, 0)


def test_runs_of_a_clip_stay_together() -> None:
    """A model that is always right on the same clips: more runs of it tell nothing more."""
    a_RN = (np.arange(50) < 30)[None]
    b_RN = np.zeros((1, 50))
    assert paired_bootstrap(a_RN, b_RN) == paired_bootstrap(a_RN.repeat(7, axis=0), b_RN)


@pytest.mark.parametrize(("a", "b"), [((2, 5), (2, 6)), ((1, 0), (1, 0))])
def test_values_of_different_clips_or_of_none_are_refused(a: tuple[int, int], b: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="same clips"):
        paired_bootstrap(np.zeros(a), np.zeros(b))
    with pytest.raises(ValueError, match="same clips"):
        paired_bootstrap([], [])


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 3), st.integers(1, 40), st.integers(0, 2**32))
def test_clips_that_are_groups_of_their_own_are_drawn_as_clips_are(runs: int, clips: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    a_RN, b_RN = random.random((runs, clips)), random.random((runs, clips))
    plain = paired_bootstrap(a_RN, b_RN, resamples=200, seed=seed)
    groups = np.array([f"video {number}" for number in random.permutation(clips)])
    grouped = paired_bootstrap(a_RN, b_RN, resamples=200, seed=seed, group_N=groups)
    assert (grouped.mean, grouped.low, grouped.high) == pytest.approx((plain.mean, plain.low, plain.high), abs=1e-12)


def test_repeated_clips_of_a_group_tell_nothing_more() -> None:
    """Every clip four times over: as many values, but no more videos."""
    random = np.random.default_rng(5)
    a_RN, b_RN = random.random((3, 60)) < 0.6, random.random((3, 60)) < 0.5
    four = [array.repeat(4, axis=1) for array in (a_RN, b_RN)]
    once, grouped = paired_bootstrap(a_RN, b_RN), paired_bootstrap(*four, group_N=np.arange(60).repeat(4))
    assert (grouped.mean, grouped.low, grouped.high) == pytest.approx((once.mean, once.low, once.high))
    alone = paired_bootstrap(*four)
    assert alone.high - alone.low < 0.6 * (grouped.high - grouped.low)


def test_groups_of_several_splits_agree_with_drawing_them_by_hand() -> None:
    random = np.random.default_rng(3)
    groups = [random.integers(30, size=count) for count in (80, 120)]
    a, b = ([random.random((2, len(split))) < share for split in groups] for share in (0.7, 0.5))
    ours = paired_bootstrap(a, b, group_N=groups)
    differences = [x.mean(axis=0) - y.mean(axis=0) for x, y in zip(a, b, strict=True)]
    names = np.union1d(*groups)
    means = []
    for _ in range(3000):
        drawn = [names[i] for i in random.integers(len(names), size=len(names))]
        values = [
            [value for name in drawn for value, of in zip(difference, split, strict=True) if of == name]
            for difference, split in zip(differences, groups, strict=True)
        ]
        means.append(np.mean([np.mean(of_split) for of_split in values]))
    assert ours.mean == pytest.approx(np.mean([difference.mean() for difference in differences]))
    assert (ours.low, ours.high) == pytest.approx(np.quantile(means, [0.025, 0.975]).tolist(), abs=0.008)


def test_bootstrap_intervals_over_groups_cover_where_those_over_clips_do_not() -> None:
    random = np.random.default_rng(0)
    covered = {True: 0, False: 0}
    group_N = np.arange(40).repeat(6)
    for trial in range(200):
        video_G = random.normal(0.1, 0.3, 40)
        a_N = video_G[group_N] + random.normal(0, 0.1, len(group_N))
        for grouped in covered:
            groups = group_N if grouped else None
            interval = paired_bootstrap(
                a_N, np.zeros(len(a_N)), group_N=groups, seed=trial, resamples=400, confidence=0.9
            )
            covered[grouped] += interval.low <= 0.1 <= interval.high
    assert covered[True] / 200 == pytest.approx(0.9, abs=0.05)
    assert covered[False] / 200 < 0.7


def test_a_split_without_drawn_groups_is_left_out() -> None:
    ones, zeros = [np.ones((1, 3)), np.ones((1, 1))], [np.zeros((1, 3)), np.zeros((1, 1))]
    assert paired_bootstrap(ones, zeros, group_N=[np.arange(3), np.array([3])]) == Interval(1.0, 1.0, 1.0)


def test_groups_of_other_clips_are_refused() -> None:
    with pytest.raises(ValueError, match="group"):
        paired_bootstrap(np.zeros((1, 3)), np.zeros((1, 3)), group_N=np.arange(2))


@pytest.mark.parametrize("confidence", [0.0, 1.0])
def test_a_confidence_that_is_none_is_refused(confidence: float) -> None:
    with pytest.raises(ValueError, match="confidence"):
        seed_interval([1.0, 2.0], confidence)
    with pytest.raises(ValueError, match="confidence"):
        paired_bootstrap(np.zeros((1, 2)), np.zeros((1, 2)), confidence=confidence)


def test_an_interval_of_no_values_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        seed_interval([])
