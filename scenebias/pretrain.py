"""``torchrun … -m scenebias.pretrain``: train an action model, with or without debiasing."""

from dataclasses import dataclass, field
from pathlib import Path

import torch

from scenebias.commands import run_command
from scenebias.datasets import require_same_classes
from scenebias.model import ActionModel, ModelConfig
from scenebias.objective import ObjectiveConfig
from scenebias.training_run import Pupil, RunConfig, run_training
from scenebias.weights import load_into, read_metadata
from shards.dataset import ShardDataset


@dataclass(frozen=True, kw_only=True)
class PretrainConfig(RunConfig):
    """A pretraining run; the defaults are those of the reproduction on Mini-Kinetics-200."""

    init: Path | None = None
    """Start from these weights (backbone and action head; the other heads start anew) instead of random ones."""
    model: ModelConfig = field(default_factory=ModelConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)


def main(config: PretrainConfig) -> None:
    """Pretrain a video model to recognise the action, and (unless --objective baseline) to ignore the scene."""

    def make_pupil(train: ShardDataset) -> Pupil:
        torch.manual_seed(config.schedule.seed)
        model = ActionModel(config.model, len(train.manifest.classes))
        if config.init is None:
            return Pupil(model, config.objective)
        require_same_classes(
            read_metadata(config.init).classes,
            train.manifest.classes,
            f"--init {config.init} has other classes than --train {config.train}",
            "make a new head with python -m scenebias.transfer",
        )
        metadata = load_into(config.init, model, head=True)
        return Pupil(model, config.objective, config.init, metadata.trained_on)

    run_training(config, f"pretrain {config.objective.objective}", make_pupil)


if __name__ == "__main__":
    run_command(main, PretrainConfig)
