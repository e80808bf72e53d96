"""What pretraining minimises (Choi et al., "Why Can't I Dance in the Mall?", NeurIPS 2019).

Shape suffixes: B clips, V versions of each, T frames, H height, W width, C channels, D features, A actions, S scenes.

Five terms, over clips x, their human-masked versions x', action targets y and soft scene labels p:

- action: cross entropy of f_A(G(x)) with y;
- scene: soft cross entropy of f_S(G(x)) with p, behind a gradient reversal: the scene head minimises it, the backbone
  maximises it with weight ``alpha_scene``. ``scene_adversary`` says what it is about: marginal, everything the features
  tell of the scene; conditional, what they tell of it beyond the action, which the scene head is told (its input is
  joined with y, as the one-hot case of Long et al., "Conditional adversarial domain adaptation", NeurIPS 2018); or
  weighted, as marginal on clips weighted by 1 / P(scene | action);
- masked: of an action classifier on G(x'), over the clips whose mask is effective. The ``paper`` maximises the entropy
  of f_A over backbone and action head, with weight ``alpha_mask``. The code ``released`` with it has a head of its own
  maximise it, behind a second reversal, so that the backbone *minimises* it. In that code's ``adversarial`` variant
  such a head minimises the cross entropy with y, and the backbone maximises it;
- consistency: the divergence of the predictions for a composed clip and for the clip as it was;
- stills: of f_A on a frame of x, repeated (`scenebias.debiasing.albar`). Clips and stills are one batch to BatchNorm.

All masked clips of a batch are passed, those without an effective mask with weight zero: the shapes stay fixed, and a
rank without any stays in step. How they are passed and normalised: `MaskStep`, `MaskedBatchNorm`.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from scenebias.debiasing.albar import still_losses
from scenebias.debiasing.losses import entropy, log_softmax, soft_cross_entropy, symmetric_divergence
from scenebias.debiasing.masked_batch_norm import (
    SeparateBatchNorms,
    batch_norms,
    frozen_statistics,
    untracked_statistics,
)
from scenebias.debiasing.objective import ObjectiveConfig, Phase
from scenebias.debiasing.scene_balance import SceneBalance
from scenebias.distributed.batch_norm import normalise_by_leading_part
from scenebias.models.action_model import ActionModel
from scenebias.models.heads import AdversaryHead, reverse_gradient
from shards.format.sample import SCENE_COUNT

OTHER_HEADS = -1e4
"""A logit that counts as none: finite, as entropies multiply its logarithm by 0, and in the range of float16."""


class Losses(NamedTuple):
    """What one forward pass gives."""

    total: Tensor
    """The scalar to call ``backward`` on."""
    sums: dict[str, Tensor]
    """Detached sums over this rank's clips, to be added over ranks and divided by the global count: of all clips for
    ``action_loss``, ``action_correct``, ``consistency_loss``, ``still_action_loss``, ``still_entropy`` and
    ``still_penalty``, of the clips with a scene label (``scene_clips``) for ``scene_loss`` and ``scene_correct``
    (agreement with the likeliest scene), of those with an effective mask for ``masked_entropy`` and
    ``masked_correct``."""
    clip_loss_B: Tensor
    """The terms that each of this rank's clips adds to the phase's losses, detached float: they tell which clips a loss
    that is not finite comes from."""


class ClipTargets(NamedTuple):
    """What the clips of a batch are to be recognised as; tensors of this rank's share."""

    label_B: Tensor
    """int64, the action that counts as right."""
    target_BA: Tensor | None
    """Float, rows that sum to 1: the actions of composed clips; None: those of ``label_B``."""
    scene_BS: Tensor | None
    """Float, rows that sum to 1: soft scene labels; zeros for a clip without, which then adds nothing to the loss."""


