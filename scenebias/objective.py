"""What pretraining minimises (Choi et al., "Why Can't I Dance in the Mall?", NeurIPS 2019).

Shape suffixes: B clips, T frames, H height, W width, C channels, D features, A actions, S scenes.

Three terms, over clips x, their human-masked versions x', action labels y and soft scene labels p:

- action: cross entropy of f_A(G(x)) with y;
- scene: soft cross entropy of f_S(G(x)) with p, behind a gradient reversal: the scene head minimises it, the backbone
  maximises it with weight ``alpha_scene``;
- confusion: the entropy of an action classifier on G(x'), over the clips whose mask is effective. ``mask_loss`` says of
  which: the ``paper`` maximises that of f_A over backbone and action head, with weight ``alpha_mask``. The code
  ``released`` with it has a head of its own maximise it, behind a second reversal, so that the backbone *minimises* it
  with weight ``alpha_mask``.

Clean and masked clips go through the backbone in two passes, each with BatchNorm statistics of its own, whether the
optimiser steps after each (``alternate``, as released) or once for both (``joint``). All masked clips of a batch are
passed, those without an effective mask with weight zero: the shapes stay fixed, and a rank without any stays in step.
They do take part in the BatchNorm statistics of training.
"""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from scenebias.heads import AdversaryHead, GradientReversal
from scenebias.masked_clip import FILLS, Fill
from scenebias.model import ActionModel
from shards.sample import SCENE_COUNT

