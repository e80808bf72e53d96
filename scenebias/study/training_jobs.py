"""The jobs that most of the study's time goes to: pretrain, and transfer what was learned.

Both train by the recipe "small", in which a job changes what its data ask for.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dali_pipelines import ClipConfig
from scenebias.pretrain import PretrainConfig
from scenebias.pretrain import main as pretrain
from scenebias.run_folder.folder import RunFolder
from scenebias.study.arms import Method
from scenebias.study.jobs import Cost, cost_added
from scenebias.training.recipes import PRETRAIN_RECIPES, SMALL_CLIP, TRANSFER_RECIPES
from scenebias.transfer.run import TransferRunConfig, run_transfer

_RUN, _COST = "run", "cost.json"


@dataclass(frozen=True, kw_only=True)
class TrainingJob(ABC):
    """What pretraining and transfer have in common: one run in a folder, and how long it took."""

    folder: Path
    train: Path
    """Packed data set to train on."""
    val: Path
    """Packed data set to evaluate on after every epoch."""
    epochs: int
    clip: ClipConfig = SMALL_CLIP
    seed: int
    """Decides the initial weights, the order of the clips and their augmentation."""

    @property
    def run_folder(self) -> Path:
        """Where the training run writes."""
        return self.folder / _RUN

    @property
    def weights(self) -> Path:
        """What it leaves."""
        return RunFolder(self.run_folder).weights

    @property
    def is_done(self) -> bool:
        return RunFolder(self.run_folder).is_complete

    @property
    def cost(self) -> Cost:
        """What it took so far."""
        return Cost.read(self.folder / _COST)

    def run(self) -> None:
        with cost_added(self.folder / _COST):
            self.train_model()

    @abstractmethod
    def train_model(self) -> None:
        """Train into `run_folder`, or go on with it, or find it finished."""

    def options(self, recipe: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of a run's configuration, from the ``recipe`` "small" of its command."""
        optimization = recipe["optimization"]
        return {
            **recipe,
            "recipe": "small",
            "train": str(self.train),
            "val": str(self.val),
            "out": self.run_folder,
            "clip": self.clip,
            "schedule": replace(recipe["schedule"], epochs=self.epochs, seed=self.seed),
            "optimization": replace(optimization, warmup_epochs=min(optimization.warmup_epochs, self.epochs / 4)),
        }


@dataclass(frozen=True, kw_only=True)
class PretrainJob(TrainingJob):
    """Pretrain a network from random weights."""

    method: Method

    def train_model(self) -> None:
        options = self.options(PRETRAIN_RECIPES["small"])
        pretrain(PretrainConfig(objective=self.method.objective, compose=self.method.compose, **options))


@dataclass(frozen=True, kw_only=True)
class TransferJob(TrainingJob):
    """Tune to other classes, with a new head."""

    start: Path | None
    """Pretrained weights; None: random ones."""
    head_only: bool = False
    """Train the new head alone."""

    def train_model(self) -> None:
        options = self.options(TRANSFER_RECIPES["small"])
        run_transfer(TransferRunConfig(weights=self.start, head_only=self.head_only, **options))
