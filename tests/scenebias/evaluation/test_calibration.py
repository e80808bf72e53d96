"""The expected calibration error, restated clip by clip, and where it is known."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scenebias.evaluation.accuracy import Evaluation
from scenebias.evaluation.calibration import expected_calibration_error


def restated(evaluation: Evaluation, bins: int) -> float:
    """Bin by bin, with the bins' edges as the paper has them."""
    error = 0.0
    for number in range(bins):
        inside = [
            (probability_A.max(), probability_A.argmax() == label)
            for probability_A, label in zip(evaluation.probability_NA, evaluation.label_N, strict=True)
            if number / bins < probability_A.max() <= (number + 1) / bins
        ]
        if inside:
            confidence, right = np.mean([pair[0] for pair in inside]), np.mean([pair[1] for pair in inside])
            error += len(inside) / len(evaluation.label_N) * abs(right - confidence)
    return error


@given(seed=st.integers(0, 2**32 - 1), clips=st.integers(1, 60), bins=st.integers(1, 20))
def test_it_is_the_paper_s_sum_over_bins(seed: int, clips: int, bins: int) -> None:
    random = np.random.default_rng(seed)
    evaluation = Evaluation(random.dirichlet(np.full(4, 0.5), clips), random.integers(0, 4, clips))
    assert expected_calibration_error(evaluation, bins) == pytest.approx(restated(evaluation, bins), abs=1e-12)


def test_who_is_sure_and_right_has_none_and_who_is_sure_and_wrong_all() -> None:
    label_N = np.arange(4)
    assert expected_calibration_error(Evaluation(np.eye(4), label_N)) == 0
    assert expected_calibration_error(Evaluation(np.eye(4), (label_N + 1) % 4)) == 1
    uniform = Evaluation(np.full((4, 4), 0.25), label_N)
    assert expected_calibration_error(uniform) == pytest.approx(0)
    assert not math.isnan(expected_calibration_error(uniform, 1))
