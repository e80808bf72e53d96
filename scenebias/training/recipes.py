"""Settings by name: what ``--recipe`` makes the defaults of the other options.

A recipe gives values of a run's fields; the fields that it leaves out keep their own defaults, which are those of the
reproduction. All recipes of the paper cut clips as it does: at five scales, at the corners and the centre, flipped
or not. The recipe "small" is none of them: it is how the demo and the study train.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import tyro

from dali_pipelines import ClipConfig
from scenebias.augment.config import AugmentConfig
from scenebias.compose.config import ComposeConfig
from scenebias.debiasing.objective import ObjectiveConfig
from scenebias.models.action_model import ModelConfig
from scenebias.models.published.pretrained import clip_to_train_on
from scenebias.training.optimization import OptimizationConfig
from scenebias.training.schedule import ScheduleConfig

Recipe = Mapping[str, Any]
PretrainRecipe = Literal[
    "reproduction",
    "recommended",
    "node",
    "nodes",
    "released_reproduction",
    "paper_scene",
    "paper_debias",
    "released_debias",
    "swin",
    "swin_strong",
    "mvit",
    "small",
]
TransferRecipe = Literal["reproduction", "paper", "small"]


def _as_the_paper(learning_rate: float, **changes: Any) -> OptimizationConfig:
    """SGD of Choi et al. (NeurIPS 2019, section 4.2); decay of all weights and the patience are those of their code.

    Their code also has SGD's dampening at 0.9, which divides every step by ten; the paper does not speak of it.
    """
    return OptimizationConfig(
        learning_rate=learning_rate,
        weight_decay=1e-5,
        decay="all",
        schedule="plateau",
        plateau_patience=10,
        **changes,
    )


SMALL_CLIP = ClipConfig(frames=8, stride=2, size=56, scales=(1.0, 0.84))
"""Every second frame: a window spans 16 frames at half the cost, and the network sees more motion between two."""


def _small(learning_rate: float) -> Recipe:
    """What CPU cores can train in minutes: small clips, and an optimiser that gets random weights going."""
    return {
        "loader_threads": 1,
        "clip": SMALL_CLIP,
        "schedule": ScheduleConfig(epochs=30),
        "optimization": OptimizationConfig(
            optimizer="adamw", learning_rate=learning_rate, weight_decay=0.01, warmup_epochs=2.0, schedule="cosine"
        ),
    }


_AS_RELEASED: dict[str, Any] = {"mask_step": "alternate", "masked_batch_norm": "released"}
"""Masked clips in a pass of their own, whose statistics move the running ones: how the released code passes them."""

_OBJECTIVE_OF_THE_PAPER: dict[str, Any] = {"alpha_scene": 0.5, "alpha_mask": 1.0, "scene_hidden_layers": 3}


def _last_stage(**changes: Any) -> Recipe:
    return {
        "init": tyro.MISSING,
        "model": ModelConfig(backbone="resnet3d_18_a"),
        "objective": ObjectiveConfig(name="debias", **_OBJECTIVE_OF_THE_PAPER, **changes),
        "schedule": ScheduleConfig(epochs=100),
        "optimization": _as_the_paper(1e-4),
    }


RECOMMENDED: Recipe = {
    "objective": ObjectiveConfig(name="mask", alpha_mask=8.0),
    "compose": ComposeConfig(compose=("background_swap",)),
}
"""Half of the humans before other clips' backgrounds, and unsure of masked clips: right most often where the scene
misleads, without a loss where it helps. Of the two, the backgrounds give the accuracy, and the mask loss, at the weight
that the study's tuning chose for it, takes most of what is left of the scene (`scenebias/study/README.md`)."""

STRONG_AUGMENTATION = AugmentConfig(rand_augment=4, rand_augment_magnitude=7, erasing_probability=0.25)
"""What Video Swin Transformers see of Something-Something v2, beside random resized crops and without flips: section
4.1 of their paper; numbers of the released configuration, ``swin_base_patch244_window1677_sthv2``. Operations there are
those of imgaug, here torchvision's; magnitudes of both are 0 to 30."""

SWIN: Recipe = {
    "init": tyro.MISSING,
    "model": ModelConfig(backbone="swin3d_t"),
    "clip": ClipConfig(frames=32, stride=2, size=224, crop_area=(0.08, 1.0)),
    "schedule": ScheduleConfig(epochs=30, batch_size=64),
    "optimization": OptimizationConfig(
        optimizer="adamw",
        learning_rate=3e-5,
        new_layer_factor=10.0,
        weight_decay=0.02,
        schedule="cosine",
        warmup_epochs=2.5,
        gradient_clip=1.0,
    ),
}
"""Liu et al., "Video Swin Transformer" (CVPR 2022), section 4.1, for Swin-T on Kinetics-400, which starts from
pretrained weights: the heads learn at ten times the rate of the backbone. Augmentation is that of the released
configuration, ``swin_tiny_patch244_window877_kinetics400_1k``: flips, and random resized crops of 8 % of the frame or
more, of 3:4 to 4:3. torchvision's network has the paper's stochastic depth, 0.1. The largest gradient norm is ours; the
paper does not speak of one."""

