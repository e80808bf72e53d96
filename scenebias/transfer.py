"""``python -m scenebias.transfer`` (or ``torchrun … -m``): fine-tune a pretrained backbone on another data set."""

from dataclasses import dataclass, field
from pathlib import Path

import torch

from scenebias.commands import run_command
from scenebias.model import ActionModel, ModelConfig
from scenebias.objective import ObjectiveConfig
from scenebias.trainer import ScheduleConfig
from scenebias.training_run import Pupil, RunConfig, identity_of, run_training
from scenebias.weights import ensure_unseen, load_backbone, read_metadata
from shards.dataset import ShardDataset


@dataclass(frozen=True, kw_only=True)
class TransferConfig(RunConfig):
    """A transfer run: new action head, plain action loss; the defaults are those of the reproduction."""

    weights: Path | None = None
    """Pretrained weights; without them the network starts at random, for comparison."""
    backbone: str = "r3d_18"
    """The video network of a run without --weights."""
    head_only: bool = False
    """Train the new head alone, on the frozen backbone."""
    force: bool = False
    """Go on even where the weights have seen clips of --val."""
    schedule: ScheduleConfig = field(default_factory=lambda: ScheduleConfig(epochs=30))


def main(config: TransferConfig) -> None:
    """Fine-tune pretrained weights on another data set, and measure how well they serve it."""

    def make_pupil(train: ShardDataset) -> Pupil:
        torch.manual_seed(config.schedule.seed)
        objective = ObjectiveConfig(objective="baseline")
        classes = len(train.manifest.classes)
        if config.weights is None:
            return Pupil(ActionModel(ModelConfig(backbone=config.backbone), classes), objective)
        metadata = read_metadata(config.weights)
        ensure_unseen(metadata, identity_of(ShardDataset.open(config.val)), force=config.force)
        model = ActionModel(ModelConfig(backbone=metadata.backbone), classes)
        load_backbone(config.weights, model)
        if config.head_only:
            model.freeze_backbone()
        return Pupil(model, objective, metadata.trained_on)

    run_training(config, "transfer", make_pupil)


if __name__ == "__main__":
    run_command(main, TransferConfig)
