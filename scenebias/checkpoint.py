"""Checkpoints of a run: written atomically, the last few kept, the newest readable one loaded."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from shards.atomic import atomic_write

KEPT = 2


@dataclass(frozen=True)
class TrainingState:
    """All that a run needs to go on; data order and augmentation follow from (epoch, step) alone."""

    epoch: int
    step: int
    """Steps done within ``epoch``."""
    model: dict[str, Any]
    optimizer: dict[str, Any]
    history: list[dict[str, Any]]
    """One entry per finished epoch."""


class CheckpointFolder:
    """The checkpoints of one run, named by the global step that they follow."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob("step-*.pt"))

    @property
    def holds_any(self) -> bool:
        """Whether there is a checkpoint, readable or not."""
        return bool(self._paths())

    def save(self, state: TrainingState, global_step: int) -> Path:
        """Write ``state``, then remove all but the newest ``KEPT`` checkpoints."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"step-{global_step:09d}.pt"
        with atomic_write(path) as file:
            torch.save(vars(state), file)
        for old in self._paths()[:-KEPT]:
            old.unlink()
        return path

    def load_newest(self) -> TrainingState | None:
        """The newest checkpoint that can be read, on the CPU; a damaged one is passed over with a warning."""
        for path in reversed(self._paths()):
            try:
                return TrainingState(**torch.load(path, map_location="cpu", weights_only=True))
            except Exception as error:  # torch.load meets damage with errors of a dozen types
                warnings.warn(f"checkpoint {path} cannot be read ({error}); trying the one before", stacklevel=2)
        return None
