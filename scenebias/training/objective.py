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

Clean and masked clips go through the backbone in two passes, each normalised by itself (`MaskedBatchNorm`), whether the
optimiser steps after each (``alternate``, as released) or once for both (``joint``). All masked clips of a batch are
passed, those without an effective mask with weight zero: the shapes stay fixed, and a rank without any stays in step.
They do take part in the BatchNorm statistics of the masked batch.
"""

import math
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple, get_args

import torch
import tyro
from torch import Tensor, nn
from torch.nn import functional

from scenebias.clips.masked_clip import FILLS, MIN_PERSON_SHARE, Fill
from scenebias.models.action_model import ActionModel
from scenebias.models.heads import AdversaryHead, reverse_gradient
from scenebias.training.masked_batch_norm import MaskedBatchNorm, SeparateBatchNorms, batch_norms, frozen_statistics
from shards.format.sample import SCENE_COUNT

ObjectiveName = Literal["baseline", "scene", "mask", "debias"]
MaskLoss = Literal["paper", "released"]
MaskStep = Literal["alternate", "joint"]
SceneHiddenLayers = Literal[0, 1, 3]
AlphaSchedule = Literal["constant", "dann"]
Phase = Literal["clean", "masked", "joint"]


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """What to train for."""

    name: Annotated[ObjectiveName, tyro.conf.arg(name="objective")] = "debias"
    """baseline: actions alone; scene: and unlearn the scene; mask: and be unsure of masked clips; debias: all three."""
    alpha_scene: float = 0.5
    """Weight of the reversed scene gradient in the backbone."""
    alpha_mask: float = 0.5
    """Weight of the confusion on human-masked clips."""
    alpha_schedule: AlphaSchedule = "constant"
    """constant: both weights as given; dann: both rise from 0 over the training (Ganin and Lempitsky, ICML 2015)."""
    mask_loss: MaskLoss = "paper"
    """paper: raise the action head's entropy on masked clips; released: what the code released with the paper does."""
    mask_step: MaskStep = "alternate"
    """alternate: one optimiser step for the clean clips, one for the masked; joint: one step for both."""
    masked_batch_norm: MaskedBatchNorm = "shared"
    """BatchNorm of masked clips: as of clean ones (shared), by clean clips' statistics (frozen), its own (separate)."""
    fill: Fill = "frame_mean"
    """What hides people: frame_mean (the paper), dataset_mean, white, random (a colour a clip and epoch) or noise."""
    min_person_share: float = MIN_PERSON_SHARE
    """A mask is effective if it shows a person in at least this share of the frames."""
    label_smoothing: float = 0.0
    """Share of the action label that is spread evenly over all actions."""
    scene_hidden_layers: SceneHiddenLayers = 3
    """Hidden layers of the scene head (the paper: 3)."""

    def __post_init__(self) -> None:
        if self.name not in get_args(ObjectiveName):
            raise ValueError(f"objective must be one of {', '.join(get_args(ObjectiveName))}, not {self.name!r}")
        for name, allowed in (
            ("alpha_schedule", get_args(AlphaSchedule)),
            ("mask_loss", get_args(MaskLoss)),
            ("mask_step", get_args(MaskStep)),
            ("masked_batch_norm", get_args(MaskedBatchNorm)),
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
        return self.name in ("scene", "debias")

    @property
    def uses_masks(self) -> bool:
        """Whether human masks are needed."""
        return self.name in ("mask", "debias")

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The forward passes of one training step, each followed by a step of the optimiser."""
        if not self.uses_masks:
            return ("clean",)
        return ("joint",) if self.mask_step == "joint" else ("clean", "masked")


class Losses(NamedTuple):
    """What one forward pass gives."""

    total: Tensor
    """The scalar to call ``backward`` on."""
    sums: dict[str, Tensor]
    """Detached sums over this rank's clips, to be added over ranks and divided by the global count: of all clips for
    ``action_loss``, ``action_correct``, ``scene_loss`` and ``scene_correct`` (agreement with the likeliest scene), of
    the clips with an effective mask for ``masked_entropy``."""
    clip_loss_B: Tensor
    """The terms that each of this rank's clips adds to the phase's losses, detached float: they tell which clips a loss
    that is not finite comes from."""


def alpha_ramp(schedule: AlphaSchedule, progress: float) -> float:
    """What both weights are multiplied by when the share ``progress`` of the training is done, 0 to 1.

    ``dann``: 2 / (1 + exp(-10 p)) - 1 (Ganin and Lempitsky, ICML 2015, section 4).
    """
    assert 0 <= progress <= 1, f"progress {progress} is no share"
    return 1.0 if schedule == "constant" else 2 / (1 + math.exp(-10 * progress)) - 1


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
        self.scene_head: AdversaryHead | None = None
        self.entropy_head: AdversaryHead | None = None
        self.masked_norms: SeparateBatchNorms | None = None
        if config.uses_scenes:
            self.scene_head = AdversaryHead(feature_count, SCENE_COUNT, config.scene_hidden_layers)
        if config.uses_masks and config.mask_loss == "released":
            self.entropy_head = AdversaryHead(feature_count, action_model.action_count, hidden_layers=1)
        if config.uses_masks and config.masked_batch_norm == "separate":
            self.masked_norms = SeparateBatchNorms(action_model.backbone)

    def unused_in(self, phase: Phase) -> tuple[nn.Parameter, ...]:
        """The parameters that take no part in ``phase``: no step of the optimiser should move them after it.

        With a ``world_size`` over 1, `forward` gives them a gradient of zero all the same, as DDP waits for one.
        """
        unused: list[nn.Module | None] = []
        if phase == "clean":
            unused = [self.entropy_head, self.masked_norms]
        elif phase == "masked":
            unused = [self.scene_head]
            if self.entropy_head is not None:
                unused.append(self.action_model.head)
            if self.masked_norms is not None:
                unused += batch_norms(self.action_model.backbone).values()
        return tuple(parameter for module in unused if module is not None for parameter in module.parameters())

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
        ramp: float = 1.0,
    ) -> Losses:
        """The losses of one of the configuration's phases, on this rank's share of the global batch.

        Clips are uint8, labels int64, scene labels float rows that sum to 1, ``effective_B`` bool. ``clip_count`` and
        ``effective_count`` count the clips, and those with an effective mask, over all ranks. As DDP averages gradients
        over ranks, the sums are divided by count / ``world_size``: so every clip has the same weight on whichever rank
        it is. Where no clip of the global batch has an effective mask, the confusion is zero. ``ramp``, as of
        `alpha_ramp`, multiplies both weights.
        """
        assert phase in self.config.phases, f"{phase} is none of {self.config.phases}"
        total = torch.zeros((), device=label_B.device)
        clip_loss_B = torch.zeros(len(label_B), device=label_B.device)
        sums: dict[str, Tensor] = {}
        if phase in ("clean", "joint"):
            loss_B, sums = self._clean(clip_BTHWC, label_B, scene_BS, self.config.alpha_scene * ramp)
            total = total + loss_B.sum() * (world_size / clip_count)
            clip_loss_B = clip_loss_B + loss_B.detach()
        if phase in ("masked", "joint"):
            assert masked_BTHWC is not None, "masked clips are needed"
            assert effective_B is not None, "which masks are effective is needed"
            loss_B, entropy_sum = self._masked(masked_BTHWC, effective_B, self.config.alpha_mask * ramp)
            total = total + loss_B.sum() * world_size / torch.as_tensor(effective_count).clamp(min=1)
            clip_loss_B = clip_loss_B + loss_B.detach()
            sums["masked_entropy"] = entropy_sum
        if world_size > 1:
            total = total + sum(0 * parameter.sum() for parameter in self.unused_in(phase))
        return Losses(total, sums, clip_loss_B)

    def _clean(
        self, clip_BTHWC: Tensor, label_B: Tensor, scene_BS: Tensor | None, alpha: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The action and scene loss of each clip, (B,), and the sums to report."""
        features_BD = self.action_model.features(clip_BTHWC)
        log_probability_BA = _log_softmax(self.action_model.head(features_BD))
        # The logarithm of a softmax may stand for the logits: softmax gives the same for both.
        action_loss_B = functional.cross_entropy(
            log_probability_BA, label_B, label_smoothing=self.config.label_smoothing, reduction="none"
        )
        sums = {
            "action_loss": action_loss_B.detach().sum(),
            "action_correct": (log_probability_BA.argmax(dim=1) == label_B).sum(),
        }
        if self.scene_head is None:
            return action_loss_B, sums
        assert scene_BS is not None, "scene labels are needed"
        scene_logits_BS = self.scene_head(reverse_gradient(features_BD, alpha))
        scene_loss_B = soft_cross_entropy(scene_logits_BS, scene_BS)
        sums["scene_loss"] = scene_loss_B.detach().sum()
        sums["scene_correct"] = (scene_logits_BS.argmax(dim=1) == scene_BS.argmax(dim=1)).sum()
        return action_loss_B + scene_loss_B, sums

    def _masked(self, masked_BTHWC: Tensor, effective_B: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
        """The confusion loss of each clip, (B,), zero without an effective mask, and the sum of entropies to report."""
        features_BD = self._masked_features(masked_BTHWC)
        if self.entropy_head is not None:
            entropy_B = entropy(self.entropy_head(reverse_gradient(features_BD, alpha))) * effective_B
            return -entropy_B, entropy_B.detach().sum()
        entropy_B = entropy(self.action_model.head(features_BD)) * effective_B
        return -alpha * entropy_B, entropy_B.detach().sum()

    def _masked_features(self, masked_BTHWC: Tensor) -> Tensor:
        """What the backbone sees in each masked clip, (B, D), normalised as the configuration says."""
        backbone = self.action_model.backbone
        if self.masked_norms is not None:
            return self.masked_norms(backbone, self.action_model.normalise(masked_BTHWC))
        if self.config.masked_batch_norm == "frozen":
            with frozen_statistics(backbone):
                return self.action_model.features(masked_BTHWC)
        return self.action_model.features(masked_BTHWC)
