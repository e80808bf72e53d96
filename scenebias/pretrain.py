"""``torchrun … -m scenebias.pretrain``: train an action model, with or without debiasing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scenebias.commands import Command, given_value
from scenebias.data.datasets import require_same_classes
from scenebias.data.mixture import labelled_scenes
from scenebias.debiasing.debiasing_model import DebiasingModel
from scenebias.debiasing.objective import ObjectiveConfig
from scenebias.debiasing.scene_balance import SceneBalance
from scenebias.models.action_model import ActionModel, ModelConfig
from scenebias.models.published.pretrained import PretrainedName, weight_file
from scenebias.models.weights import load_into, load_scene_head, read_metadata
from scenebias.reports.terminal import tell
from scenebias.training.options import RunConfig
from scenebias.training.recipes import PRETRAIN_RECIPES, PretrainRecipe, defaults_of_network
from scenebias.training.run import InitialModel, run_training
from shards.joined_dataset import JoinedDataset


@dataclass(frozen=True, kw_only=True)
class PretrainConfig(RunConfig):
    """A pretraining run; the defaults are those of the reproduction on Mini-Kinetics-200."""

    recipe: PretrainRecipe = "reproduction"
    """Defaults of the other options, which --help shows beside it; reproduction: R3D-18 in one stage; recommended:
    the same with backgrounds swapped and the confusion of masked clips; node and nodes: reproduction with global
    batches for 8 GPUs and for 4 times 8, of 32 clips each; paper_scene and paper_debias: the two
    stages of the paper, the first from the weights of a baseline run, the second from the first's;
    released_reproduction and released_debias: the same with masked clips in a pass of their own, as in the released
    code; swin: a Video Swin Transformer as published, from given weights; swin_strong: the same with RandAugment and
    random erasing; mvit: a Multiscale Vision Transformer as published, from random ones; small: small3d on clips of 8
    frames of 56
    pixels, from random weights by AdamW, in minutes on CPU cores."""
    init: Path | None = None
    """Start from these weights instead of random ones: backbone, action head and, where they hold one, scene head."""
    new_head: bool = False
    """Start with a random action head, as weights of other classes than those of --train need it."""
    pretrained: PretrainedName | None = None
    """Start from the weights that torchvision publishes of --backbone, trained on Kinetics-400: downloaded, or its file
    that --init names. Without these 400 classes in --train the action head is a random one."""
    model: ModelConfig = field(default_factory=ModelConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("mean", "std"):
            if (self.init or self.pretrained) is not None and getattr(self.model, name) is not None:
                raise ValueError(f"{name} must be left out with initial weights, which know how their pixels are")


def of_the_network(arguments: Sequence[str]) -> Mapping[str, Any]:
    """The defaults that go with the network and the weights which ``arguments`` name; see `Command.implied`."""
    backbone, pretrained = given_value(arguments, "backbone"), given_value(arguments, "pretrained")
    implied = {} if backbone is None else defaults_of_network(backbone, pretrained)
    return implied if pretrained is None else {**implied, "init": None}


def scene_balance_of(train: JoinedDataset) -> SceneBalance:
    """How scenes and actions go together in those sets of ``train`` that have scene labels; UserError where a clip of
    theirs has none."""
    scenes = labelled_scenes(train)
    label_N = np.concatenate([train.labels_of(number, train.datasets[number].labels) for number in scenes])
    return SceneBalance.of(label_N, np.concatenate(list(scenes.values())), len(train.classes))


def main(config: PretrainConfig) -> None:
    """Pretrain a video model to recognise the action, and (unless --objective baseline) to ignore the scene."""

    def make_model(train: JoinedDataset) -> InitialModel:
        init = weight_file(config.init, config.pretrained, config.model.backbone, "--init")
        torch.manual_seed(config.schedule.seed)
        model = ActionModel(config.model, len(train.classes), clip=config.clip)
        balance = scene_balance_of(train) if config.objective.uses_scenes else None
        head_A = None if train.head_classes is None else torch.from_numpy(train.head_A)
        if init is None:
            return InitialModel(DebiasingModel(model, config.objective, balance, head_A))
        classes = read_metadata(init).classes
        new_head = config.new_head or (config.pretrained is not None and classes != train.classes)
        if not new_head:
            require_same_classes(
                classes,
                train.classes,
                f"--init {init} has other classes than --train {train.location}",
                "start with a random head by --new-head",
            )
        metadata = load_into(init, model, head=not new_head)
        debiasing_model = DebiasingModel(model, config.objective, balance, head_A)
        if debiasing_model.scene_head is not None:
            found = load_scene_head(init, debiasing_model.scene_head)
            if not found:
                tell(f"--init {init} holds no scene head: a new one starts at random")
        return InitialModel(debiasing_model, init, metadata)

    run_training(config, f"pretrain {config.objective.name}", make_model)


COMMAND = Command(
    main=main,
    options=PretrainConfig,
    recipes=PRETRAIN_RECIPES,
    implied=of_the_network,
    parallel=True,
    example="torchrun --standalone --nproc_per_node=2 -m scenebias.pretrain --train data/jhmdb/train "
    "--val data/jhmdb/test --objective debias --backbone small3d --epochs 10 --learning-rate 0.05 "
    "--schedule cosine --out runs/jhmdb-debias",
)

if __name__ == "__main__":
    COMMAND.run()
