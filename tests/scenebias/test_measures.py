"""Bias measures of models, on cases with a known answer."""

import math

import numpy as np
import pytest

from scenebias.evaluation import Evaluation
from scenebias.measures import scene_probe, swap_to_scene_rate


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
    assert found.accuracy > 0.99
    assert lost.accuracy < 0.45
    assert found.chance == lost.chance == pytest.approx(np.bincount(scene_N[300:]).max() / 300)
