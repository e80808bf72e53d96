"""``torchrun … -m scenebias.pretrain``: train an action model, with or without debiasing."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from scenebias.commands import Command
from scenebias.data.datasets import require_same_classes
from scenebias.data.mixture import labelled_scenes
from scenebias.debiasing.debiasing_model import DebiasingModel
from scenebias.debiasing.objective import ObjectiveConfig
from scenebias.debiasing.scene_balance import SceneBalance
from scenebias.models.action_model import ActionModel, ModelConfig
from scenebias.models.weights import load_into, load_scene_head, read_metadata
from scenebias.reports.terminal import tell
from scenebias.training.options import RunConfig
from scenebias.training.recipes import PRETRAIN_RECIPES, PretrainRecipe
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
    code; swin: a Video Swin Transformer as published, from given weights; small: small3d on clips of 8 frames of 56
    pixels, from random weights by AdamW, in minutes on CPU cores."""
    init: Path | None = None
    """Start from these weights instead of random ones: backbone, action head and, where they hold one, scene head."""
    new_head: bool = False
    """Start with a random action head, as weights of other classes than those of --train need it."""
    model: ModelConfig = field(default_factory=ModelConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)


def scene_balance_of(train: JoinedDataset) -> SceneBalance:
    """How scenes and actions go together in those sets of ``train`` that have scene labels; UserError where a clip of
    theirs has none."""
    scenes = labelled_scenes(train)
    label_N = np.concatenate([train.labels_of(number, train.datasets[number].labels) for number in scenes])
    return SceneBalance.of(label_N, np.concatenate(list(scenes.values())), len(train.classes))


def main(config: PretrainConfig) -> None:
    """Pretrain a video model to recognise the action, and (unless --objective baseline) to ignore the scene."""

    def make_model(train: JoinedDataset) -> InitialModel:
        torch.manual_seed(config.schedule.seed)
        model = ActionModel(config.model, len(train.classes))
        balance = scene_balance_of(train) if config.objective.uses_scenes else None
        head_A = None if train.head_classes is None else torch.from_numpy(train.head_A)
        if config.init is None:
            return InitialModel(DebiasingModel(model, config.objective, balance, head_A))
        if not config.new_head:
            require_same_classes(
                read_metadata(config.init).classes,
                train.classes,
                f"--init {config.init} has other classes than --train {train.location}",
                "start with a random head by --new-head",
            )
        metadata = load_into(config.init, model, head=not config.new_head)
        debiasing_model = DebiasingModel(model, config.objective, balance, head_A)
        if debiasing_model.scene_head is not None:
            found = load_scene_head(config.init, debiasing_model.scene_head)
            if not found:
                tell(f"--init {config.init} holds no scene head: a new one starts at random")
        return InitialModel(debiasing_model, config.init, metadata)

    run_training(config, f"pretrain {config.objective.name}", make_model)


COMMAND = Command(
    main=main,
    options=PretrainConfig,
    recipes=PRETRAIN_RECIPES,
    parallel=True,
    example="torchrun --standalone --nproc_per_node=2 -m scenebias.pretrain --train data/jhmdb/train "
    "--val data/jhmdb/test --objective debias --backbone small3d --epochs 10 --learning-rate 0.05 "
    "--schedule cosine --out runs/jhmdb-debias",
)

if __name__ == "__main__":
    COMMAND.run()