class DebiasingModel(nn.Module):
    """The action model with the heads and losses that pretraining needs; what DDP wraps."""

    scene_weight_AS: Tensor | None
    head_A: Tensor | None

    def __init__(
        self,
        action_model: ActionModel,
        config: ObjectiveConfig,
        scene_balance: SceneBalance | None = None,
        head_A: Tensor | None = None,
    ) -> None:
        """``scene_balance``: of the training clips; the scene adversary "weighted" takes its weights from it.

        ``head_A``: int64, where the action head is several in a row, which of them each class is of: a clip is then
        one of the classes of the head of its label, and nothing is said of the others.
        """
        super().__init__()
        self.config = config
        self.action_model = action_model
        self.scene_balance = scene_balance if config.uses_scenes else None
        self.scene_head: AdversaryHead | None = None
        self.masked_head: AdversaryHead | None = None
        self.masked_norms: SeparateBatchNorms | None = None
        features, actions = action_model.feature_count, action_model.action_count
        if config.uses_scenes:
            told = actions if config.scene_adversary == "conditional" else 0
            self.scene_head = AdversaryHead(features + told, SCENE_COUNT, config.scene_hidden_layers)
        if config.uses_masks and config.mask_loss != "paper":
            self.masked_head = AdversaryHead(features, actions, hidden_layers=1)
        if config.uses_masks and config.norm_of_masked == "separate":
            self.masked_norms = SeparateBatchNorms(action_model.backbone)
        if config.clips_in_one_batch > 1 and config.norm_of_masked != "both":
            normalise_by_leading_part(action_model.backbone, config.clips_in_one_batch)
        weight_AS = None
        if config.uses_scenes and config.scene_adversary == "weighted":
            assert scene_balance is not None, "weights come from the training clips"
            weight_AS = torch.from_numpy(scene_balance.weight_AS).float()
        self.register_buffer("scene_weight_AS", weight_AS, persistent=False)
        self.register_buffer("head_A", head_A, persistent=False)

    def unused_in(self, phase: Phase) -> tuple[nn.Parameter, ...]:
        """The parameters that take no part in ``phase``: no step of the optimiser should move them after it.

        With a ``world_size`` over 1, `forward` gives them a gradient of zero all the same, as DDP waits for one.
        """
        unused: list[nn.Module | None] = []
        if phase == "clean":
            unused = [self.masked_head, self.masked_norms]
        elif phase == "masked":
            unused = [self.scene_head]
            if self.masked_head is not None:
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
        target_BA: Tensor | None = None,
        scene_BS: Tensor | None = None,
        masked_BTHWC: Tensor | None = None,
        effective_B: Tensor | None = None,
        original_BTHWC: Tensor | None = None,
        comparable_B: Tensor | None = None,
        still_BTHWC: Tensor | None = None,
        clip_count: int,
        effective_count: Tensor | int = 0,
        world_size: int = 1,
        ramp: float = 1.0,
    ) -> Losses:
        """The losses of one of the configuration's phases, on this rank's share of the global batch.

        Clips are uint8, labels and targets as of `ClipTargets`, ``effective_B`` bool. ``original_BTHWC`` are the clips
        before they were composed, ``comparable_B`` (bool) those that were and still show the same action, and
        ``still_BTHWC`` a frame of each clip, repeated.
        ``clip_count`` and ``effective_count`` count the clips, and those with an effective mask, over all ranks. As DDP
        averages gradients over ranks, the sums are divided by count / ``world_size``: so every clip has the same weight
        on whichever rank it is. Where no clip of the global batch has an effective mask, the masked term is zero.
        ``ramp``, as of `alpha_ramp`, multiplies the weights of debiasing.
        """
        assert phase in self.config.phases, f"{phase} is none of {self.config.phases}"
        of = ClipTargets(label_B, target_BA, scene_BS)
        total = torch.zeros((), device=label_B.device)
        clip_loss_B = torch.zeros(len(label_B), device=label_B.device)
        sums: dict[str, Tensor] = {}
        masked_BD: Tensor | None = None
        if self.config.uses_stills:
            assert still_BTHWC is not None, "stills are needed"
            loss_B, sums = self._beside_stills(clip_BTHWC, still_BTHWC, of, ramp)
        elif phase != "masked":
            versions = [clip_BTHWC]
            if phase == "one_batch":
                assert masked_BTHWC is not None, "masked clips are needed"
                versions.append(masked_BTHWC)
            if self.config.consistency:
                assert original_BTHWC is not None, "clips as they were are needed"
                versions.append(original_BTHWC)
            feature_BD, *others = self._features_of(versions)
            masked_BD = others[0] if phase == "one_batch" else None
            loss_B, sums = self._clean(feature_BD, of, self.config.alpha_scene * ramp)
            if self.config.consistency:
                assert comparable_B is not None, "which clips were composed is needed"
                divergence_B = self._divergence(feature_BD, others[-1], of) * comparable_B
                loss_B = loss_B + self.config.consistency * divergence_B
                sums["consistency_loss"] = divergence_B.detach().sum()
        if phase != "masked":
            total = total + loss_B.sum() * (world_size / clip_count)
            clip_loss_B = clip_loss_B + loss_B.detach()
        if phase != "clean":
            assert effective_B is not None, "which masks are effective is needed"
            if masked_BD is None:
                assert masked_BTHWC is not None, "masked clips are needed"
                masked_BD = self._masked_features(masked_BTHWC)
            loss_B, masked_sums = self._masked(masked_BD, of, effective_B, self.config.alpha_mask * ramp)
            total = total + loss_B.sum() * world_size / torch.as_tensor(effective_count).clamp(min=1)
            clip_loss_B = clip_loss_B + loss_B.detach()
            sums |= masked_sums
        if world_size > 1:
            total = total + sum(0 * parameter.sum() for parameter in self.unused_in(phase))
        return Losses(total, sums, clip_loss_B)

    def _features_of(self, versions: list[Tensor]) -> tuple[Tensor, ...]:
        """What the backbone sees in each version of the clips, (B, D) each, in one pass."""
        clip_VTHWC = versions[0] if len(versions) == 1 else torch.cat(versions)
        return self.action_model.features(clip_VTHWC).chunk(len(versions))

    def _clean(self, feature_BD: Tensor, of: ClipTargets, alpha: float) -> tuple[Tensor, dict[str, Tensor]]:
        """The action and scene loss of each clip, (B,), and the sums to report."""
        log_probability_BA = log_softmax(self._of_own_head(self.action_model.head(feature_BD), of))
        # The logarithm of a softmax may stand for the logits: softmax gives the same for both.
        action_loss_B = functional.cross_entropy(
            log_probability_BA,
            of.label_B if of.target_BA is None else of.target_BA.to(log_probability_BA.dtype),
            label_smoothing=self.config.label_smoothing,
            reduction="none",
        )
        sums = {
            "action_loss": action_loss_B.detach().sum(),
            "action_correct": (log_probability_BA.argmax(dim=1) == of.label_B).sum(),
        }
        if self.scene_head is None:
            return action_loss_B, sums
        assert of.scene_BS is not None, "scene labels are needed"
        input_BD = reverse_gradient(feature_BD, alpha)
        if self.config.scene_adversary == "conditional":
            input_BD = torch.cat([input_BD, self._action_target(of).to(input_BD.dtype)], dim=1)
        scene_logits_BS = self.scene_head(input_BD)
        scene_loss_B = soft_cross_entropy(scene_logits_BS, of.scene_BS)
        category_B = of.scene_BS.argmax(dim=1)
        is_labelled_B = of.scene_BS.any(dim=1)
        sums["scene_clips"] = is_labelled_B.sum()
        sums["scene_loss"] = scene_loss_B.detach().sum()
        sums["scene_correct"] = ((scene_logits_BS.argmax(dim=1) == category_B) & is_labelled_B).sum()
        if self.scene_weight_AS is not None:
            scene_loss_B = scene_loss_B * self.scene_weight_AS[of.label_B, category_B]
        return action_loss_B + scene_loss_B, sums

    def _beside_stills(
        self, clip_BTHWC: Tensor, still_BTHWC: Tensor, of: ClipTargets, ramp: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of each clip and its still together, (B,), and the sums to report."""
        model, config = self.action_model, self.config
        still_BCTHW = model.normalise(still_BTHWC).requires_grad_(config.takes_second_derivatives)
        clip_VCTHW = torch.cat([model.normalise(clip_BTHWC), still_BCTHW])
        feature_BD, still_BD = model.backbone(clip_VCTHW).chunk(2)
        action_loss_B, sums = self._clean(feature_BD, of, ramp)
        losses = still_losses(
            self._of_own_head(model.head(still_BD), of),
            still_BCTHW,
            self._action_target(of),
            adversarial_weight=config.albar_adversarial,
            entropy_weight=config.albar_entropy,
            penalty_weight=config.albar_penalty if torch.is_grad_enabled() else 0.0,
        )
        sums |= {
            "still_action_loss": losses.action_B.detach().sum(),
            "still_entropy": losses.entropy_B.detach().sum(),
            "still_penalty": losses.penalty_B.detach().sum(),
        }
        return action_loss_B + ramp * losses.total_B, sums

    def _action_target(self, of: ClipTargets) -> Tensor:
        """The action of each clip as a distribution, (B, A)."""
        if of.target_BA is not None:
            return of.target_BA
        return torch.eye(self.action_model.action_count, device=of.label_B.device)[of.label_B]

    def _of_own_head(self, logits_BA: Tensor, of: ClipTargets) -> Tensor:
        """The logits of the head of each clip's label; those of other heads so low that softmax makes them 0."""
        if self.head_A is None:
            return logits_BA
        return logits_BA.masked_fill(self.head_A != self.head_A[of.label_B][:, None], OTHER_HEADS)

    def _divergence(self, feature_BD: Tensor, original_BD: Tensor, of: ClipTargets) -> Tensor:
        logits = (self._of_own_head(self.action_model.head(input_BD), of) for input_BD in (feature_BD, original_BD))
        return symmetric_divergence(*logits)

    def _masked(
        self, feature_BD: Tensor, of: ClipTargets, effective_B: Tensor, alpha: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of each masked clip, (B,), zero without an effective mask, and the sums to report."""
        if self.masked_head is None:
            logits_BA = self.action_model.head(feature_BD)
        else:
            logits_BA = self.masked_head(reverse_gradient(feature_BD, alpha))
        logits_BA = self._of_own_head(logits_BA, of)
        entropy_B = entropy(logits_BA) * effective_B
        right_B = (logits_BA.argmax(dim=1) == of.label_B) & effective_B
        sums = {"masked_entropy": entropy_B.detach().sum(), "masked_correct": right_B.sum()}
        if self.config.mask_loss == "paper":
            return -alpha * entropy_B, sums
        if self.config.mask_loss == "released":
            return -entropy_B, sums
        return soft_cross_entropy(logits_BA, self._action_target(of)) * effective_B, sums

    def _masked_features(self, masked_BTHWC: Tensor) -> Tensor:
        """What the backbone sees in each masked clip in a pass of their own, (B, D)."""
        backbone = self.action_model.backbone
        if self.masked_norms is not None:
            return self.masked_norms(backbone, self.action_model.normalise(masked_BTHWC))
        with self._statistics_of_masked(backbone):
            return self.action_model.features(masked_BTHWC)

    def _statistics_of_masked(self, backbone: nn.Module) -> AbstractContextManager[None]:
        if self.config.norm_of_masked == "frozen":
            return frozen_statistics(backbone)
        return untracked_statistics(backbone) if self.config.norm_of_masked == "own" else nullcontext()