SWIN_STRONG: Recipe = {
    **SWIN,
    "clip": replace(SWIN["clip"], flip_probability=0.0),
    "objective": ObjectiveConfig(label_smoothing=0.1),
    "augment": STRONG_AUGMENTATION,
}
"""The same with the augmentation and the label smoothing that the paper has for Something-Something v2, where left and
right matter; its 60 epochs and stochastic depth of 0.4 are not taken over."""


MVIT: Recipe = {
    "model": ModelConfig(backbone="mvit_v2_s", dropout=0.5),
    "clip": ClipConfig(frames=16, stride=4, size=224, crop_area=(0.08, 1.0)),
    "augment": AugmentConfig(rand_augment=4, rand_augment_magnitude=21, erasing_probability=0.25),
    "compose": ComposeConfig(compose=("mixup", "cutmix"), compose_probability=(0.5, 0.5), mixup_alpha=0.8),
    "objective": ObjectiveConfig(label_smoothing=0.1),
    "schedule": ScheduleConfig(epochs=200, batch_size=32, repeated_augmentation=2),
    "optimization": OptimizationConfig(
        optimizer="adamw",
        learning_rate=1e-4,
        weight_decay=0.05,
        schedule="cosine",
        warmup_epochs=30.0,
        gradient_clip=1.0,
    ),
}
"""Li et al., "MViTv2" (CVPR 2022), as PySlowFast trains MViTv2-S on Kinetics-400 from random weights, from where
torchvision's are: its configs/Kinetics/MVITv2_S_16x4.yaml. A step has 16 videos, each twice; RandAugment's magnitude is
7 of 10 there, 21 of 30 here. torchvision's network has its stochastic depth, 0.2. Left out: magnitudes that vary,
bicubic resizing, noise in place of what is erased, and a last rate of a hundredth."""


def defaults_of_network(backbone: str, pretrained: str | None) -> Recipe:
    """What goes with a network where no recipe says more: its clips and, of transformers, the largest gradient norm
    that both recipes have."""
    clip = clip_to_train_on(backbone, pretrained)
    if not backbone.startswith(("mvit", "swin3d")):
        return {"clip": clip}
    return {"clip": clip, "optimization": OptimizationConfig(gradient_clip=1.0)}


def _of_batch(batch_size: int, warmup_epochs: float) -> Recipe:
    """``reproduction`` with a larger global batch.

    The learning rate is that of `ScheduleConfig`'s batch times as much as the batch is larger, and rises to it at first
    (the linear scaling rule, Goyal et al., "Accurate, Large Minibatch SGD", 2017, section 2).
    """
    defaults = OptimizationConfig()
    rate = defaults.learning_rate * batch_size / ScheduleConfig().batch_size
    return {
        "schedule": ScheduleConfig(batch_size=batch_size),
        "optimization": OptimizationConfig(learning_rate=rate, warmup_epochs=warmup_epochs),
    }


# The weights of both losses and the epochs are those of the commands that were published with the paper's code.
PRETRAIN_RECIPES: Mapping[PretrainRecipe, Recipe] = {
    "reproduction": {},
    "recommended": RECOMMENDED,
    "node": _of_batch(256, 1.0),
    "nodes": _of_batch(1024, 2.0),
    "released_reproduction": {"objective": ObjectiveConfig(**_AS_RELEASED)},
    "paper_scene": {
        "init": tyro.MISSING,
        "model": ModelConfig(backbone="resnet3d_18_a"),
        "objective": ObjectiveConfig(name="scene", alpha_scene=1.0, scene_hidden_layers=3),
        "schedule": ScheduleConfig(epochs=100),
        "optimization": _as_the_paper(1e-4, head_warmup_epochs=4, head_warmup_learning_rate=1e-2),
    },
    "paper_debias": _last_stage(),
    "released_debias": _last_stage(**_AS_RELEASED),
    "swin": SWIN,
    "swin_strong": SWIN_STRONG,
    "mvit": MVIT,
    "small": {"model": ModelConfig(backbone="small3d"), **_small(4e-3)},
}

TRANSFER_RECIPES: Mapping[TransferRecipe, Recipe] = {
    "reproduction": {},
    "paper": {"optimization": _as_the_paper(5e-3)},
    "small": {"backbone": "small3d", **_small(2e-3)},
}
