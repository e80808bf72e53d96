"""What loaders for training have in common: epochs, steps, and a state that can be kept."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from dali_pipelines.clip_decoder import ClipBatch
from dali_pipelines.loader_state import Position, position_of, received
from dali_pipelines.requests import Draw
from dali_pipelines.windows import ClipConfig, Int64Array, Windows, draw_training_windows, repeats_of
from shards.checks import require_at_least
from shards.dataset import ShardDataset
from shards.joined_dataset import JoinedDataset
from shards.randomness import randint


@dataclass(frozen=True)
class TrainingDraws:
    """What to cut from clips of a data set, and from others in place of those that cannot be read."""

    dataset: ShardDataset
    """Whose clips they are."""
    clip: ClipConfig
    """How they are cut."""
    seed: int
    """Of the training."""
    first: int = 0
    """The number of its first clip, where it is one of several data sets: their clips are not drawn alike."""

    def draw(self, epoch: int, sample_B: Int64Array, repeat_B: Int64Array) -> Draw:
        """Of these clips, as often shown before as ``repeat_B`` says: each time is drawn anew."""
        return Draw(self._windows(epoch, sample_B, repeat_B), partial(self._redraw, epoch))

    def _windows(self, epoch: int, sample_B: Int64Array, repeat_B: Int64Array) -> Windows:
        windows = draw_training_windows(
            self.clip,
            seed=self.seed,
            epoch=epoch,
            sample_B=self.first + sample_B,
            repeat_B=repeat_B,
            frame_count_B=self.dataset.frame_counts[sample_B],
            frame_size_B2=self.dataset.frame_sizes[sample_B],
        )
        return replace(windows, sample_B=sample_B)

    def _redraw(self, epoch: int, showing: int, attempt: int) -> Windows:
        showing_1 = self.first + np.array([showing])
        other_1 = randint(len(self.dataset), self.seed, epoch, showing_1, attempt)
        return self._windows(epoch, other_1, repeats_of(showing_1))


class EpochLoader(ABC):
    """Batches for training, epoch after epoch; the batch of (epoch, step) is always the same.

    An iterator yields one epoch, the one that `set_epoch` names: as with ``DistributedSampler``, no epoch follows by
    itself. ``len`` is its steps. `state_dict` and `load_state_dict` keep to the contract of torchdata's
    ``StatefulDataLoader``: a state tells what the consumer has received, and the next iterator goes on with the batch
    after it. Whoever counts the steps himself takes `epoch` or `epochs`, which leave the state alone.
    """

    dataset: ShardDataset | JoinedDataset
    """Whose clips the batches hold."""

    def __init__(self) -> None:
        # What state_dict tells, and where the next iterator begins.
        self._received = self._start = Position()

    @property
    @abstractmethod
    def steps_per_epoch(self) -> int:
        """Batches in an epoch, the same on every rank."""

    @property
    @abstractmethod
    def clips_per_epoch(self) -> int:
        """Clips of all steps of an epoch, over all ranks."""

    @abstractmethod
    def clips_in_step(self, step: int) -> int:
        """Clips of one step over all ranks; the same in every epoch."""

    def clips_by_set(self, step: int) -> Mapping[str, int]:
        """Those of each of several data sets, by its name; empty where there is one."""
        del step
        return {}

    @property
    @abstractmethod
    def _identity(self) -> Mapping[str, Any]:
        """What decides the batches, as of `batch_identity`."""

    @abstractmethod
    def epochs(self, first: int, end: int, start_step: int = 0) -> Iterator[ClipBatch]:
        """Yield the batches of all epochs from ``first``, at ``start_step``, up to but not including ``end``.

        The first batches of an epoch are made while the last ones of that before it are used. A loader runs one
        iteration at a time: calling this ends the one that an earlier call began.
        """

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[ClipBatch]:
        """Yield the batches of ``epoch`` from ``start_step`` on, exactly as an undisturbed run would."""
        return self.epochs(epoch, epoch + 1, start_step)

    def _steps(self, first: int, end: int, start_step: int) -> Iterator[tuple[int, int]]:
        """The (epoch, step) of all batches that `epochs` yields."""
        if not 0 <= start_step <= self.steps_per_epoch:
            raise ValueError(f"start_step must be in [0, {self.steps_per_epoch}], got {start_step}")
        return (
            (epoch, step)
            for epoch in range(first, end)
            for step in range(start_step if epoch == first else 0, self.steps_per_epoch)
        )

    def __len__(self) -> int:
        """Batches in an epoch, the same on every rank."""
        return self.steps_per_epoch

    def __iter__(self) -> Iterator[ClipBatch]:
        """Yield the epoch's batches from its first, or from where a loaded state is; ends an earlier iteration."""
        self._received = position = replace(self._start)
        self._start = Position(position.epoch)
        return received(self.epoch(position.epoch, position.step), position, self.steps_per_epoch)

    def set_epoch(self, epoch: int) -> None:
        """Let the next iterator yield ``epoch``, from its first batch unless a loaded state lies within it."""
        require_at_least(0, epoch=epoch)
        if epoch != self._received.epoch:
            self._received = self._start = Position(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Which batch comes after those received from the latest iterator, and what decides it: JSON values.

        The same on every rank. After the last batch, but before the iterator has ended, no batch of the epoch is left;
        after that, all of them.
        """
        return {"epoch": self._received.epoch, "step": self._received.step, **self._identity}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Let the next iterator go on where ``state_dict`` was taken; the ``world_size`` may be another.

        Raises:
            UserError: it is of another data set, seed, batch size, shuffle or `ClipConfig`, so that other batches would
                follow; or it is no state.
        """
        self._received = self._start = position_of(state_dict, self._identity, self.steps_per_epoch)
