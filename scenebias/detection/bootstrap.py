"""How far a difference of two mAPs can be trusted, over the choice of the test videos.

Shape suffixes: V videos, D draws of them.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from scenebias.detection.average_precision import Matches
from scenebias.statistics.intervals import Interval

_DRAWN_AT_ONCE = 250


def paired_bootstrap_of_maps(
    splits_a: Sequence[Sequence[Matches]],
    splits_b: Sequence[Sequence[Matches]],
    *,
    seed: int = 0,
    resamples: int = 1000,
    confidence: float = 0.95,
) -> Interval:
    """Difference of two models' mAP, a's minus b's, with an interval for the choice of the test videos.

    Of each model there are, for every split, the matches of one or more runs, whose number may differ. Its mAP is the
    mean over the thresholds (`Matches.at` chooses them), over the runs, and over the splits. The V videos of a split
    are drawn anew, V of V with replacement, ``resamples`` times, for all runs of both at once, each with all of its
    truth and detections; the interval is the percentile one of `statistics.paired_bootstrap`. Classes without truth in
    a draw do not count in it, and a split without any is no difference.

    Raises:
        ValueError: they are not of the same videos and truth, there are none, or a confidence outside (0, 1).
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie in (0, 1), got {confidence}")
    if not splits_a or len(splits_a) != len(splits_b):
        raise ValueError(f"a and b must be of as many splits, one or more; got {len(splits_a)} and {len(splits_b)}")
    pairs = list(zip(splits_a, splits_b, strict=True))
    for runs_a, runs_b in pairs:
        if not runs_a or not runs_b or not len(runs_a[0].truth_VC):
            raise ValueError("a and b must be of one or more runs on one or more videos")
        if not all(np.array_equal(run.truth_VC, runs_a[0].truth_VC) for run in (*runs_a, *runs_b)):
            raise ValueError("a and b must be of the same videos with the same truth")
    from scipy.stats import bootstrap  # its import takes long

    def difference(*drawn: NDArray[np.int64], axis: int = -1) -> NDArray[np.float64]:
        return np.mean([_difference(*pair, numbers) for pair, numbers in zip(pairs, drawn, strict=True)], axis=0)

    videos = [np.arange(len(runs_a[0].truth_VC)) for runs_a, _ in pairs]
    found = bootstrap(
        # A single video can be drawn in one way only, which scipy refuses to do: two of it are the same population.
        [video_V.repeat(1 + (len(video_V) == 1)) for video_V in videos],
        difference,
        n_resamples=resamples,
        batch=_DRAWN_AT_ONCE,
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    low, high = found.confidence_interval
    return Interval(float(difference(*videos)), float(low), float(high))


def _difference(
    runs_a: Sequence[Matches], runs_b: Sequence[Matches], number_DV: NDArray[np.int64]
) -> NDArray[np.float64]:
    """The difference of the means over runs and thresholds, in the draws ``number_DV`` (..., V) of a split's videos."""
    videos = len(runs_a[0].truth_VC)
    draws = np.atleast_2d(number_DV)
    weight_VD = np.stack([np.bincount(number_V, minlength=videos) for number_V in draws], axis=1)
    a_D, b_D = (
        np.mean([run.mean_average_precision_KD(weight_VD).mean(axis=0) for run in runs], axis=0)
        for runs in (runs_a, runs_b)
    )
    return np.nan_to_num(a_D - b_D).reshape(number_DV.shape[:-1])
