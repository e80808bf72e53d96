"""The training loop: one for pretraining and transfer, one process or many.

A run is a pure function of its configuration and the pair (epoch, step): the loader's batches are, the learning rate
is, and the random generator is seeded anew at every step. So a checkpoint needs the weights and the optimiser alone.

Shape suffixes: B clips, T frames, H rows, W columns, A actions, S scenes.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from dali_pipelines import ClipBatch, TrainLoader
from scenebias.checkpoint import CheckpointFolder, TrainingState
from scenebias.distributed import ProcessPlace
from scenebias.evaluation import Evaluation
from scenebias.masked_clip import effective_masks, mask_out_humans
from scenebias.objective import DebiasingModel
from scenebias.optimization import OptimizationConfig, build_optimizer, learning_rate_at
from scenebias.progress import ProgressDisplay
from scenebias.training_log import TrainingLog
from shards.errors import UserError
from shards.randomness import hash_uint64

SHOWN = {
    "action_loss": "loss",
    "action_correct": "accuracy",
    "scene_loss": "scene loss",
    "masked_entropy": "masked entropy",
    "clips_per_s": "clips/s",
    "data_wait_share": "data wait share",
}
"""Which of a step's numbers the progress shows, and what it calls them."""

Precision = Literal["auto", "bf16", "fp32"]


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """How long and in what steps to train."""

    epochs: int = 10
    """Passes over the training clips."""
    batch_size: int = 32
    """Clips per step, over all processes together."""
    seed: int = 0
    """Decides the initial weights, the order of the clips and their augmentation."""
    precision: Precision = "auto"
    """Arithmetic of the forward pass: bf16 autocast or fp32; auto: bf16 on GPUs that have it, fp32 elsewhere."""
    checkpoint_every_steps: int = 500
    """Steps between checkpoints; one is also written after every epoch."""

    def __post_init__(self) -> None:
        if self.precision not in get_args(Precision):
            raise ValueError(f"precision must be one of {', '.join(get_args(Precision))}, got {self.precision!r}")
        for name in ("epochs", "batch_size", "checkpoint_every_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed must lie in [0, 2^63), got {self.seed}")

    def dtype_on(self, device: torch.device) -> torch.dtype:
        """The type that autocast computes in on ``device``."""
        if self.precision == "auto":
            fast = device.type == "cuda" and torch.cuda.is_bf16_supported()
            return torch.bfloat16 if fast else torch.float32
        return torch.bfloat16 if self.precision == "bf16" else torch.float32


