"""The scene bias of a data set: how much its scenes alone tell of its actions."""

import math
from dataclasses import dataclass

import numpy as np

from scenebias.data.datasets import require_scenes
from scenebias.evaluation.softmax_regression import SoftmaxRegression, fit_softmax_regression
from shards.dataset import ShardDataset


@dataclass(frozen=True)
class SceneBias:
    """Scene bias of a data set: Li et al., "RESOUND", ECCV 2018, equation 1, with scenes as in Choi et al. 2019.

    0 means that scenes say nothing of the action; UCF101 has ln(0.597 / (1 / 101)) = 4.10.
    """

    accuracy: float
    """M(D, φ_scene): share of the test clips whose action a softmax regression reads from their scene vector alone."""
    chance: float
    """M_rand: 1 / number of actions."""

    @property
    def bias(self) -> float:
        """ln(accuracy / chance)."""
        return math.log(max(self.accuracy, 1e-12) / self.chance)


def scene_bias(classifier: SoftmaxRegression, scene_NS: np.ndarray, label_N: np.ndarray, actions: int) -> SceneBias:
    """The bias that a ``classifier``, fitted on the training part, finds in N other clips: scene vectors and labels."""
    return SceneBias(classifier.accuracy(scene_NS, label_N), 1 / actions)


def measure_dataset(train: ShardDataset, val: ShardDataset) -> SceneBias:
    """The scene bias of ``val``, with a classifier fitted on ``train``; UserError where a clip has no scene vector."""
    actions = len(train.manifest.classes)
    classifier = fit_softmax_regression(require_scenes(train), train.labels, actions)
    return scene_bias(classifier, require_scenes(val), val.labels, actions)