ObjectiveName = Literal["baseline", "scene", "mask", "debias"]
MaskLoss = Literal["paper", "released"]
MaskStep = Literal["alternate", "joint"]
SceneHiddenLayers = Literal[0, 1, 3]
Phase = Literal["clean", "masked", "joint"]


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """What to train for."""

    objective: ObjectiveName = "debias"
    """baseline: actions alone; scene: and unlearn the scene; mask: and be unsure of masked clips; debias: all three."""
    alpha_scene: float = 0.5
    """Weight of the reversed scene gradient in the backbone."""
    alpha_mask: float = 0.5
    """Weight of the confusion on human-masked clips."""
    mask_loss: MaskLoss = "paper"
    """paper: raise the action head's entropy on masked clips; released: what the code released with the paper does."""
    mask_step: MaskStep = "alternate"
    """alternate: one optimiser step for the clean clips, one for the masked; joint: one step for both."""
    fill: Fill = "frame_mean"
    """What hides the people: frame_mean (the paper), dataset_mean, white, or random (one colour a clip and epoch)."""
    min_person_share: float = 0.7
    """A mask is effective if it shows a person in at least this share of the frames."""
    label_smoothing: float = 0.0
    """Share of the action label that is spread evenly over all actions."""
    scene_hidden_layers: SceneHiddenLayers = 3
    """Hidden layers of the scene head (the paper: 3)."""

    def __post_init__(self) -> None:
        for name, allowed in (
            ("objective", get_args(ObjectiveName)),
            ("mask_loss", get_args(MaskLoss)),
            ("mask_step", get_args(MaskStep)),
            ("fill", FILLS),
            ("scene_hidden_layers", get_args(SceneHiddenLayers)),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(map(str, allowed))}, not {getattr(self, name)!r}")
        for name in ("alpha_scene", "alpha_mask"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be 0 or more and finite, not {getattr(self, name)}")
        if not 0 <= self.min_person_share <= 1:
            raise ValueError(f"min_person_share must be from 0 to 1, not {self.min_person_share}")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing must be from 0 to below 1, not {self.label_smoothing}")

    @property
    def uses_scenes(self) -> bool:
        """Whether soft scene labels are needed."""
        return self.objective in ("scene", "debias")

    @property
    def uses_masks(self) -> bool:
        """Whether human masks are needed."""
        return self.objective in ("mask", "debias")

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The forward passes of one training step, each followed by a step of the optimiser."""
        if not self.uses_masks:
            return ("clean",)
        return ("joint",) if self.mask_step == "joint" else ("clean", "masked")

    @property
    def leaves_parameters_unused(self) -> bool:
        """Whether some phase touches only some of the heads, so that DDP must look for unused parameters."""
        return len(self.phases) > 1 and (self.uses_scenes or self.mask_loss == "released")


class Losses(NamedTuple):
    """What one forward pass gives.

    ``total`` is the scalar to call ``backward`` on. ``sums`` are detached sums over this rank's clips, to be added over
    ranks and divided by the global count: of all clips for ``action_loss``, ``action_correct``, ``scene_loss`` and
    ``scene_correct`` (agreement with the likeliest scene), of the clips with an effective mask for ``masked_entropy``.
    """

    total: Tensor
    sums: dict[str, Tensor]


def _log_softmax(logits_BK: Tensor) -> Tensor:
    """In float32 at least, whatever autocast made of the logits."""
    return logits_BK.log_softmax(dim=1, dtype=torch.promote_types(logits_BK.dtype, torch.float32))


def soft_cross_entropy(logits_BS: Tensor, target_BS: Tensor) -> Tensor:
    """Cross entropy with a distribution, in nats, (B,)."""
    return -(target_BS * _log_softmax(logits_BS)).sum(dim=1)


def entropy(logits_BA: Tensor) -> Tensor:
    """Entropy of the softmax, in nats, (B,), 0 to ln A."""
    log_probability_BA = _log_softmax(logits_BA)
    return -(log_probability_BA.exp() * log_probability_BA).sum(dim=1)


class DebiasingModel(nn.Module):
    """The action model with the heads and losses that pretraining needs; what DDP wraps."""

    def __init__(self, action_model: ActionModel, config: ObjectiveConfig) -> None:
        super().__init__()
        self.config = config
        self.action_model = action_model
        feature_count = action_model.feature_count
        self.scene_head: nn.Module | None = None
        self.entropy_head: nn.Module | None = None
        if config.uses_scenes:
            self.scene_head = nn.Sequential(
                GradientReversal(config.alpha_scene),
                AdversaryHead(feature_count, SCENE_COUNT, config.scene_hidden_layers),
            )
        if config.uses_masks and config.mask_loss == "released":
            self.entropy_head = nn.Sequential(
                GradientReversal(config.alpha_mask),
                AdversaryHead(feature_count, action_model.action_count, hidden_layers=1),
            )

    def forward(
        self,
        phase: Phase,
        clip_BTHWC: Tensor,
        label_B: Tensor,
        *,
        scene_BS: Tensor | None = None,
        masked_BTHWC: Tensor | None = None,
        effective_B: Tensor | None = None,
        clip_count: int,
        effective_count: Tensor | int = 0,
        world_size: int = 1,
    ) -> Losses:
        """The losses of one of the configuration's phases, on this rank's share of the global batch.

        Clips are uint8, labels int64, scene labels float rows that sum to 1, ``effective_B`` bool. ``clip_count`` and
        ``effective_count`` count the clips, and those with an effective mask, over all ranks. As DDP averages gradients
        over ranks, the sums are divided by count / ``world_size``: so every clip has the same weight on whichever rank
        it is. Where no clip of the global batch has an effective mask, the confusion is zero.
        """
        assert phase in self.config.phases, f"{phase} is none of {self.config.phases}"
        total = torch.zeros((), device=label_B.device)
        sums: dict[str, Tensor] = {}
        if phase in ("clean", "joint"):
            loss, sums = self._clean(clip_BTHWC, label_B, scene_BS)
            total = total + loss * (world_size / clip_count)
        if phase in ("masked", "joint"):
            assert masked_BTHWC is not None, "masked clips are needed"
            assert effective_B is not None, "which masks are effective is needed"
            entropy_sum = (self._masked_entropy(masked_BTHWC) * effective_B).sum()
            # Released: the reversal in front of the head holds the weight. Otherwise both players are on one side.
            weight = 1.0 if self.entropy_head is not None else self.config.alpha_mask
            count = torch.as_tensor(effective_count).clamp(min=1)
            total = total - weight * entropy_sum * (world_size / count)
            sums["masked_entropy"] = entropy_sum.detach()
        return Losses(total, sums)

    def _clean(self, clip_BTHWC: Tensor, label_B: Tensor, scene_BS: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        """Sum of the action and scene losses over the clips, and the sums to report."""
        features_BD = self.action_model.features(clip_BTHWC)
        log_probability_BA = _log_softmax(self.action_model.head(features_BD))
        # The logarithm of a softmax may stand for the logits: softmax gives the same for both.
        action_loss = functional.cross_entropy(
            log_probability_BA, label_B, label_smoothing=self.config.label_smoothing, reduction="sum"
        )
        sums = {
            "action_loss": action_loss.detach(),
            "action_correct": (log_probability_BA.argmax(dim=1) == label_B).sum(),
        }
        if self.scene_head is None:
            return action_loss, sums
        assert scene_BS is not None, "scene labels are needed"
        scene_logits_BS = self.scene_head(features_BD)
        scene_loss = soft_cross_entropy(scene_logits_BS, scene_BS).sum()
        sums["scene_loss"] = scene_loss.detach()
        sums["scene_correct"] = (scene_logits_BS.argmax(dim=1) == scene_BS.argmax(dim=1)).sum()
        return action_loss + scene_loss, sums

    def _masked_entropy(self, masked_BTHWC: Tensor) -> Tensor:
        """Entropy of the classifier that is to be confused by each masked clip, (B,)."""
        head = self.action_model.head if self.entropy_head is None else self.entropy_head
        return entropy(head(self.action_model.features(masked_BTHWC)))