class Trainer:
    """Trains ``model`` on ``loader`` and tells the checkpoints, the log and the person watching.

    ``evaluate`` is called after every epoch, on all ranks. Every rank needs two clips in every step, for BatchNorm.
    """

    def __init__(
        self,
        model: DebiasingModel,
        loader: TrainLoader,
        evaluate: Callable[[], Evaluation],
        checkpoints: CheckpointFolder,
        place: ProcessPlace,
        schedule: ScheduleConfig,
        optimization: OptimizationConfig,
    ) -> None:
        self.loader, self.evaluate, self.checkpoints, self.place = loader, evaluate, checkpoints, place
        self.schedule, self.optimization = schedule, optimization
        self.model = model.to(place.device).to(memory_format=torch.channels_last_3d)
        self.optimizer = build_optimizer(self.model, optimization)
        self.dtype = schedule.dtype_on(place.device)
        self.wrapped: torch.nn.Module = self.model
        if place.world_size > 1:
            self.wrapped = DistributedDataParallel(
                self.model,
                device_ids=[place.device] if place.device.type == "cuda" else None,
                find_unused_parameters=model.config.leaves_parameters_unused,
            )

    def run(self, log_of: Callable[[int], TrainingLog], title: str) -> list[dict[str, Any]]:
        """Train to the last epoch, from the newest checkpoint if there is one; returns one entry per epoch.

        ``log_of(global_step)`` opens the log for a run that continues at that step; it is called on rank 0 alone.
        """
        state = self.checkpoints.load_newest()
        epoch, step, history = 0, 0, []
        if state is not None:
            epoch, step, history = state.epoch, state.step, state.history
            self.model.load_state_dict(state.model)
            self.optimizer.load_state_dict(state.optimizer)
        steps_per_epoch = self.loader.steps_per_epoch
        done_steps = epoch * steps_per_epoch + step
        if not self.place.agree(done_steps):
            raise UserError(
                f"the processes found different checkpoints in {self.checkpoints.folder}: put --out on storage that all"
                " machines share, or remove that folder to begin anew"
            )
        log = log_of(done_steps) if self.place.is_main else None
        total_steps = self.schedule.epochs * steps_per_epoch
        try:
            with ProgressDisplay(title, total_steps, "steps", done=done_steps, visible=self.place.is_main) as progress:
                if state is not None:
                    progress.say(f"{title}: resumes at epoch {epoch}, step {step}")
                batches = self.loader.epochs(epoch, self.schedule.epochs, step)
                while epoch < self.schedule.epochs:
                    history = [*history, self._train_epoch(batches, epoch, step, history, log, progress)]
                    epoch, step = epoch + 1, 0
                    self._save(epoch, step, history)
        finally:
            if log is not None:
                log.close()
        return history

    def _save(self, epoch: int, step: int, history: list[dict[str, Any]]) -> None:
        if self.place.is_main:
            state = TrainingState(epoch, step, self.model.state_dict(), self.optimizer.state_dict(), history)
            self.checkpoints.save(state, epoch * self.loader.steps_per_epoch + step)

    def _train_epoch(
        self,
        batches: Iterator[ClipBatch],
        epoch: int,
        start_step: int,
        history: list[dict[str, Any]],
        log: TrainingLog | None,
        progress: ProgressDisplay,
    ) -> dict[str, Any]:
        """Train the rest of ``epoch`` from ``start_step`` on ``batches``, and evaluate; returns the epoch's numbers."""
        steps_per_epoch = self.loader.steps_per_epoch
        skipped_count = 0
        self.model.train()
        step_begun_s = time.perf_counter()
        for step, batch in zip(range(start_step, steps_per_epoch), batches, strict=False):
            wait_s = time.perf_counter() - step_begun_s
            numbers = self._train_step(batch, epoch, step)
            skipped_count += batch.skipped_count
            step_s = time.perf_counter() - step_begun_s
            step_begun_s += step_s
            numbers["step_s"] = step_s
            numbers["data_wait_share"] = wait_s / step_s
            numbers["clips_per_s"] = self.loader.clips_in_step(step) / step_s
            done_steps = epoch * steps_per_epoch + step + 1
            if log is not None:
                log.write("step", done_steps - 1, {"epoch": epoch, **numbers})
            progress.update(done_steps, {SHOWN[name]: value for name, value in numbers.items() if name in SHOWN})
            if (step + 1) % self.schedule.checkpoint_every_steps == 0 and step + 1 < steps_per_epoch:
                self._save(epoch, step + 1, history)
        # Each rank's BatchNorm has statistics of its own since the last step; the weights that are kept are rank 0's.
        self.place.copy_from_main(self.model.buffers())
        skipped_clips = int(self.place.sum_over_ranks(torch.tensor(skipped_count, device=self.place.device)))
        summary = {"epoch": epoch, **self.evaluate().summary(), "skipped_clips": skipped_clips}
        if log is not None:
            log.write("epoch", (epoch + 1) * steps_per_epoch, summary)
        skipped = f", {skipped_clips} training clips skipped" if skipped_clips else ""
        progress.say(f"epoch {epoch}: validation top-1 {100 * summary['top1']:.1f} %{skipped}")
        return summary

    def _train_step(self, batch: ClipBatch, epoch: int, step: int) -> dict[str, float]:
        """All phases of one step; returns means over the global batch."""
        config = self.model.config
        torch.manual_seed(int(hash_uint64(self.schedule.seed, epoch, step, self.place.rank)) >> 1)
        learning_rate = learning_rate_at(
            epoch * self.loader.steps_per_epoch + step,
            self.loader.steps_per_epoch,
            self.schedule.epochs,
            self.optimization,
        )
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        clip_count = self.loader.clips_in_step(step)
        masked: dict[str, Tensor] = self._masked(batch, epoch) if config.uses_masks else {}
        sums: dict[str, Tensor] = {}
        for phase in config.phases:
            if phase == "masked" and not masked["effective_count"]:
                continue  # without a gradient, momentum and weight decay would still move the weights
            self.optimizer.zero_grad(set_to_none=True)
            with torch.autocast(self.place.device.type, self.dtype, enabled=self.dtype != torch.float32):
                losses = self.wrapped(
                    phase,
                    batch.clip_BTHWC,
                    batch.label_B,
                    scene_BS=batch.scene_BS,
                    clip_count=clip_count,
                    world_size=self.place.world_size,
                    **masked,
                )
            losses.total.backward()
            if self.optimization.gradient_clip is not None:
                torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.optimization.gradient_clip)
            self.optimizer.step()
            sums |= losses.sums
        numbers = self._means(sums, clip_count, masked.get("effective_count"))
        if not all(math.isfinite(number) for number in numbers.values()):
            raise UserError(
                f"the loss is no longer finite in epoch {epoch}, step {step}: train with a lower --learning-rate or"
                " with --gradient-clip, into another --out"
            )
        return numbers | {"learning_rate": learning_rate}

    def _masked(self, batch: ClipBatch, epoch: int) -> dict[str, Tensor]:
        """The batch without its people, which of its masks are effective, and how many are over all ranks."""
        config = self.model.config
        mask_BTHW = batch.mask_BTHW
        assert mask_BTHW is not None, "a data set without masks is refused before training"
        effective_B = effective_masks(mask_BTHW, config.min_person_share) & batch.has_mask_B
        masked_BTHWC = mask_out_humans(
            batch.clip_BTHWC, mask_BTHW, config.fill, sample_B=batch.sample_B, seed=self.schedule.seed, epoch=epoch
        )
        effective_count = self.place.sum_over_ranks(effective_B.sum())
        return {"masked_BTHWC": masked_BTHWC, "effective_B": effective_B, "effective_count": effective_count}

    def _means(self, sums: dict[str, Tensor], clip_count: int, effective_count: Tensor | None) -> dict[str, float]:
        """Sums over this rank's clips to means over the clips of all ranks; no entropy where no mask was effective."""
        names = list(sums)
        totals = self.place.sum_over_ranks(torch.stack([sums[name].double() for name in names])).tolist()
        means = {name: total / clip_count for name, total in zip(names, totals, strict=True)}
        entropy = means.pop("masked_entropy", None)
        if effective_count is not None:
            means["effective_share"] = int(effective_count) / clip_count
            if entropy is not None and effective_count:
                means["masked_entropy"] = entropy / means["effective_share"]
        return means
