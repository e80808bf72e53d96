"""One step of training: from a batch to updated weights.

The host waits for nothing in it: whether a gradient is finite, and whether an update is made, the device alone knows.

Shape suffixes: B clips, T frames, H rows, W columns, C channels (red, green, blue), S scenes.
"""

import gc
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from dali_pipelines import ClipBatch
from scenebias.clips.masked_clip import boxes_around, choose_pixels, effective_masks, fill_colours
from scenebias.clips.scene_swap import still
from scenebias.compose.batch import ComposedBatch, compose
from scenebias.compose.config import AS_THEY_ARE, ComposeConfig
from scenebias.debiasing.debiasing_model import DebiasingModel
from scenebias.debiasing.objective import WHOLE_FRAME_MEAN, Phase
from scenebias.distributed.process_place import ProcessPlace
from scenebias.training.computing.arithmetic import ArithmeticConfig, prepare_model, share_gradients
from scenebias.training.optimization import OptimizationConfig, Part, build_optimizer, step_where
from scenebias.training.ready_batches import ReadyBatch
from shards.randomness import hash_uint64


@dataclass(frozen=True, kw_only=True)
class StepSetting:
    """What a step is told beside its batch."""

    epoch: int
    step: int
    """Within the epoch."""
    clip_count: int
    """Clips of the step, over all processes."""
    learning_rates: Mapping[Part, float]
    ramp: float
    """Of the debiasing weights, 0 to 1."""
    seed: int


@dataclass
class StepOutcome:
    """What a step did, as this process sees it. Its numbers lie on the device."""

    sums: dict[str, Tensor] = field(default_factory=dict)
    """Sums over this process's clips, as of `Losses`."""
    effective_count: Tensor | None = None
    """Clips with an effective mask, over all processes, int64; None where no masks are used."""
    gradient_norms: dict[str, Tensor] = field(default_factory=dict)
    """Of each update of the weights, before clipping; the same in all processes. NaN: it was not made."""
    clip_losses: list[Tensor] = field(default_factory=list)
    """Loss of each clip of this process, float (B,), once a phase."""
    updated: Tensor = field(default_factory=lambda: torch.tensor(True))
    """bool, whether every gradient was finite, but for overflows of a scaled loss. The first update of which it was
    not, and those after it in the step, are not made."""


