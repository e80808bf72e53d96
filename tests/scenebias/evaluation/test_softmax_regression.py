"""Softmax regression against cases with a known answer."""

import numpy as np
import pytest

from scenebias.evaluation.softmax_regression import fit_softmax_regression


def test_on_one_hot_features_it_learns_the_commonest_class_of_each() -> None:
    counts_FC = np.array([[9, 1, 0], [2, 7, 1], [1, 3, 6]])
    feature_N = np.repeat(np.repeat(np.arange(3), 3), counts_FC.ravel())
    label_N = np.repeat(np.tile(np.arange(3), 3), counts_FC.ravel())
    regression = fit_softmax_regression(np.eye(3)[feature_N], label_N, 3)
    assert regression.predict(np.eye(3)).tolist() == [0, 1, 2]
    assert regression.accuracy(np.eye(3)[feature_N], label_N) == pytest.approx((9 + 7 + 6) / 30)


def test_two_classes_without_penalty_match_the_closed_form_log_odds() -> None:
    label_N = np.array([1] * 3 + [0] * 1 + [1] * 1 + [0] * 4)
    feature_N1 = np.array([[1.0]] * 4 + [[0.0]] * 5)
    fit = fit_softmax_regression(feature_N1, label_N, 2, penalty=0.0)
    slope = fit.weight_DC[0, 1] - fit.weight_DC[0, 0]
    intercept = fit.bias_C[1] - fit.bias_C[0]
    assert intercept == pytest.approx(np.log(1 / 4), abs=1e-4)
    assert intercept + slope == pytest.approx(np.log(3 / 1), abs=1e-4)


def test_unit_and_offset_of_the_features_change_no_prediction() -> None:
    random = np.random.default_rng(0)
    feature_ND, label_N = random.normal(size=(200, 5)), random.integers(0, 4, 200)
    a = fit_softmax_regression(feature_ND, label_N, 4).predict(feature_ND)
    b = fit_softmax_regression(1000 * feature_ND + 7, label_N, 4).predict(1000 * feature_ND + 7)
    assert np.array_equal(a, b)


def test_a_weight_counts_as_so_many_copies_of_the_row() -> None:
    random = np.random.default_rng(0)
    feature_ND, label_N, copies_N = random.normal(size=(50, 3)), random.integers(0, 3, 50), random.integers(1, 5, 50)
    feature_ND -= np.average(feature_ND, axis=0, weights=copies_N)
    repeated = (np.repeat(feature_ND, copies_N, axis=0), np.repeat(label_N, copies_N))
    weighted = fit_softmax_regression(feature_ND, label_N, 3, penalty=0, weight_N=copies_N)
    copied = fit_softmax_regression(*repeated, 3, penalty=0)
    np.testing.assert_allclose(np.diff(weighted.weight_DC), np.diff(copied.weight_DC), atol=1e-3)
    np.testing.assert_allclose(np.diff(weighted.bias_C), np.diff(copied.bias_C), atol=1e-3)
    assert weighted.accuracy(feature_ND, label_N, copies_N) == pytest.approx(weighted.accuracy(*repeated))
