"""How the study trains: a small network, from random weights, on small clips; what CPU cores can do in minutes."""

from dataclasses import dataclass
from pathlib import Path

from dali_pipelines import ClipConfig
from scenebias import pretrain
from scenebias.models.action_model import ModelConfig
from scenebias.models.backbones import BackboneName
from scenebias.pretrain import PretrainConfig
from scenebias.training.objective import ObjectiveConfig
from scenebias.training.optimization import OptimizationConfig
from scenebias.training.trainer import ScheduleConfig
from scenebias.transfer.run import TransferRunConfig, run_transfer

BACKBONE: BackboneName = "small3d"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What all arms of a world have in common."""

    epochs: int
    size: int
    learning_rate: float = 4e-3

    def clip(self) -> ClipConfig:
        # Every second frame: a window spans 16 frames at half the cost, and the stem sees more motion between two.
        return ClipConfig(frames=8, stride=2, size=self.size, scales=(1.0, 0.84))

    def optimization(self) -> OptimizationConfig:
        return OptimizationConfig(
            optimizer="adamw",
            learning_rate=self.learning_rate,
            weight_decay=0.01,
            warmup_epochs=min(2.0, self.epochs / 4),
            schedule="cosine",
        )


def pretrain_run(out: Path, train: Path, val: Path, recipe: Recipe, objective: ObjectiveConfig, seed: int) -> None:
    """Pretrain into ``out``, or go on with it, or find it finished."""
    pretrain.main(
        PretrainConfig(
            train=str(train),
            val=str(val),
            out=out,
            loader_threads=1,
            clip=recipe.clip(),
            schedule=ScheduleConfig(epochs=recipe.epochs, seed=seed),
            optimization=recipe.optimization(),
            model=ModelConfig(backbone=BACKBONE),
            objective=objective,
        )
    )


def transfer_run(out: Path, train: Path, val: Path, recipe: Recipe, weights: Path | None, seed: int) -> None:
    """Fine-tune all layers with a new head into ``out``, or go on with it, or find it finished."""
    run_transfer(
        TransferRunConfig(
            train=str(train),
            val=str(val),
            out=out,
            weights=weights,
            backbone=BACKBONE,
            loader_threads=1,
            clip=recipe.clip(),
            schedule=ScheduleConfig(epochs=recipe.epochs, seed=seed),
            optimization=recipe.optimization(),
        )
    )
