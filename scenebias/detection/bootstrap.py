"""How far a difference of two mAPs can be trusted, over the choice of the test videos.

Shape suffixes: V videos, C classes.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from scenebias.detection.average_precision import Matches
from scenebias.evaluation.statistics import Interval


def paired_bootstrap_of_maps(
    matches_a: Matches | Sequence[Matches],
    matches_b: Matches | Sequence[Matches],
    *,
    seed: int = 0,
    resamples: int = 1000,
    confidence: float = 0.95,
) -> Interval:
    """Difference of two models' mAP, a's minus b's, with an interval for the choice of the test videos.

    Each model's is the mean over its thresholds (`Matches.at` chooses them) and over its runs, whose number may differ.
    The V videos are drawn anew, V of V with replacement, ``resamples`` times, for all runs of both at once, each with
    all of its truth and detections; the interval is the percentile one of `statistics.paired_bootstrap`. Classes
    without truth in a draw do not count in it.

    Raises:
        ValueError: they are not of the same videos and truth, there are none, or a confidence outside (0, 1).
    """
    runs_a, runs_b = ([m] if isinstance(m, Matches) else list(m) for m in (matches_a, matches_b))
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie in (0, 1), got {confidence}")
    if not runs_a or not runs_b or not len(runs_a[0].truth_VC):
        raise ValueError("a and b must be of one or more runs on one or more videos")
    truth_VC = runs_a[0].truth_VC
    if not all(np.array_equal(run.truth_VC, truth_VC) for run in (*runs_a, *runs_b)):
        raise ValueError("a and b must be of the same videos with the same truth")
    from scipy.stats import bootstrap  # its import takes long

    def difference(*drawn: NDArray[np.int64]) -> float:
        weight_V = np.bincount(drawn[0], minlength=len(truth_VC))
        a, b = (np.mean([run.mean_average_precision_K(weight_V) for run in runs]) for runs in (runs_a, runs_b))
        return float(np.nan_to_num(a - b))  # 0 in a draw without any truth

    # A single video can be drawn in one way only, which scipy refuses to do: two of it are the same population.
    video_V = np.arange(len(truth_VC)).repeat(1 + (len(truth_VC) == 1))
    found = bootstrap(
        [video_V],
        difference,
        n_resamples=resamples,
        vectorized=False,
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    low, high = found.confidence_interval
    return Interval(difference(video_V), float(low), float(high))