class TrainingStep:
    """Updates ``model`` batch by batch; what it computes depends on the batch and the `StepSetting` alone.

    ``composition`` says what clips are composed to before they are used. ``outlives_nonfinite`` says that training
    goes on after an update that was not made.
    """

    def __init__(
        self,
        model: DebiasingModel,
        optimization: OptimizationConfig,
        arithmetic: ArithmeticConfig,
        place: ProcessPlace,
        *,
        composition: ComposeConfig = AS_THEY_ARE,
        outlives_nonfinite: bool,
    ) -> None:
        self._composition = composition
        self.model, self._optimization, self._arithmetic, self._place = model, optimization, arithmetic, place
        prepare_model(model, arithmetic, place)
        self.optimizer = build_optimizer(model, optimization)
        self._dtype = arithmetic.dtype_on(place.device)
        self.scaler = torch.amp.GradScaler(place.device.type, enabled=self._dtype == torch.float16)
        self._backbone_stays_frozen = model.action_model.backbone_is_frozen
        self._restores_buffers = outlives_nonfinite or self.scaler.is_enabled()
        self._buffers_before: list[Tensor] = []
        self._wrapped: torch.nn.Module | None = None

    def begin_epoch(self, epoch: int) -> None:
        """Freeze the backbone while the heads warm up, set it free after."""
        frozen = self._backbone_stays_frozen or epoch < self._optimization.head_warmup_epochs
        if self._wrapped is None or frozen != self.model.action_model.backbone_is_frozen:
            if not self._backbone_stays_frozen:
                self.model.action_model.freeze_backbone(frozen)
                for group in self.optimizer.param_groups:
                    if group["part"] == "backbone":
                        for parameter in group["params"]:
                            parameter.requires_grad_(not frozen)
            if isinstance(self._wrapped, DistributedDataParallel):
                self._wrapped = None
                gc.collect()  # the old wrapper's hooks on the parameters go with it
            self._wrapped = share_gradients(self.model, self._arithmetic, self._place)
        self.model.train()

    def __call__(self, batch: ClipBatch | ReadyBatch, setting: StepSetting) -> StepOutcome:
        """Pass all phases of a step, each followed by an update of the weights."""
        if isinstance(batch, ClipBatch):
            batch = self.make_ready(batch, epoch=setting.epoch, seed=setting.seed)
        batch.await_made()
        torch.manual_seed(int(hash_uint64(setting.seed, setting.epoch, setting.step, self._place.rank)) >> 1)
        for group in self.optimizer.param_groups:
            group["lr"] = setting.learning_rates[group["part"]]
        outcome = StepOutcome(updated=torch.ones((), dtype=torch.bool, device=self._place.device))
        if "effective_B" in batch.inputs:
            outcome.effective_count = self._place.sum_over_ranks(batch.inputs["effective_B"].sum())
        for phase in self.model.config.phases:
            self._backward(phase, batch.inputs, setting, outcome)
            self._update(phase, outcome)
        return outcome

    @torch.no_grad()
    def statistics_pass(self, batch: ClipBatch, *, epoch: int, seed: int) -> None:
        """Pass ``batch``, put together as in training, through all phases, and change no weights.

        It is one process's whole batch, whatever their number; BatchNorm sees what it sees in training.
        """
        count = len(batch.label_B)
        inputs = self.make_ready(batch, epoch=epoch, seed=seed).inputs
        for phase in self.model.config.phases:
            with torch.autocast(self._place.device.type, self._dtype, enabled=self._dtype != torch.float32):
                self.model(phase, **inputs, clip_count=count)

    def make_ready(self, batch: ClipBatch, *, epoch: int, seed: int) -> ReadyBatch:
        """What the phases are given of the batch: a function of it and of these numbers, in any thread."""
        sample_B, skipped_count = batch.sample_B, batch.skipped_count
        config, inputs = self.model.config, {}
        if self._composition.compose:
            composed = compose(
                batch,
                self._composition,
                action_count=self.model.action_model.action_count,
                seed=seed,
                epoch=epoch,
            )
            inputs["target_BA"] = composed.target_BA
            if config.consistency:
                inputs |= {"original_BTHWC": batch.clip_BTHWC, "comparable_B": _shows_its_action(composed)}
            batch = composed
        inputs |= {"clip_BTHWC": batch.clip_BTHWC, "label_B": batch.label_B}
        if config.uses_scenes:
            assert batch.scene_BS is not None, "a data set without scene labels is refused before training"
            inputs["scene_BS"] = batch.scene_BS
        if config.uses_masks:
            inputs |= self._masked(batch, epoch=epoch, seed=seed)
        if config.uses_stills:
            inputs["still_BTHWC"] = still(batch.clip_BTHWC)
        return ReadyBatch(inputs=inputs, sample_B=sample_B, skipped_count=skipped_count)

    def _masked(self, batch: ClipBatch, *, epoch: int, seed: int) -> dict[str, Tensor]:
        """The batch without its people, and which of its masks are effective."""
        config = self.model.config
        assert batch.mask_BTHW is not None, "a data set without masks is refused before training"
        effective_B = effective_masks(batch.mask_BTHW, config.min_person_share) & batch.has_mask_B
        covered_BTHW = batch.mask_BTHW if config.mask_cover == "pixels" else boxes_around(batch.mask_BTHW)
        if config.fill == WHOLE_FRAME_MEAN:
            assert batch.frame_mean_BTC is not None, "the loader was told to give them"
            colour = batch.frame_mean_BTC[:, :, None, None]
        else:
            colour = fill_colours(batch.clip_BTHWC, config.fill, sample_B=batch.showing_B, seed=seed, epoch=epoch)
        masked_BTHWC = choose_pixels(covered_BTHW, colour, batch.clip_BTHWC)
        return {"masked_BTHWC": masked_BTHWC, "effective_B": effective_B}

    def _backward(self, phase: Phase, inputs: Mapping[str, Tensor], setting: StepSetting, outcome: StepOutcome) -> None:
        """Leave the gradients of ``phase`` in the parameters, and none in those that have no part in it."""
        assert self._wrapped is not None, "begin_epoch comes first"
        self.optimizer.zero_grad(set_to_none=True)
        restores = self._restores_buffers or phase == "masked"
        self._buffers_before = [buffer.clone() for buffer in self.model.buffers()] if restores else []
        parts = self._arithmetic.accumulate
        split = {name: tensor.tensor_split(parts) for name, tensor in inputs.items()}
        clip_losses, sums = [], dict[str, Tensor]()
        for part in range(parts):
            with self._sharing_gradients(part == parts - 1):
                with torch.autocast(self._place.device.type, self._dtype, enabled=self._dtype != torch.float32):
                    losses = self._wrapped(
                        phase,
                        **{name: tensors[part] for name, tensors in split.items()},
                        clip_count=setting.clip_count,
                        effective_count=0 if outcome.effective_count is None else outcome.effective_count,
                        world_size=self._place.world_size,
                        ramp=setting.ramp,
                    )
                self.scaler.scale(losses.total).backward()
            clip_losses.append(losses.clip_loss_B)
            for name, value in losses.sums.items():
                sums[name] = sums[name] + value if part else value
        # A phase after an update that could not be made is as if it had not been passed.
        outcome.sums |= {name: torch.where(outcome.updated, value, torch.nan) for name, value in sums.items()}
        outcome.clip_losses.append(torch.where(outcome.updated, torch.cat(clip_losses), 0.0))
        for parameter in self.model.unused_in(phase):
            parameter.grad = None

    def _sharing_gradients(self, last_part: bool) -> AbstractContextManager:
        """Processes add up their gradients once a phase, in its last part."""
        if last_part or not isinstance(self._wrapped, DistributedDataParallel):
            return nullcontext()
        return self._wrapped.no_sync()

    def _update(self, phase: Phase, outcome: StepOutcome) -> None:
        """Update the weights, unless a gradient is not finite: then BatchNorm forgets the batch as well.

        So it does after a pass of masked clips none of which has an effective mask: without a gradient, momentum and
        weight decay would still move the weights.
        """
        self.scaler.unscale_(self.optimizer)
        parameters = list(self.model.parameters())
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        sound = norm.isfinite()
        is_made = sound & outcome.updated
        if self.scaler.is_enabled():  # an overflow that a lower scale of the loss may mend is no fault
            sound = sound | (self.scaler.scale(torch.ones_like(norm)) >= 1)
        if phase == "masked":
            assert outcome.effective_count is not None, "masks are used"
            has_any = outcome.effective_count > 0
            is_made, sound = is_made & has_any, sound | ~has_any
        outcome.updated = outcome.updated & sound
        name = "masked_gradient_norm" if phase == "masked" else "gradient_norm"
        outcome.gradient_norms[name] = torch.where(is_made, norm, torch.nan)
        if self._optimization.gradient_clip is not None:
            torch.nn.utils.clip_grads_with_norm_(parameters, self._optimization.gradient_clip, norm)
        step_where(self.optimizer, is_made)
        if self._buffers_before:
            for buffer, before in zip(self.model.buffers(), self._buffers_before, strict=True):
                buffer.copy_(torch.where(is_made, buffer, before))
        self.scaler.update()


def _shows_its_action(composed: ComposedBatch) -> Tensor:
    """Which clips were composed and show their own action alone, bool (B,)."""
    own_B = composed.target_BA.gather(1, composed.label_B[:, None])[:, 0]
    return composed.composed_B & (own_B == 1)
