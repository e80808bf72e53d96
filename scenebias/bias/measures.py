"""How much a model leans on the scene: formulas on predictions and features.

Shape suffixes: N clips, S scene categories, D features.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from scenebias.evaluation.accuracy import Evaluation
from scenebias.evaluation.probes import Probe, fit_linear_probe, fit_mlp_probe


def swap_to_scene_rate(evaluation: Evaluation, scene_action_N: np.ndarray) -> float:
    """Share of the clips of a conflicting scene on which the model predicts the action that goes with the scene.

    ``scene_action_N`` (int64) is that action. Clips whose own action goes with their scene tell nothing and are left
    out; with none left the rate is undefined (NaN).
    """
    conflicting_N = scene_action_N != evaluation.label_N
    if not conflicting_N.any():
        return float("nan")
    return float((evaluation.prediction_N == scene_action_N)[conflicting_N].mean())


def background_error(swapped: Evaluation, background_label_N: np.ndarray) -> float:
    """Share of the action-swapped clips on which the model predicts the action of the clip that lent the background.

    "The error caused by the background" of HAT (Chung et al., "Enabling Detailed Action Recognition Evaluation Through
    Video Dataset Augmentation", NeurIPS 2022), as the README of its code, princetonvisualai/HAT, says it: predictions
    on action-swapped clips that are the class of the background's video, ``background_label_N`` (int64). It is an error
    as the background is of another action; so this raises ValueError where it is not.
    """
    if (background_label_N == swapped.label_N).any():
        raise ValueError("background_label_N must differ from the clips' own labels")
    return float((swapped.prediction_N == background_label_N).mean())


def contrasted_accuracy(swapped: Evaluation, still: Evaluation) -> float:
    """Share of the clips that a model gets right on a swapped background and wrong when nothing moves.

    Contrasted accuracy of Li et al., "Mitigating and Evaluating Static Bias of Action Representations in the Background
    and the Foreground", ICCV 2023 (arXiv 2211.12883): right on the SCUBA clip and wrong on the SCUFO clip, one frame of
    it repeated. Who is right on both has not needed the motion.
    """
    return float(((swapped.prediction_N == swapped.label_N) & (still.prediction_N != still.label_N)).mean())


@dataclass(frozen=True)
class SceneProbe:
    """What probes read of the scene; shares, 0 to 1."""

    accuracy: float
    """Of the linear one."""
    mlp_accuracy: float
    """Of the one with a hidden layer."""
    chance: float
    """The share of the commonest scene."""


def scene_probe(
    train_feature_ND: np.ndarray,
    train_scene_NS: np.ndarray,
    test_feature_ND: np.ndarray,
    test_scene_NS: np.ndarray,
    *,
    train_weight_N: np.ndarray | None = None,
    test_weight_N: np.ndarray | None = None,
) -> SceneProbe:
    """Accuracy of probes (`fit_linear_probe`, `fit_mlp_probe`) from frozen features to the likeliest scene category.

    Give it clips on which action and scene are independent, by design or by weights (see `FullGrid`): otherwise a probe
    finds the scene through the action. Linear probes: Alain and Bengio, "Understanding intermediate layers using linear
    classifier probes", ICLR 2017 workshop.
    """
    category_S, train_label_N = np.unique(train_scene_NS.argmax(axis=1), return_inverse=True)
    test_category_N = test_scene_NS.argmax(axis=1)
    weight_N = np.ones(len(test_category_N)) if test_weight_N is None else test_weight_N

    def accuracy(fit: Callable[..., Probe]) -> float:
        probe = fit(train_feature_ND, train_label_N, len(category_S), train_weight_N)
        return float(np.average(category_S[probe.predict(test_feature_ND)] == test_category_N, weights=weight_N))

    return SceneProbe(
        accuracy=accuracy(fit_linear_probe),
        mlp_accuracy=accuracy(fit_mlp_probe),
        chance=float(np.bincount(test_category_N, weight_N).max() / weight_N.sum()),
    )
