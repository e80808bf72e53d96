"""The interval of a difference of mAPs, beside resampling written out."""

import numpy as np
import pytest

from scenebias.detection.average_precision import Matches
from scenebias.detection.bootstrap import paired_bootstrap_of_maps
from scenebias.detection.comparing import match_segments
from tests.scenebias.detection.reference import Segment, Video, tensors

TRUTH: list[Video] = [[Segment(10 * n, 10 * n + 8, n % 2) for n in range(4)] for _ in range(12)]


def matched(found: list[Video], truth: list[Video] = TRUTH) -> Matches:
    return match_segments(
        [tensors(video, scored=True) for video in found],
        [tensors(video, scored=False) for video in truth],
        2,
        (0.3, 0.5),
    )


def noisy(seed: int, shift: int) -> list[Video]:
    """True segments, moved by up to ``shift``."""
    random = np.random.default_rng(seed)
    return [
        [
            Segment(one.start + moved, one.end + moved, one.label, int(random.integers(100)))
            for one in video
            for moved in [int(random.integers(0, shift + 1))]
        ]
        for video in TRUTH
    ]


def test_the_interval_is_that_of_resampled_videos() -> None:
    a, b = noisy(0, 4), noisy(1, 7)
    interval = paired_bootstrap_of_maps([[matched(a)]], [[matched(b)]], resamples=300)
    random = np.random.default_rng(1)
    differences = []
    for _ in range(300):
        drawn = random.integers(12, size=12)
        maps = [matched([found[v] for v in drawn], [TRUTH[v] for v in drawn]) for found in (a, b)]
        differences.append(maps[0].mean_average_precision - maps[1].mean_average_precision)
    assert interval.mean == pytest.approx(matched(a).mean_average_precision - matched(b).mean_average_precision)
    assert interval.low == pytest.approx(np.quantile(differences, 0.025), abs=0.03)
    assert interval.high == pytest.approx(np.quantile(differences, 0.975), abs=0.03)
    assert interval.low < interval.mean < interval.high


def test_a_model_does_not_differ_from_itself() -> None:
    interval = paired_bootstrap_of_maps([[matched(noisy(0, 5))]], [[matched(noisy(0, 5))]], resamples=50)
    assert (interval.mean, interval.low, interval.high) == (0, 0, 0)


def test_runs_count_as_their_mean() -> None:
    runs = [matched(noisy(seed, 5)) for seed in range(3)]
    other = matched(noisy(5, 7))
    interval = paired_bootstrap_of_maps([runs], [[other]], resamples=50)
    expected = np.mean([run.mean_average_precision for run in runs]) - other.mean_average_precision
    assert interval.mean == pytest.approx(expected)


def test_splits_count_as_their_mean_and_are_drawn_by_themselves() -> None:
    """Two equal splits vary less than one: by √2 less."""
    a, b = matched(noisy(0, 4)), matched(noisy(1, 7))
    one = paired_bootstrap_of_maps([[a]], [[b]], resamples=300)
    two = paired_bootstrap_of_maps([[a], [a]], [[b], [b]], resamples=300)
    assert two.mean == pytest.approx(one.mean)
    assert (two.high - two.low) * 2**0.5 == pytest.approx(one.high - one.low, rel=0.2)


def test_one_video_and_draws_without_truth_are_no_error() -> None:
    a, b = matched(noisy(0, 0)[:1], TRUTH[:1]), matched([[]], TRUTH[:1])
    interval = paired_bootstrap_of_maps([[a]], [[b]], resamples=20)
    assert (interval.mean, interval.low, interval.high) == (1, 1, 1)
    mostly_empty = [TRUTH[0], [], []]
    a, b = matched([TRUTH[0], [], []], mostly_empty), matched([[], [], []], mostly_empty)
    assert paired_bootstrap_of_maps([[a]], [[b]], resamples=200).low == 0  # 8 of 27 draws have no truth


def test_other_truth_is_refused() -> None:
    with pytest.raises(ValueError, match="same videos"):
        paired_bootstrap_of_maps([[matched(TRUTH)]], [[matched(TRUTH[:3], TRUTH[:3])]])
    with pytest.raises(ValueError, match="one or more"):
        paired_bootstrap_of_maps([[]], [[matched(TRUTH)]])
    with pytest.raises(ValueError, match="as many splits"):
        paired_bootstrap_of_maps([[matched(TRUTH)]], [[matched(TRUTH)]] * 2)
    with pytest.raises(ValueError, match="confidence"):
        paired_bootstrap_of_maps([[matched(TRUTH)]], [[matched(TRUTH)]], confidence=1)
