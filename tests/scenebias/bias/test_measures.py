"""Bias measures of models, on cases with a known answer."""

import math

import numpy as np
import pytest

from scenebias.bias.measures import background_error, contrasted_accuracy, scene_probe, swap_to_scene_rate
from scenebias.evaluation.accuracy import Evaluation


def evaluation(prediction: list[int], label: list[int], actions: int = 4) -> Evaluation:
    return Evaluation(np.eye(actions)[prediction], np.array(label))


def test_swap_to_scene_counts_predictions_of_the_scene_s_action() -> None:
    measured = swap_to_scene_rate(evaluation([1, 0, 2, 3], [0, 0, 0, 0]), np.array([1, 1, 1, 3]))
    assert measured == pytest.approx(2 / 4)


def test_clips_on_their_usual_scene_tell_nothing() -> None:
    label = [0, 1, 2]
    assert swap_to_scene_rate(evaluation([0, 1, 3], label), np.array([0, 1, 3])) == 1.0
    assert math.isnan(swap_to_scene_rate(evaluation([0, 1, 2], label), np.array(label)))


def test_the_probe_finds_a_scene_that_is_in_the_features_and_none_that_is_not() -> None:
    random = np.random.default_rng(0)
    scene_N = random.choice([7, 99, 250], 600)
    scene_NS = 0.7 * np.eye(365)[scene_N] + 0.3 / 365
    telling_ND = np.eye(365)[scene_N][:, [7, 99, 250]] + random.normal(0, 0.1, (600, 3))
    silent_ND = random.normal(size=(600, 3))
    train, test = slice(0, 300), slice(300, 600)
    found = scene_probe(telling_ND[train], scene_NS[train], telling_ND[test], scene_NS[test])
    lost = scene_probe(silent_ND[train], scene_NS[train], silent_ND[test], scene_NS[test])
    assert min(found.accuracy, found.mlp_accuracy) > 0.99
    assert max(lost.accuracy, lost.mlp_accuracy) < 0.45
    assert found.chance == lost.chance == pytest.approx(np.bincount(scene_N[300:]).max() / 300)


def test_clips_without_weight_count_nothing_in_the_probe() -> None:
    """Of the training clips, those with wrong scenes; of the test clips, those with features of another scene."""
    random = np.random.default_rng(0)
    scene_N = np.arange(300) % 3
    weight_N = np.where(np.arange(300) % 2, 0.0, 1.0)
    shown_N = np.where(weight_N > 0, scene_N, (scene_N + 1) % 3)
    feature_ND = np.eye(3)[shown_N] + random.normal(0, 0.05, (300, 3))
    scene_NS = np.eye(365)[scene_N]
    right = feature_ND[weight_N > 0], scene_NS[weight_N > 0]
    kept = scene_probe(feature_ND, scene_NS, *right, train_weight_N=weight_N)
    assert kept.accuracy == kept.mlp_accuracy == 1
    few_N = weight_N * np.where(scene_N == 0, 1.0, 0.5)
    weighted = scene_probe(*right, feature_ND, scene_NS, test_weight_N=few_N)
    assert weighted.accuracy == 1
    assert weighted.chance == pytest.approx(0.5)
    assert scene_probe(*right, feature_ND, scene_NS).accuracy == pytest.approx(0.5)


def test_the_background_s_error_counts_predictions_of_the_class_of_its_clip() -> None:
    measured = background_error(evaluation([1, 0, 2, 3, 3], [0, 0, 0, 0, 0]), np.array([1, 1, 1, 3, 2]))
    assert measured == pytest.approx(2 / 5)


def test_a_background_of_the_clip_s_own_action_is_no_error() -> None:
    with pytest.raises(ValueError, match="background_label_N must differ"):
        background_error(evaluation([1, 0], [0, 0]), np.array([1, 0]))


def test_contrasted_accuracy_counts_what_is_right_moving_and_wrong_still() -> None:
    label = [0, 1, 2, 3]
    moving, frozen = evaluation([0, 1, 2, 0], label), evaluation([1, 1, 0, 0], label)
    assert contrasted_accuracy(moving, frozen) == pytest.approx(2 / 4)
    assert contrasted_accuracy(moving, moving) == 0


def test_with_weights_of_equal_cells_a_probe_cannot_find_the_scene_through_the_action() -> None:
    """Features that hold the action alone, on clips where the action tells the scene."""
    label_N = np.array([0] * 9 + [0] + [1] + [1] * 9)
    scene_N = np.array([0] * 9 + [1] + [0] + [1] * 9)
    weight_N = np.where(label_N == scene_N, 1 / 36, 1 / 4)
    feature_ND, scene_NS = np.eye(2)[label_N], np.eye(365)[scene_N]
    plain = scene_probe(feature_ND, scene_NS, feature_ND, scene_NS)
    balanced = scene_probe(feature_ND, scene_NS, feature_ND, scene_NS, train_weight_N=weight_N, test_weight_N=weight_N)
    assert plain.accuracy == pytest.approx(0.9)
    assert balanced.accuracy == balanced.mlp_accuracy == pytest.approx(0.5)
    assert balanced.chance == pytest.approx(0.5)
