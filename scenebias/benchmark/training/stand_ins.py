"""What takes the place of a loader and of the log while the trainer is measured."""

import itertools
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from dali_pipelines.clip_decoder import ClipBatch
from dali_pipelines.loader import TrainLoader
from scenebias.run_folder.checkpoint import TrainingState

WARM_UP_STEPS = 1


class ResidentBatches:
    """Batches that are in memory, in turns."""

    def __init__(self, loader: TrainLoader, batches: Sequence[ClipBatch], steps: int) -> None:
        self.dataset = loader.dataset
        self._batches = batches
        self.steps_per_epoch = steps

    def clips_in_step(self, step: int) -> int:
        """As of `TrainLoader`."""
        return len(self._batches[step % len(self._batches)].label_B)

    def clips_by_set(self, step: int) -> Mapping[str, int]:
        """As of `TrainLoader`."""
        del step
        return {}

    def epochs(self, first: int, end: int, start_step: int = 0) -> Iterator[ClipBatch]:
        """As of `TrainLoader`."""
        steps = (end - first) * self.steps_per_epoch
        return itertools.islice(itertools.cycle(self._batches), start_step, steps)


class SomeSteps:
    """An epoch of ``steps`` of a loader's steps, be that less or more than one of its own."""

    def __init__(self, loader: TrainLoader, steps: int) -> None:
        self.dataset = loader.dataset
        self._loader = loader
        self.steps_per_epoch = steps

    def clips_in_step(self, step: int) -> int:
        """As of `TrainLoader`."""
        return self._loader.clips_in_step(step % self._loader.steps_per_epoch)

    def clips_by_set(self, step: int) -> Mapping[str, int]:
        """As of `TrainLoader`."""
        del step
        return {}

    def epochs(self, first: int, end: int, start_step: int = 0) -> Iterator[ClipBatch]:
        """As of `TrainLoader`."""
        steps = (end - first) * self.steps_per_epoch - start_step
        own_epochs = -(-steps // self._loader.steps_per_epoch)
        return itertools.islice(self._loader.epochs(first, first + own_epochs), steps)


class NoCheckpoints:
    """A folder of checkpoints that stays empty."""

    folder = Path(os.devnull)

    def load_newest(self) -> None:
        """As of `CheckpointFolder`."""

    def save(self, state: TrainingState) -> None:
        """As of `CheckpointFolder`."""


class StepTimes:
    """A log that keeps what the trainer says of its steps; the first, which warms up, does not count."""

    def __init__(self) -> None:
        self._all: list[dict[str, float]] = []
        self._cpu_s: list[float] = []

    def write(self, kind: str, global_step: int, numbers: dict[str, float]) -> None:
        """As of `TrainingLog`."""
        del global_step
        if kind == "step":
            self._all.append(numbers)
            self._cpu_s.append(time.process_time())

    def close(self) -> None:
        """As of `TrainingLog`."""

    @property
    def all_steps(self) -> list[dict[str, float]]:
        """The numbers of every step, the first ones too."""
        return self._all

    @property
    def steps(self) -> list[dict[str, float]]:
        """The numbers of every step that counts."""
        return self._all[WARM_UP_STEPS:]

    @property
    def seconds(self) -> float:
        """Of those steps together."""
        return sum(step["step_s"] for step in self.steps)

    @property
    def clips(self) -> float:
        """Of those steps together."""
        return sum(step["clips_per_s"] * step["step_s"] for step in self.steps)

    @property
    def clips_per_s(self) -> float:
        """In those steps."""
        return self.clips / self.seconds

    @property
    def cpu_ms_per_clip(self) -> float:
        """In those steps, of all threads of this process."""
        return 1000 * (self._cpu_s[-1] - self._cpu_s[WARM_UP_STEPS - 1]) / self.clips

    @property
    def data_wait_share(self) -> float:
        """Of the steps' time, in which the model waits for its next batch."""
        return sum(step["data_wait_share"] * step["step_s"] for step in self.steps) / self.seconds

    def steps_in(self, seconds: float) -> int:
        """How many steps take about so long."""
        return round(seconds * len(self.steps) / self.seconds)
