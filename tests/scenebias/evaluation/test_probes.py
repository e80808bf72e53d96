"""Probes: what they find, and what must not matter to them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scenebias.evaluation.probes import (
    LINEAR_PENALTIES,
    Probe,
    Standardisation,
    fit_linear_probe,
    fit_mlp_probe,
    held_out_rows,
)

FITS = pytest.mark.parametrize("fit", [fit_linear_probe, fit_mlp_probe])


def features(random: np.random.Generator, rows: int = 120, noise: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Of three classes, each of which raises a feature of its own; three more features say nothing."""
    label_N = random.integers(0, 3, rows)
    return np.pad(2 * np.eye(3)[label_N], ((0, 0), (0, 3))) + random.normal(0, noise, (rows, 6)), label_N


@FITS
@given(seed=st.integers(0, 2**32 - 1), exponents=st.lists(st.floats(-6, 6), min_size=6, max_size=6))
@settings(max_examples=8)
def test_no_prediction_changes_with_the_unit_of_any_feature(fit, seed: int, exponents: list[float]) -> None:
    random = np.random.default_rng(seed)
    train_ND, label_N = features(random)
    test_ND, _ = features(random)
    factor_D = 10.0 ** np.array(exponents)
    wanted, got = fit(train_ND, label_N, 3), fit(factor_D * train_ND, label_N, 3)
    assert wanted.penalty == got.penalty
    assert np.array_equal(wanted.predict(test_ND), got.predict(factor_D * test_ND))


@FITS
def test_features_of_any_scale_are_read_alike_well(fit) -> None:
    random = np.random.default_rng(0)
    (train_ND, label_N), (test_ND, test_label_N) = features(random, 300, 0.3), features(random, 300, 0.3)
    for factor in (1e-4, 0.1, 1, 1e4):
        assert (fit(factor * train_ND, label_N, 3).predict(factor * test_ND) == test_label_N).mean() > 0.95


@FITS
def test_constant_features_and_rows_without_weight_count_nothing(fit) -> None:
    random = np.random.default_rng(1)
    feature_ND, label_N = features(random)
    plain = fit(feature_ND, label_N, 3)
    constant_ND = np.insert(feature_ND, 2, 1e6, axis=1)
    assert np.array_equal(fit(constant_ND, label_N, 3).predict(constant_ND), plain.predict(feature_ND))
    more_ND, more_N = np.vstack([feature_ND, 1e3 * feature_ND]), np.concatenate([label_N, (label_N + 1) % 3])
    weight_N = np.repeat([1.0, 0.0], len(label_N))
    assert np.array_equal(fit(more_ND, more_N, 3, weight_N).predict(feature_ND), plain.predict(feature_ND))


@FITS
def test_where_no_feature_varies_the_commonest_class_is_said(fit) -> None:
    label_N = np.array([0] * 5 + [2] * 15)
    assert fit(np.full((20, 4), 0.1), label_N, 3).predict(np.zeros((2, 4))).tolist() == [2, 2]


def test_the_hidden_layer_reads_what_no_line_separates() -> None:
    random = np.random.default_rng(0)
    feature_ND = random.normal(size=(800, 2))
    label_N = (feature_ND.prod(axis=1) > 0).astype(np.int64)
    train, test = slice(0, 500), slice(500, 800)

    def accuracy(probe: Probe) -> float:
        return float((probe.predict(feature_ND[test]) == label_N[test]).mean())

    assert accuracy(fit_linear_probe(feature_ND[train], label_N[train], 2)) < 0.65
    assert accuracy(fit_mlp_probe(feature_ND[train], label_N[train], 2)) > 0.9


@FITS
def test_the_same_rows_give_the_same_probe_and_leave_other_draws_alone(fit) -> None:
    feature_ND, label_N = features(np.random.default_rng(2))
    torch.manual_seed(3)
    wanted = torch.rand(3)
    torch.manual_seed(3)
    first = fit(feature_ND, label_N, 3)
    assert torch.equal(torch.rand(3), wanted)
    assert np.array_equal(
        first.classifier(np.ones((1, 6), np.float32)),
        fit(feature_ND, label_N, 3).classifier(np.ones((1, 6), np.float32)),
    )


def test_noise_asks_for_a_stronger_penalty_than_what_is_plain() -> None:
    random = np.random.default_rng(0)
    plain_ND, label_N = features(random, 200, 0.1)
    noisy_ND = np.hstack([plain_ND, random.normal(size=(200, 300))]) + random.normal(0, 3, (200, 306))
    assert fit_linear_probe(noisy_ND, label_N, 3).penalty > fit_linear_probe(plain_ND, label_N, 3).penalty
    assert fit_linear_probe(random.normal(size=(200, 300)), label_N, 3).penalty >= LINEAR_PENALTIES[1]


@given(label=st.lists(st.integers(0, 5), min_size=1, max_size=80))
def test_a_fifth_of_every_class_is_held_out_and_never_all_of_it(label: list[int]) -> None:
    label_N = np.array(label)
    held_out_N = held_out_rows(label_N)
    for one in np.unique(label_N):
        count, held_out = (label_N == one).sum(), held_out_N[label_N == one].sum()
        assert held_out == (0 if count == 1 else max(1, round(0.2 * count)))
        assert held_out < count


def test_standardised_features_have_mean_0_and_deviation_1_by_weight() -> None:
    random = np.random.default_rng(0)
    feature_ND, weight_N = random.normal(3, [1, 20, 1e-5], (50, 3)), random.random(50)
    weight_N /= weight_N.sum()
    x_ND = Standardisation.of(feature_ND, weight_N)(feature_ND)
    for column in x_ND.T:
        mean = sum(w * x for w, x in zip(weight_N, column, strict=True))
        variance = sum(w * (x - mean) ** 2 for w, x in zip(weight_N, column, strict=True))
        assert mean == pytest.approx(0, abs=1e-6)
        assert variance == pytest.approx(1, abs=1e-5)
