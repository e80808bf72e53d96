"""The training loop: one for pretraining and transfer, one process or many.

A run is a pure function of its configuration and the pair (epoch, step): the loader's batches are, the learning rates
are, and the random generator is seeded anew at every step. So a checkpoint needs the weights, the optimiser and the
scale of the loss alone, and any number of processes can go on from it.

The device is never kept waiting: a step is given to it before the host reads the numbers of the step before, its batch
is made ready meanwhile, and what is logged and saved is written in a thread. Before anything is saved the host has read
the numbers of all steps that it holds, so that none of them can turn out not to be finite.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

from dali_pipelines import ClipBatch
from scenebias.augment.config import NOT_AUGMENTED, AugmentConfig
from scenebias.compose.config import ComposeConfig
from scenebias.debiasing.debiasing_model import DebiasingModel
from scenebias.debiasing.losses import alpha_ramp
from scenebias.distributed.interruption import Interrupted, Interruption, noted_signals
from scenebias.distributed.process_place import ProcessPlace
from scenebias.distributed.rank_agreement import check_rank_agreement
from scenebias.evaluation.accuracy import Evaluation
from scenebias.reports.progress import ProgressDisplay
from scenebias.run_folder.background_writer import BackgroundWriter
from scenebias.run_folder.checkpoint import TrainingState
from scenebias.run_folder.folder import top1_line
from scenebias.run_folder.profiling import StepProfiler
from scenebias.training.computing.arithmetic import ArithmeticConfig
from scenebias.training.optimization import OptimizationConfig, learning_rates_at
from scenebias.training.precise_batch_norm import PreciseBatchNorm
from scenebias.training.queued_step import QueuedStep, StepReport
from scenebias.training.ready_batches import ReadyBatch, made_ahead
from scenebias.training.schedule import ScheduleConfig
from scenebias.training.step import StepSetting, TrainingStep
from scenebias.training.weight_average import WeightAverage
from shards.dataset import ShardDataset
from shards.errors import UserError
from shards.joined_dataset import JoinedDataset

SHOWN = {
    "action_loss": "loss",
    "action_correct": "accuracy",
    "scene_loss": "scene loss",
    "masked_entropy": "masked entropy",
    "still_entropy": "still entropy",
    "clips_per_s": "clips/s",
    "data_wait_share": "data wait share",
}
"""Which of a step's numbers the progress shows, and what it calls them."""


@dataclass
class Position:
    """How far a run has come."""

    epoch: int = 0
    step: int = 0
    """Steps done within the epoch."""
    counts: dict[str, int] = field(default_factory=lambda: {"skipped_clips": 0, "skipped_steps": 0})
    """In this epoch so far, over all processes."""
    history: list[dict[str, Any]] = field(default_factory=list)
    """The numbers of every finished epoch."""


class Batches(Protocol):
    """What the trainer asks of a loader: see `TrainLoader`."""

    @property
    def dataset(self) -> ShardDataset | JoinedDataset: ...
    @property
    def steps_per_epoch(self) -> int: ...
    def clips_in_step(self, step: int) -> int: ...
    def clips_by_set(self, step: int) -> Mapping[str, int]: ...
    def epochs(self, first: int, end: int, start_step: int = 0) -> Iterator[ClipBatch]: ...


class Checkpoints(Protocol):
    """What the trainer asks of the place of its checkpoints: see `CheckpointFolder`."""

    @property
    def folder(self) -> Path: ...
    def load_newest(self) -> TrainingState | None: ...
    def save(self, state: TrainingState) -> object: ...


class Log(Protocol):
    """What the trainer tells its numbers to: see `TrainingLog`."""

    def write(self, kind: str, global_step: int, numbers: dict[str, float]) -> None: ...
    def close(self) -> None: ...


