"""The loop that trains detectors, of segments and of boxes: many processes, checkpoints, one loss.

A run is a function of its options and of the pair (epoch, step), as `scenebias.training.trainer` says of its own.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from scenebias.distributed.interruption import Interrupted, Interruption
from scenebias.distributed.process_place import ProcessPlace
from scenebias.reports.progress import ProgressDisplay
from scenebias.run_folder.checkpoint import CheckpointFolder, TrainingState
from scenebias.training.computing.arithmetic import buffers_in_forward
from scenebias.training.optimization import (
    OptimizationConfig,
    Part,
    learning_rates_at,
    optimizer_of,
    set_learning_rates,
)
from shards.errors import UserError

ALONE = ProcessPlace(0, 1, torch.device("cpu"))
BatchT = TypeVar("BatchT")


class SummedLoss(NamedTuple):
    """A loss whose mean is yet to be taken, as other processes may hold more of the batch."""

    total: Tensor
    answers: Tensor
    """How many points answer for what is to be found, by which the total is to be divided."""


def require_no_plateau(optimization: OptimizationConfig) -> None:
    """ValueError for the schedule that waits for evaluations."""
    if optimization.schedule == "plateau":
        raise ValueError("schedule must be one of constant, cosine, step, got 'plateau': no epoch is evaluated")


class DetectorLoop(ABC, Generic[BatchT]):
    """Trains a detector from where its checkpoints say that it stood.

    What makes up a step is the same in any number of processes, and its loss is the mean over all of them: the result
    depends on how many there are by the rounding of sums alone, and by what BatchNorm sees.
    """

    def __init__(
        self,
        detector: nn.Module,
        parts: Sequence[tuple[Part, nn.Module]],
        optimization: OptimizationConfig,
        *,
        epochs: int,
        steps_per_epoch: int,
        place: ProcessPlace = ALONE,
        checkpoints: CheckpointFolder | None = None,
        checkpoint_every_steps: int | None = None,
        interruption: Interruption | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """``detector`` lies on the device of ``place``; ``parts`` are what of it learns. ``dtype`` is that of autocast.

        Raises UserError where a checkpoint does not fit, or the processes found different ones.
        """
        self.detector, self.optimization, self.place, self.dtype = detector, optimization, place, dtype
        self.epochs, self.steps_per_epoch = epochs, steps_per_epoch
        self._checkpoints, self._every_steps = checkpoints, checkpoint_every_steps
        self._interruption = interruption or Interruption()
        self._optimizer = optimizer_of(parts, optimization)
        self._scaler = torch.amp.GradScaler(place.device.type, enabled=dtype == torch.float16)
        self._epoch = self._step = 0
        self._history: list[dict[str, float]] = []
        self._loss_sum = 0.0
        if checkpoints is not None and (state := checkpoints.load_newest()) is not None:
            self._restore(state)
        if not place.agree(self._epoch * steps_per_epoch + self._step):
            raise UserError(
                "the processes found different checkpoints: put --out on storage that all machines share, or remove its"
                " checkpoints to begin anew"
            )

    @abstractmethod
    def batches(self, epoch: int, step: int) -> Iterator[BatchT]:
        """This process's share of every step from there to the end of the last epoch."""

    @abstractmethod
    def loss(self, module: nn.Module, batch: BatchT) -> SummedLoss:
        """The loss of a share, by ``module``: the detector, or what shares its gradients with other processes."""

    @property
    def epochs_done(self) -> int:
        """How many whole epochs are behind it."""
        return self._epoch

    def run(self, after_epoch: Callable[[int, float], None] = lambda epoch, loss: None) -> list[float]:
        """Train to the last epoch; the mean loss of every one.

        ``after_epoch`` is called after each that this process trained, with how many are done and the loss of the last.

        Raises:
            UserError: a loss is not finite, or a video is damaged.
            Interrupted: a signal asked for an end, and a checkpoint holds all that was done.
        """
        module = self.detector
        if self.place.world_size > 1:  # BatchNorm's running averages are each rank's own: no training pass reads them
            module = DistributedDataParallel(self.detector, **buffers_in_forward(False))
        self.detector.train()
        for batch in self.batches(self._epoch, self._step):
            self._loss_sum += self._one_step(module, batch)
            self._step += 1
            if self._step == self.steps_per_epoch:
                self._end_epoch(after_epoch)
            elif self._every_steps is not None and self._step % self._every_steps == 0:
                self._save()
            self._end_where_asked()
        self.detector.eval()
        return [entry["loss"] for entry in self._history]

    def run_shown(self) -> list[float]:
        """`run`, with its progress shown by the first process."""
        with ProgressDisplay("training", self.epochs, "epochs", visible=self.place.is_main) as progress:
            progress.begin(self._epoch, self.epochs)
            return self.run(lambda done, loss: progress.update(done, {"loss": loss}))

    def _one_step(self, module: nn.Module, batch: BatchT) -> float:
        """One update by this process's share of a step; the loss of all of it before."""
        step = self._epoch * self.steps_per_epoch + self._step
        rates = learning_rates_at(step, self.steps_per_epoch, self.epochs, self.optimization)
        set_learning_rates(self._optimizer, rates)
        found = self.loss(module, batch)
        answers = self.place.sum_over_ranks(found.answers.clone()).clamp(min=1)
        loss = self.place.sum_over_ranks(found.total.detach().clone()) / answers
        if not loss.isfinite():
            raise UserError(
                f"the detector's loss is not finite in epoch {self._epoch}, step {self._step}: train with a lower"
                " --learning-rate or with --gradient-clip, into another --out"
            )
        self._optimizer.zero_grad()
        self._update(found.total / answers * self.place.world_size)  # gradients are averaged over processes
        return loss.item()

    def _update(self, loss: Tensor) -> None:
        self._scaler.scale(loss).backward()
        self._scaler.unscale_(self._optimizer)
        if self.optimization.gradient_clip is not None:
            nn.utils.clip_grad_norm_(self.detector.parameters(), self.optimization.gradient_clip)
        self._scaler.step(self._optimizer)
        self._scaler.update()

    def _end_epoch(self, after_epoch: Callable[[int, float], None]) -> None:
        # BatchNorm's running averages are each rank's own; those that are kept are rank 0's.
        self.place.copy_from_main(self.detector.buffers())
        loss = self._loss_sum / self.steps_per_epoch
        self._history.append({"epoch": self._epoch, "loss": loss})
        self._epoch, self._step, self._loss_sum = self._epoch + 1, 0, 0.0
        self._save()
        after_epoch(self._epoch, loss)

    def _end_where_asked(self) -> None:
        try:
            self._interruption.end_together(self.place)
        except Interrupted:
            self._save()
            self.place.wait_for_all()  # torchrun ends the others once one is gone, rank 0 in its write too
            raise

    def _save(self) -> None:
        if self._checkpoints is None or not self.place.is_main:
            return
        self._checkpoints.save(
            TrainingState(
                epoch=self._epoch,
                step=self._step,
                model=self.detector.state_dict(),
                optimizer=self._optimizer.state_dict(),
                scaler=self._scaler.state_dict(),
                counts={},
                history=[*self._history, {"epoch": self._epoch, "loss_sum": self._loss_sum}],
            )
        )

    def _restore(self, state: TrainingState) -> None:
        state.restore(self.detector, self._optimizer, self._scaler)
        self._epoch, self._step = state.position
        *self._history, begun = state.history
        self._loss_sum = begun["loss_sum"]
