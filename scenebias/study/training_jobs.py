"""The jobs that most of the study's time goes to: pretrain, and transfer what was learned."""

from dataclasses import dataclass
from pathlib import Path

from scenebias.run_folder.folder import RunFolder
from scenebias.study.jobs import Cost, cost_added
from scenebias.study.recipe import Recipe, pretrain_run, transfer_run
from scenebias.training.objective import ObjectiveConfig

_RUN, _COST = "run", "cost.json"


@dataclass(frozen=True)
class Training:
    """What pretraining and transfer have in common: one run in a folder, and how long it took."""

    folder: Path
    train: Path
    val: Path
    recipe: Recipe
    seed: int

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

    def train_model(self) -> None:
        raise NotImplementedError


@dataclass(frozen=True)
class Pretraining(Training):
    """Pretrain a network from random weights."""

    objective: ObjectiveConfig

    def train_model(self) -> None:
        pretrain_run(self.run_folder, self.train, self.val, self.recipe, self.objective, self.seed)


@dataclass(frozen=True)
class Transfer(Training):
    """Fine-tune all layers of pretrained weights, or of random ones (None), on other classes."""

    start: Path | None

    def train_model(self) -> None:
        transfer_run(self.run_folder, self.train, self.val, self.recipe, self.start, self.seed)
