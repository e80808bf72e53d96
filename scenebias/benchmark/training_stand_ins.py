"""What takes the place of a loader and of the log while the trainer is measured."""

import itertools
from collections.abc import Iterator
from typing import Any

from dali_pipelines.decoding import ClipBatch
from dali_pipelines.loader import TrainLoader

WARM_UP_STEPS = 1


class _StandIn:
    """Has all that a loader has, and takes over a part of it."""

    def __init__(self, loader: TrainLoader) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)


class SameBatch(_StandIn):
    """One batch, again and again."""

    def __init__(self, loader: TrainLoader, batch: ClipBatch, steps: int) -> None:
        super().__init__(loader)
        self._batch = batch
        self.steps_per_epoch = steps

    def clips_in_step(self, step: int) -> int:
        """Clips of every step."""
        del step
        return len(self._batch.label_B)

    def epochs(self, first: int, end: int, start_step: int = 0) -> Iterator[ClipBatch]:
        """As of `TrainLoader`."""
        return itertools.repeat(self._batch, (end - first) * self.steps_per_epoch - start_step)


class SomeSteps(_StandIn):
    """An epoch of ``steps`` of a loader's steps, be that less or more than one of its own."""

    def __init__(self, loader: TrainLoader, steps: int) -> None:
        super().__init__(loader)
        self.steps_per_epoch = steps

    def clips_in_step(self, step: int) -> int:
        """As of `TrainLoader`."""
        return self._loader.clips_in_step(step % self._loader.steps_per_epoch)

    def epochs(self, first: int, end: int, start_step: int = 0) -> Iterator[ClipBatch]:
        """As of `TrainLoader`."""
        steps = (end - first) * self.steps_per_epoch - start_step
        own_epochs = -(-steps // self._loader.steps_per_epoch)
        return itertools.islice(self._loader.epochs(first, first + own_epochs), steps)


class StepTimes:
    """A log that keeps what the trainer says of its steps; the first, which warms up, does not count."""

    def __init__(self) -> None:
        self._all: list[dict[str, float]] = []

    def write(self, kind: str, global_step: int, numbers: dict[str, float]) -> None:
        """As of `TrainingLog`."""
        del global_step
        if kind == "step":
            self._all.append(numbers)

    def close(self) -> None:
        """As of `TrainingLog`."""

    @property
    def steps(self) -> list[dict[str, float]]:
        """The numbers of every step that counts."""
        return self._all[WARM_UP_STEPS:]

    @property
    def seconds(self) -> float:
        """Of those steps together."""
        return sum(step["step_s"] for step in self.steps)

    @property
    def clips_per_s(self) -> float:
        """In those steps."""
        return sum(step["clips_per_s"] * step["step_s"] for step in self.steps) / self.seconds

    @property
    def data_wait_share(self) -> float:
        """Of the steps' time, in which the model waits for its next batch."""
        return sum(step["data_wait_share"] * step["step_s"] for step in self.steps) / self.seconds

    def steps_in(self, seconds: float) -> int:
        """How many steps take about so long."""
        return round(seconds * len(self.steps) / self.seconds)
