"""How much a model leans on the scene.

Shape suffixes: N clips, S scene categories, D features.
"""

from dataclasses import dataclass

import numpy as np

from scenebias.evaluation import Evaluation
from scenebias.softmax_regression import fit_softmax_regression


def swap_to_scene_rate(evaluation: Evaluation, scene_action_N: np.ndarray) -> float:
    """Share of the clips of a conflicting scene on which the model predicts the action that goes with the scene.

    ``scene_action_N`` (int64) is that action. Clips whose own action goes with their scene tell nothing and are left
    out; with none left the rate is undefined (NaN).
    """
    conflicting_N = scene_action_N != evaluation.label_N
    if not conflicting_N.any():
        return float("nan")
    return float((evaluation.prediction_N == scene_action_N)[conflicting_N].mean())


@dataclass(frozen=True)
class SceneProbe:
    """What a linear probe reads of the scene: ``accuracy``, against ``chance`` (the share of the commonest scene)."""

    accuracy: float
    chance: float


def scene_probe(
    train_feature_ND: np.ndarray, train_scene_NS: np.ndarray, test_feature_ND: np.ndarray, test_scene_NS: np.ndarray
) -> SceneProbe:
    """Accuracy of a softmax regression from frozen features to the likeliest scene category.

    Give it clips on which action and scene are independent: otherwise a probe finds the scene through the action.
    """
    category_S, train_label_N = np.unique(train_scene_NS.argmax(axis=1), return_inverse=True)
    probe = fit_softmax_regression(train_feature_ND, train_label_N, len(category_S))
    test_category_N = test_scene_NS.argmax(axis=1)
    return SceneProbe(
        accuracy=float((category_S[probe.predict(test_feature_ND)] == test_category_N).mean()),
        chance=float(np.unique(test_category_N, return_counts=True)[1].max() / len(test_category_N)),
    )
