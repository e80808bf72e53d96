"""Calibration: whether a model is right as often as it says it is."""

import numpy as np

from scenebias.evaluation.accuracy import Evaluation

BINS = 15


def expected_calibration_error(evaluation: Evaluation, bins: int = BINS) -> float:
    """Σ_b |B_b| / N · |accuracy(B_b) - confidence(B_b)|, 0 to 1, over bins of equal width of the confidence.

    Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, equation 3, with their 15 bins. The confidence is
    the probability of the predicted class; bin b of m holds those in ((b - 1) / m, b / m].
    """
    confidence_N = evaluation.probability_NA.max(axis=1)
    right_N = evaluation.prediction_N == evaluation.label_N
    bin_N = np.clip(np.ceil(bins * confidence_N).astype(np.int64), 1, bins) - 1
    difference_B = np.bincount(bin_N, right_N - confidence_N, minlength=bins)
    return float(np.abs(difference_B).sum() / len(right_N))
