"""Accuracy where it is worst: on clips whose scene speaks for another action, and on single actions in single scenes.

Shape suffixes: N clips, G groups.
"""

from dataclasses import dataclass

import numpy as np

from scenebias.evaluation.accuracy import Evaluation

LEAST_GROUP_CLIPS = 5
"""The accuracy of fewer clips says nothing of their group."""


@dataclass(frozen=True)
class GroupAccuracy:
    """Of some clips."""

    top1: float
    """Share of them whose action is predicted, 0 to 1; NaN where there are none."""
    clips: int


def conflicting_accuracy(evaluation: Evaluation, scene_action_N: np.ndarray) -> GroupAccuracy:
    """Accuracy on the clips whose scene usually goes with another action, ``scene_action_N`` (int64).

    They are the bias-conflicting samples of Nam et al., "Learning from Failure", NeurIPS 2020.
    """
    right_N = (evaluation.prediction_N == evaluation.label_N)[scene_action_N != evaluation.label_N]
    return GroupAccuracy(float(right_N.mean()) if len(right_N) else float("nan"), len(right_N))


def worst_group(evaluation: Evaluation, scene_N: np.ndarray, least_clips: int = LEAST_GROUP_CLIPS) -> GroupAccuracy:
    """The lowest accuracy of all groups of clips of one action in one scene category, ``scene_N`` (int64).

    Groups of fewer than ``least_clips`` clips are left out; of equally bad ones, the largest is told. Worst-group
    accuracy: Sagawa et al., "Distributionally Robust Neural Networks for Group Shifts", ICLR 2020.
    """
    _, group_N = np.unique(np.stack([evaluation.label_N, scene_N]), axis=1, return_inverse=True)
    count_G = np.bincount(group_N.ravel())
    right_G = np.bincount(group_N.ravel(), evaluation.prediction_N == evaluation.label_N)
    large_G = np.flatnonzero(count_G >= least_clips)
    if not len(large_G):
        return GroupAccuracy(float("nan"), 0)
    top1, clips = min((right_G[group] / count_G[group], -count_G[group]) for group in large_G)
    return GroupAccuracy(float(top1), int(-clips))
