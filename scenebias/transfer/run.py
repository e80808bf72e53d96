"""One transfer run: a pretrained backbone, or none, tuned on another data set, in a folder of its own."""

from dataclasses import dataclass, field
from pathlib import Path

import torch

from scenebias.debiasing.debiasing_model import DebiasingModel
from scenebias.debiasing.objective import ObjectiveConfig
from scenebias.models.action_model import ActionModel, ModelConfig
from scenebias.models.backbones import BackboneName
from scenebias.models.weights import load_into, read_metadata
from scenebias.training.options import RunConfig, TrainingOptions
from scenebias.training.recipes import TransferRecipe
from scenebias.training.run import InitialModel, run_training
from scenebias.training.trainer import ScheduleConfig
from shards.joined_dataset import JoinedDataset

DEFAULT_BACKBONE: BackboneName = "r3d_18"


@dataclass(frozen=True, kw_only=True)
class TransferOptions(TrainingOptions):
    """How to transfer: new action head, plain action loss; the defaults are those of the reproduction."""

    recipe: TransferRecipe = "reproduction"
    """Defaults of the other options, which --help shows beside it; reproduction: a constant learning rate of 1e-3;
    paper: 5e-3, falling on plateaus of the validation loss; small: small3d by AdamW at
    2e-3, on clips as the recipe small of scenebias.pretrain cuts them."""
    backbone: BackboneName | None = None
    """The video network: by default that of --weights, and r3d_18 without."""
    head_only: bool = False
    """Train the new head alone, on the frozen backbone of --weights."""
    schedule: ScheduleConfig = field(default_factory=lambda: ScheduleConfig(epochs=30))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.backbone is not None:
            ModelConfig(backbone=self.backbone)


@dataclass(frozen=True, kw_only=True)
class TransferRunConfig(TransferOptions, RunConfig):
    """A transfer run."""

    weights: Path | None = None
    """Pretrained weights; without them the network starts at random, for comparison."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.head_only and self.weights is None:
            raise ValueError("head_only needs weights: a frozen backbone of random weights learns nothing")


def run_transfer(config: TransferRunConfig) -> None:
    """Tune into ``config.out``, or go on with it, or leave it as it is where it is complete; see `run_training`."""

    def make_model(train: JoinedDataset) -> InitialModel:
        torch.manual_seed(config.schedule.seed)
        objective = ObjectiveConfig(name="baseline")
        found = None if config.weights is None else read_metadata(config.weights).backbone
        model_config = ModelConfig(backbone=config.backbone or found or DEFAULT_BACKBONE)
        model = ActionModel(model_config, len(train.classes))
        if config.weights is None:
            return InitialModel(DebiasingModel(model, objective))
        metadata = load_into(config.weights, model, head=False)
        if config.head_only:
            model.freeze_backbone()
        return InitialModel(DebiasingModel(model, objective), config.weights, metadata)

    run_training(config, "transfer", make_model)
