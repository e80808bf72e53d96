"""One transfer run: a pretrained backbone, or none, tuned on another data set, in a folder of its own."""

from dataclasses import dataclass, field
from pathlib import Path

import torch

from scenebias.debiasing.debiasing_model import DebiasingModel
from scenebias.debiasing.objective import ObjectiveConfig
from scenebias.models.action_model import ActionModel, ModelConfig
from scenebias.models.backbones import AnyBackbone
from scenebias.models.weights import load_into, named_backbone, read_metadata
from scenebias.training.options import RunConfig, TrainingOptions
from scenebias.training.recipes import TransferRecipe
from scenebias.training.run import InitialModel, run_training
from scenebias.training.schedule import ScheduleConfig
from shards.joined_dataset import JoinedDataset

DEFAULT_BACKBONE: AnyBackbone = "r3d_18"


@dataclass(frozen=True, kw_only=True)
class TransferOptions(TrainingOptions):
    """How to transfer: new action head, plain action loss; the defaults are those of the reproduction."""

    recipe: TransferRecipe = "reproduction"
    """Defaults of the other options, which --help shows beside it; reproduction: a constant learning rate of 1e-3;
    paper: 5e-3, falling on plateaus of the validation loss; small: small3d by AdamW at
    2e-3, on clips as the recipe small of scenebias.pretrain cuts them."""
    backbone: AnyBackbone | None = None
    """The video network: by default that of --weights, and r3d_18 without; one of your own code is to be named."""
    drop_path: float | None = None
    """How often the last block of a transformer is skipped in training; those before it less, the first never. None: as
    published, 0.2 for mvit_* and 0.1 for swin3d_*."""
    head_only: bool = False
    """Train the new head alone, on the frozen backbone of --weights."""
    schedule: ScheduleConfig = field(default_factory=lambda: ScheduleConfig(epochs=30))

    def __post_init__(self) -> None:
        super().__post_init__()
        ModelConfig(backbone=self.backbone or DEFAULT_BACKBONE, drop_path=self.drop_path)


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
        found = None
        if config.weights is not None:
            found = named_backbone(config.weights, read_metadata(config.weights), config.backbone)
        model_config = ModelConfig(backbone=config.backbone or found or DEFAULT_BACKBONE, drop_path=config.drop_path)
        model = ActionModel(model_config, len(train.classes), clip=config.clip)
        if config.weights is None:
            return InitialModel(DebiasingModel(model, objective))
        metadata = load_into(config.weights, model, head=False)
        if config.head_only:
            model.freeze_backbone()
        return InitialModel(DebiasingModel(model, objective), config.weights, metadata)

    run_training(config, "transfer", make_model)
