"""How far a measured mean can be trusted: intervals over few seeds, and over the clips that models were tested on.

Shape suffixes: S splits, R runs (seeds), N test clips, G groups of them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.special import stdtrit

_DRAWN_AT_ONCE = 1 << 22
"""Values of resampled clips in memory at a time."""


@dataclass(frozen=True)
class Interval:
    """A mean with its confidence interval, in the unit of the values."""

    mean: float
    low: float
    high: float
    """NaN, as ``low``, where the interval is unknown."""


def seed_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Mean of n independent runs with Student's interval: mean ± t · s / √n.

    s is the standard deviation of the values, with n - 1 in its denominator, and t the (1 + ``confidence``) / 2
    quantile of Student's t distribution with n - 1 degrees of freedom (Student, "The probable error of a mean",
    Biometrika 6, 1908): it covers the mean of normally distributed values with that probability at any n. The
    interval of one value is unknown.

    Raises:
        ValueError: no values, or a confidence outside (0, 1).
    """
    _check_confidence(confidence)
    if len(values) == 0:
        raise ValueError("values must hold at least one number")
    mean = float(np.mean(values))
    if len(values) == 1:
        return Interval(mean, math.nan, math.nan)
    t = stdtrit(len(values) - 1, (1 + confidence) / 2)
    half_width = float(t * np.std(values, ddof=1) / math.sqrt(len(values)))
    return Interval(mean, mean - half_width, mean + half_width)


def clip_interval(correct_N: np.ndarray, confidence: float = 0.95) -> Interval:
    """Accuracy on N test clips with Wilson's interval for the choice of those clips (bool, one or more).

    E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927). It says
    nothing of how much another seed would change.
    """
    from scipy.stats import binomtest  # its import takes long

    found = binomtest(int(np.sum(correct_N)), len(correct_N)).proportion_ci(confidence, method="wilson")
    return Interval(float(np.mean(correct_N)), float(found.low), float(found.high))


def paired_bootstrap(
    correct_a_RN: np.ndarray | Sequence[np.ndarray],
    correct_b_RN: np.ndarray | Sequence[np.ndarray],
    *,
    group_N: np.ndarray | Sequence[np.ndarray] | None = None,
    seed: int = 0,
    resamples: int = 10_000,
    confidence: float = 0.95,
) -> Interval:
    """Difference of two models' means, a's minus b's, with an interval for the choice of the test clips.

    Values (bool or float) are of the same N clips in both, R runs of each model, whose number may differ: a clip's
    difference is that of its means over the runs, d_N = mean_R(a) - mean_R(b), so all runs of a clip stay together.
    The clips are drawn anew, N of N with replacement, ``resamples`` times; the interval runs from the (1 -
    ``confidence``) / 2 quantile of the means of d to the (1 + ``confidence``) / 2 quantile: the percentile interval of
    Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), section 13.3, on paired data (section 8.4). It says
    nothing of how much other seeds would change; `seed_interval` does.

    Lists of S such arrays are splits, each drawn by itself; the difference is then the mean of the splits'. Where they
    share test clips the interval is a little too narrow: by up to 8 % for the three of HMDB51; UCF101's share none.

    ``group_N`` (N,) names the group of each clip, where some are not independent, as those of one video: G groups are
    drawn instead of the clips, G of G, each with all of its clips (Davison and Hinkley, "Bootstrap Methods and their
    Application", 1997, section 3.8, drawing clusters alone). For lists of arrays it is a list too, and a group that
    several splits have is drawn for all of them at once; a split in which none of the drawn groups is counts for
    nothing in that draw.

    Raises:
        ValueError: a and b are not of the same clips, the groups are not one for each of them, there are no clips, or
            a confidence outside (0, 1).
    """
    _check_confidence(confidence)
    splits_a, splits_b = _as_splits(correct_a_RN), _as_splits(correct_b_RN)
    clips_a, clips_b = ([len(split_N) for split_N in splits] for splits in (splits_a, splits_b))
    if clips_a != clips_b or 0 in clips_a or not clips_a:
        raise ValueError(f"a and b must be of the same clips, one or more in every split; got {clips_a} and {clips_b}")
    differences = [a_N - b_N for a_N, b_N in zip(splits_a, splits_b, strict=True)]
    populations, mean = differences, _mean_of_means
    if group_N is not None:
        groups = [group_N] if isinstance(group_N, np.ndarray) else group_N
        if [len(split_N) for split_N in groups] != clips_a:
            raise ValueError(f"group_N must name a group for every clip, {clips_a}; got {list(map(len, groups))}")
        clusters = _Clusters.of(differences, groups)
        populations, mean = [np.arange(clusters.count)], clusters.mean
    from scipy.stats import bootstrap  # its import takes long

    found = bootstrap(
        # A single one can be drawn in one way only, which scipy refuses to do: two of it are the same population.
        [population.repeat(1 + (len(population) == 1)) for population in populations],
        mean,
        n_resamples=resamples,
        batch=max(1, _DRAWN_AT_ONCE // max(map(len, populations))),
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    low, high = found.confidence_interval
    return Interval(float(mean(*populations)), float(low), float(high))


def _mean_of_means(*splits: np.ndarray, axis: int = -1) -> np.ndarray:
    return np.mean([split.mean(axis=axis) for split in splits], axis=0)


@dataclass(frozen=True)
class _Clusters:
    """The mean over splits of the means over the clips of some groups."""

    sum_SG: np.ndarray
    """Of the values of each group's clips in each split."""
    clips_SG: np.ndarray
    """How many they are."""

    @classmethod
    def of(cls, splits: Sequence[np.ndarray], groups: Sequence[np.ndarray]) -> Self:
        """Of the values (N,) of every split, and the group of each; numbered as they come."""
        number: dict[str | int, int] = {}
        numbers = [np.array([number.setdefault(group, len(number)) for group in of_N.tolist()]) for of_N in groups]
        count = len(number)
        sums = [np.bincount(of_N, value_N, count) for of_N, value_N in zip(numbers, splits, strict=True)]
        return cls(np.stack(sums), np.stack([np.bincount(of_N, minlength=count) for of_N in numbers]))

    @property
    def count(self) -> int:
        """How many groups there are."""
        return self.sum_SG.shape[1]

    def mean(self, *number: np.ndarray, axis: int = -1) -> np.ndarray:
        """Of the groups with the numbers in one int64 (..., G), along ``axis``, which is the last."""
        sums, clips = (np.take(of_SG, number[0], axis=1).sum(axis=axis) for of_SG in (self.sum_SG, self.clips_SG))
        means = np.divide(sums, clips, out=np.zeros(sums.shape), where=clips > 0)
        return means.sum(axis=0) / (clips > 0).sum(axis=0)


def _as_splits(values: np.ndarray | Sequence[np.ndarray]) -> list[np.ndarray]:
    """The mean over the runs of every clip (N,) in float64, split by split."""
    splits = [values] if isinstance(values, np.ndarray) else values
    return [np.atleast_2d(np.asarray(split_RN, dtype=np.float64)).mean(axis=0) for split_RN in splits]


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie in (0, 1), got {confidence}")
