"""``python -m scenebias.bias``: the scene bias of a data set, from its scene vectors."""

import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from scenebias.commands import run_command, write_output
from scenebias.datasets import RemoteConfig, open_pair, require_scenes
from scenebias.softmax_regression import SoftmaxRegression, fit_softmax_regression


@dataclass(frozen=True)
class BiasConfig:
    """Which data sets to compare."""

    train: str
    """Packed data set that the scene classifier is fitted on: a folder, or its URL."""
    val: str
    """Packed data set that it is tested on."""
    json: Path | None = None
    """Also write the numbers to this file."""
    remote: RemoteConfig = field(default_factory=RemoteConfig)


@dataclass(frozen=True)
class SceneBias:
    """Scene bias of a data set: Li et al., "RESOUND", ECCV 2018, equation 1, with scenes as in Choi et al. 2019.

    ``bias`` = ln(``accuracy`` / ``chance``): ``accuracy`` M(D, φ_scene) is the share of test clips whose action a
    softmax regression reads from their scene vector alone, ``chance`` M_rand is 1 / number of actions. 0 means that
    scenes say nothing of the action; UCF101 has ln(0.597 / (1 / 101)) = 4.10.
    """

    accuracy: float
    chance: float

    @property
    def bias(self) -> float:
        return math.log(max(self.accuracy, 1e-12) / self.chance)


def scene_bias(classifier: SoftmaxRegression, scene_NS: np.ndarray, label_N: np.ndarray, actions: int) -> SceneBias:
    """The bias that a ``classifier``, fitted on the training part, finds in N other clips: scene vectors and labels."""
    return SceneBias(classifier.accuracy(scene_NS, label_N), 1 / actions)


def main(config: BiasConfig) -> None:
    """Scene bias of a data set: how well its scenes alone tell the action (RESOUND; Choi et al. 2019)."""
    train, val = open_pair(config.train, config.val, config.remote)
    actions = len(train.manifest.classes)
    classifier = fit_softmax_regression(require_scenes(train), train.labels, actions)
    result = scene_bias(classifier, require_scenes(val), val.labels, actions)
    table = Table("measure", "value", title=f"Scene bias of {train.manifest.dataset}")
    table.add_row("M(D, scene): action from the scene vector", f"{100 * result.accuracy:.1f} %")
    table.add_row("chance", f"{100 * result.chance:.1f} %")
    table.add_row("B_scene = ln(M / chance)", f"{result.bias:.2f}")
    Console().print(table)
    if config.json is not None:
        write_output(config.json, {"accuracy": result.accuracy, "chance": result.chance, "bias": result.bias})


if __name__ == "__main__":
    run_command(main, BiasConfig)