class Trainer:
    """Trains ``model`` on ``loader`` and tells the checkpoints, the log and the person watching.

    ``evaluate`` is called after every epoch, on all ranks, when ``precise_bn`` has estimated BatchNorm's statistics
    anew; without it they are the running averages of rank 0. Every rank needs two clips in every step, for BatchNorm. A
    signal that asks for an end (see `noted_signals`) leaves a checkpoint behind, after one more step at most.
    """

    def __init__(
        self,
        model: DebiasingModel,
        loader: Batches,
        evaluate: Callable[[Interruption], Evaluation],
        checkpoints: Checkpoints,
        place: ProcessPlace,
        *,
        schedule: ScheduleConfig,
        optimization: OptimizationConfig,
        arithmetic: ArithmeticConfig,
        augmentation: AugmentConfig = NOT_AUGMENTED,
        composition: ComposeConfig,
        checkpoint_every_steps: int,
        profiler: StepProfiler,
        precise_bn: PreciseBatchNorm | None,
    ) -> None:
        self.model, self.loader, self.evaluate = model, loader, evaluate
        self.checkpoints, self.place, self.profiler, self.precise_bn = checkpoints, place, profiler, precise_bn
        self.schedule, self.optimization, self.checkpoint_every_steps = schedule, optimization, checkpoint_every_steps
        self.arithmetic = arithmetic
        self.train_step = TrainingStep(
            model,
            optimization,
            arithmetic,
            place,
            augmentation=augmentation,
            composition=composition,
            outlives_nonfinite=schedule.skip_nonfinite_steps > 0,
        )
        self.average = None if schedule.ema is None else WeightAverage(model, schedule.ema)
        self.at = Position()
        self._queued: deque[QueuedStep] = deque()
        self._writer = BackgroundWriter()

    def run(self, log_of: Callable[[int, int], Log], title: str) -> list[dict[str, Any]]:
        """Train to the last epoch, from the newest checkpoint if there is one; returns one entry per epoch.

        ``log_of(global_step, finished_epochs)`` opens the log for a run that continues there; it is called on rank 0
        alone.

        Raises:
            UserError: the run cannot go on; the message says why, and what to do.
            Interrupted: a signal asked for an end, and a checkpoint holds all that was done.
        """
        resumed = self._load()
        log = log_of(self._global_step, self.at.epoch) if self.place.is_main else None
        begun_s = time.perf_counter()
        total_steps = self.schedule.epochs * self.loader.steps_per_epoch
        progress = ProgressDisplay(title, total_steps, "steps", done=self._global_step, visible=self.place.is_main)
        try:
            with (
                progress,
                noted_signals() as interruption,
                self.profiler,
                self._writer,
                made_ahead(*self._batches(), self.place.device) as batches,
            ):
                if resumed:
                    progress.say(f"{title}: resumes at epoch {self.at.epoch}, step {self.at.step}")
                while self.at.epoch < self.schedule.epochs:
                    self._train_epoch(batches, log, progress, interruption)
                    self._evaluate_epoch(log, progress, interruption)
                if self.precise_bn is not None and self.precise_bn.spent_s:
                    progress.say(self.precise_bn.cost_of(time.perf_counter() - begun_s))
            if self.average is not None:
                self.average.leave_in_model()
        finally:
            if log is not None:
                log.close()
        return self.at.history

    def _batches(self) -> tuple[Iterator[ClipBatch], Callable[[int, ClipBatch], ReadyBatch]]:
        """The batches of all steps to come, and how each of them is made ready."""
        done, steps_per_epoch = self._global_step, self.loader.steps_per_epoch

        def make_ready(place: int, batch: ClipBatch) -> ReadyBatch:
            epoch = (done + place) // steps_per_epoch
            return self.train_step.make_ready(batch, epoch=epoch, seed=self.schedule.seed)

        return self.loader.epochs(self.at.epoch, self.schedule.epochs, self.at.step), make_ready

    @property
    def _global_step(self) -> int:
        return self.at.epoch * self.loader.steps_per_epoch + self.at.step

    def _load(self) -> bool:
        """Go to the newest checkpoint; False where there is none."""
        state = self.checkpoints.load_newest()
        if state is not None:
            self.at = Position(state.epoch, state.step, state.counts, state.history)
            state.restore(self.model, self.train_step.optimizer, self.train_step.scaler)
            if self.average is not None:
                self.average.load(state.average)
        if not self.place.agree(self._global_step):
            raise UserError(
                f"the processes found different checkpoints in {self.checkpoints.folder}: put --out on storage that all"
                " machines share, or remove that folder to begin anew"
            )
        return state is not None

    def _save(self) -> None:
        """Let the state as it is now be written; returns when it is copied, and those before it are written."""
        assert not self._queued, "what is saved holds steps of which nobody knows whether they are finite"
        if self.place.is_main:
            self._writer.wait()
            state = TrainingState(
                epoch=self.at.epoch,
                step=self.at.step,
                model=self.model.state_dict(),
                optimizer=self.train_step.optimizer.state_dict(),
                scaler=self.train_step.scaler.state_dict(),
                counts=dict(self.at.counts),
                history=self.at.history,
                average={} if self.average is None else self.average.state,
            )
            self._writer.submit(self.checkpoints.save, state.copied())

    def _train_epoch(
        self,
        batches: Iterator[ReadyBatch],
        log: Log | None,
        progress: ProgressDisplay,
        interruption: Interruption,
    ) -> None:
        """Train the rest of the epoch on ``batches``, and save."""
        steps_per_epoch = self.loader.steps_per_epoch
        self.train_step.begin_epoch(self.at.epoch)
        step_begun_s = time.perf_counter()
        for step, batch in zip(range(self.at.step, steps_per_epoch), batches, strict=False):
            wait_s = time.perf_counter() - step_begun_s
            newest = self._queue_step(batch, interruption)
            self.profiler.step_done()
            is_last, saves = step + 1 == steps_per_epoch, (step + 1) % self.checkpoint_every_steps == 0
            reports = self._read_steps(progress, unread=0 if is_last or saves else 1)
            if asked_to_end := any(report.asked_to_end for report in reports):
                reports += self._read_steps(progress, unread=0)
            step_s = time.perf_counter() - step_begun_s
            step_begun_s += step_s
            newest.known |= {
                "step_s": step_s,
                "data_wait_share": wait_s / step_s,
                "clips_per_s": self.loader.clips_in_step(step) / step_s,
            }
            self._log_steps(reports, log, progress)
            if self._global_step % self.schedule.check_ranks_every_steps == 0:
                check_rank_agreement(self.model, self.place, f"after epoch {self.at.epoch}, step {step}")
            if asked_to_end or (saves and not is_last):
                self._save()
                step_begun_s = time.perf_counter()
            if asked_to_end:
                ended = interruption.ended()
                self._writer.wait()
                progress.say(f"{ended.signal_name}: saved after step {self._global_step}; the same command goes on")
                self.place.wait_for_all()  # torchrun ends the others once one is gone, rank 0 in its write too
                raise ended
        check_rank_agreement(self.model, self.place, f"after epoch {self.at.epoch}")
        self._save()

    def _evaluate_epoch(self, log: Log | None, progress: ProgressDisplay, interruption: Interruption) -> None:
        """Evaluate what the epoch has made, and save that it is over."""
        try:
            with nullcontext() if self.average is None else self.average.in_use():
                precise_bn_s = self._settle_statistics(interruption)
                numbers = self.evaluate(interruption).summary()
        except Interrupted as ended:  # nothing is lost: what was trained is saved
            self._writer.wait()
            progress.say(f"{ended.signal_name}: saved after epoch {self.at.epoch}; the same command evaluates it")
            raise
        if not all(math.isfinite(number) for number in numbers.values()):
            raise UserError(
                f"the network's predictions on the validation clips are not finite after epoch {self.at.epoch}: train"
                " with a lower --learning-rate or with --gradient-clip, into another --out"
            )
        summary = {"epoch": self.at.epoch, **numbers, **self.at.counts}
        self.at = Position(self.at.epoch + 1, 0, history=[*self.at.history, summary])
        if log is not None:
            self._writer.submit(log.write, "epoch", self._global_step, summary | precise_bn_s)
        skipped = "".join(
            f", {summary[name]} training {what} skipped"
            for name, what in (("skipped_clips", "clips"), ("skipped_steps", "steps"))
            if summary[name]
        )
        progress.say(f"epoch {summary['epoch']}: validation {top1_line(summary)}{skipped}")
        self._save()

    def _settle_statistics(self, interruption: Interruption) -> dict[str, float]:
        """Give BatchNorm the statistics that go with the epoch's weights, the same on all ranks; returns its time."""
        times = {}
        if self.precise_bn is not None:

            def forward(batch: ClipBatch, _step: int) -> None:
                self.train_step.statistics_pass(batch, epoch=self.at.epoch, seed=self.schedule.seed)

            # What is compiled for training would be compiled again for these few passes.
            with torch.compiler.set_stance("force_eager") if self.arithmetic.compile else nullcontext():
                times["precise_bn_s"] = self.precise_bn.estimate(
                    self.model,
                    self.at.epoch,
                    forward,
                    interruption,
                    last_epoch=self.at.epoch + 1 == self.schedule.epochs,
                )
            interruption.end_together(self.place)
        # Those that are not estimated are each rank's own since the last step; the weights that are kept are rank 0's.
        self.place.copy_from_main(self.model.buffers())
        return times

    def _queue_step(self, batch: ReadyBatch, interruption: Interruption) -> QueuedStep:
        """Give the device a step on ``batch``."""
        setting = self._setting()
        outcome = self.train_step(batch, setting)
        step = QueuedStep.of(
            setting,
            batch,
            outcome,
            self.place,
            loss_scale=self.train_step.scaler.scale(torch.ones((), device=self.place.device)),
            asked_to_end=interruption.requested is not None,
        )
        step.known |= {f"learning_rate_{part}": rate for part, rate in setting.learning_rates.items()}
        step.known["ramp"] = setting.ramp
        step.known |= {f"clips/{name}": count for name, count in self.loader.clips_by_set(setting.step).items()}
        if self.model.scene_balance is not None:
            balance = self.model.scene_balance
            step.known |= {"scene_chance": balance.chance, "scene_from_action": balance.from_action}
        self._queued.append(step)
        self.at.step += 1
        if self.average is not None:
            self.average.follow(self._global_step)
        return step

    def _read_steps(self, progress: ProgressDisplay, *, unread: int) -> list[StepReport]:
        """What the steps have come to that the device was given, but for the last ``unread``; oldest first."""
        reports = []
        while len(self._queued) > unread:
            step = self._queued.popleft()
            report = step.report()
            self.at.counts["skipped_clips"] += report.skipped_clips
            if not report.is_sound:
                self.at.counts["skipped_steps"] += 1
                self._tell_nonfinite(step, progress)
            reports.append(report)
        return reports

    def _log_steps(self, reports: Iterable[StepReport], log: Log | None, progress: ProgressDisplay) -> None:
        for report in reports:
            setting, numbers = report.setting, report.numbers | report.known
            global_step = setting.epoch * self.loader.steps_per_epoch + setting.step
            if log is not None:
                self._writer.submit(log.write, "step", global_step, {"epoch": setting.epoch, **numbers})
            progress.update(global_step + 1, {SHOWN[name]: value for name, value in numbers.items() if name in SHOWN})

    def _setting(self) -> StepSetting:
        schedule, steps_per_epoch = self.schedule, self.loader.steps_per_epoch
        validation_losses = [numbers["action_loss"] for numbers in self.at.history]
        return StepSetting(
            epoch=self.at.epoch,
            step=self.at.step,
            clip_count=self.loader.clips_in_step(self.at.step),
            learning_rates=learning_rates_at(
                self._global_step, steps_per_epoch, schedule.epochs, self.optimization, validation_losses
            ),
            ramp=alpha_ramp(self.model.config.alpha_schedule, self._global_step / (schedule.epochs * steps_per_epoch)),
            seed=schedule.seed,
        )

    def _tell_nonfinite(self, step: QueuedStep, progress: ProgressDisplay) -> None:
        """Name the clips of a step that has no finite loss or gradient; an error where there were too many."""
        sample_B = step.batch.sample_B.cpu()
        finite_B = torch.stack([losses_B.isfinite() for losses_B in step.outcome.clip_losses]).all(dim=0).cpu()
        culprits = self.place.concatenate(sample_B[~finite_B].tolist())
        which = "clips without a finite loss"
        if not culprits:
            which, culprits = "clips of the step", self.place.concatenate(sample_B.tolist())
        describe = self.loader.dataset.describe
        where = f"epoch {step.setting.epoch}, step {step.setting.step}"
        what = f"the loss or its gradient is not finite in {where}; {which}: {'; '.join(map(describe, culprits))}"
        skipped = self.at.counts["skipped_steps"] + sum(numbers["skipped_steps"] for numbers in self.at.history)
        if skipped > self.schedule.skip_nonfinite_steps:
            raise UserError(
                f"{what}. Look at those clips, or train with a lower --learning-rate or with --gradient-clip, into"
                " another --out; or pass over some such steps with --skip-nonfinite-steps"
            )
        progress.say(f"skipped an update: {what}")
