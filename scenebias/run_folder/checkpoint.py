"""Checkpoints of a run: each a file that appears complete and holds its own checksum in its name.

A name says how far the run had come, and the first digits of the file's SHA-256, as torch.hub names its files:
``epoch-00003-step-00000500-3f2a9c1be0d4a7c6.pt`` follows 500 steps of the fourth epoch.
"""

import hashlib
import io
import pickle
import re
import warnings
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch

from shards.checks import require_at_least
from shards.errors import NO_ROOM, UserError
from shards.system.atomic import atomic_write

NAME = re.compile(r"epoch-(\d{5})-step-(\d{8})-[0-9a-f]{16}\.pt")


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """When to write checkpoints, and which to keep."""

    checkpoint_every_steps: int = 500
    """Steps between checkpoints; one is also written at the end of every epoch."""
    keep_checkpoints: int = 2
    """The newest checkpoints to keep, two at least; that of the epoch with the best validation top-1 is kept too."""

    def __post_init__(self) -> None:
        require_at_least(1, checkpoint_every_steps=self.checkpoint_every_steps)
        if self.keep_checkpoints < 2:
            raise ValueError(
                f"keep_checkpoints must be at least 2, in case the newest is damaged, got {self.keep_checkpoints}"
            )


@dataclass(frozen=True, kw_only=True)
class TrainingState:
    """All that a run needs to go on; data order, augmentation and random numbers follow from (epoch, step) alone."""

    epoch: int
    step: int
    """Steps done within ``epoch``."""
    model: dict[str, Any]
    optimizer: dict[str, Any]
    scaler: dict[str, Any]
    """Of the loss scaling; empty without it."""
    counts: dict[str, int]
    """What was counted in ``epoch`` so far, over all ranks."""
    history: list[dict[str, Any]]
    """One entry per finished epoch; where epochs are evaluated, with the validation's "top1"."""
    average: dict[str, Any] = field(default_factory=dict)
    """The state of the model with averaged weights; empty where they are not averaged."""

    @property
    def position(self) -> tuple[int, int]:
        """Epoch and step."""
        return self.epoch, self.step

    @property
    def best_position(self) -> tuple[int, int] | None:
        """Where the run stood after the finished epoch with the best validation top-1, the first of equals; None:
        there is none."""
        if not self.history or "top1" not in self.history[0]:
            return None
        best_epoch = max(range(len(self.history)), key=lambda epoch: self.history[epoch]["top1"])
        return best_epoch + 1, 0

    def copied(self) -> "TrainingState":
        """The same state in tensors of its own on the host, which training leaves alone."""
        changing = {name: _copied(getattr(self, name)) for name in ("model", "optimizer", "scaler", "average")}
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()  # all at once: a copy from a GPU into pinned memory is only begun above
        return replace(self, **changing)

    def restore(self, model: torch.nn.Module, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler) -> None:
        """Load the state into these three; UserError where they are of other shapes than those it was taken from."""
        try:
            model.load_state_dict(self.model)
            optimizer.load_state_dict(self.optimizer)
            if self.scaler:  # fp32 and bf16 leave none, and fp16 may go on from them
                scaler.load_state_dict(self.scaler)
        except (RuntimeError, ValueError, KeyError) as error:
            raise UserError(
                f"the checkpoint of epoch {self.epoch}, step {self.step} does not fit this version of the program"
                f" ({error}): go on with the version that wrote it, or choose another --out"
            ) from error


class CheckpointFolder:
    """The checkpoints of one run; one process at a time writes into it."""

    def __init__(self, folder: Path, keep: int = CheckpointConfig.keep_checkpoints) -> None:
        self.folder = folder
        self.keep = keep

    @property
    def holds_any(self) -> bool:
        """Whether there is a checkpoint, readable or not."""
        return any(self.folder.glob("*.pt"))

    def save(self, state: TrainingState) -> Path:
        """Write ``state``, then remove all but the newest ``keep`` checkpoints and the best.

        Raises:
            UserError: it cannot be written; those before it are still there.
        """
        buffer = io.BytesIO()
        torch.save(vars(state), buffer)
        data = buffer.getbuffer()
        path = self.folder / f"epoch-{state.epoch:05d}-step-{state.step:08d}-{_checksum(data)}.pt"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as file:
                file.write(data)
        except OSError as error:
            remedy = f"make room for {len(data) / 1e6:.0f} MB" if error.errno in NO_ROOM else "mend that"
            raise UserError(
                f"checkpoint {path} cannot be written ({error.strerror}): {remedy}, and start the same command again"
            ) from error
        self._remove_old(state, path)
        return path

    def load_newest(self) -> TrainingState | None:
        """The newest undamaged checkpoint, on the CPU; None where there is none at all.

        A warning names each that is passed over.

        Raises:
            UserError: all are damaged, or another version wrote them.
        """
        paths = self._paths()
        for path in reversed(paths):
            try:
                data = path.read_bytes()
            except OSError as error:
                warnings.warn(f"checkpoint {path} cannot be read ({error}): trying the one before", stacklevel=2)
                continue
            if _is_named_by(path, data):
                return _parse(path, data)
            warnings.warn(f"checkpoint {path} is damaged: trying the one before", stacklevel=2)
        if paths:
            raise UserError(f"no checkpoint in {self.folder} can be read: choose another --out or remove that folder")
        return None

    def go_back_before(self, position: tuple[int, int]) -> None:
        """Remove the checkpoints of ``position`` (epoch, step) and of all after it.

        Raises:
            UserError: none before it can be read; then all are still there.
        """
        paths = self._paths()
        later = [path for path in paths if _position(path) >= position]
        if not any(map(_is_whole, (path for path in paths if path not in later))):
            raise UserError(
                f"{self.folder} holds no undamaged checkpoint of before the end of epoch {position[0] - 1}, from which"
                " a longer run could go on: choose another --out"
            )
        for path in later:
            path.unlink()

    def _paths(self) -> list[Path]:
        """The checkpoints, oldest first; UserError where one has a name that this version does not give."""
        paths = sorted(self.folder.glob("*.pt"))
        for path in paths:
            if not NAME.fullmatch(path.name):
                raise _of_another_version(path, "its name holds no checksum")
        return paths

    def _remove_old(self, state: TrainingState, newest: Path) -> None:
        """Keep the newest, those before it and the best; any after it was passed over as damaged."""
        position_of = {path: _position(path) for path in self._paths()}
        before = [path for path, position in position_of.items() if position < state.position]
        best = [path for path in before if position_of[path] == state.best_position]
        kept = {newest, *before[1 - self.keep :], *best}
        for path in [*(position_of.keys() - kept), *self.folder.glob(".*.tmp")]:
            path.unlink()


def _copied(value: Any) -> Any:
    """``value`` with a copy of every tensor in it, on the host."""
    if isinstance(value, torch.Tensor):
        return value.detach().clone() if value.device.type == "cpu" else value.detach().to("cpu", non_blocking=True)
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list) else value


def _is_named_by(path: Path, data: bytes) -> bool:
    """Whether a checkpoint holds the bytes that its name is of."""
    return path.name.endswith(f"-{_checksum(data)}.pt")


def _is_whole(path: Path) -> bool:
    return _is_named_by(path, path.read_bytes())


def _position(path: Path) -> tuple[int, int]:
    match = NAME.fullmatch(path.name)
    assert match, "CheckpointFolder._paths lets no other name through"
    return int(match[1]), int(match[2])


def _parse(path: Path, data: bytes) -> TrainingState:
    """The state in an undamaged file; UserError where another program or version wrote it."""
    expected = {part.name for part in fields(TrainingState)}
    required = {part.name for part in fields(TrainingState) if part.default_factory is MISSING}
    try:
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError) as error:
        raise _of_another_version(path, str(error)) from error
    if not isinstance(content, dict) or not required <= content.keys() <= expected:
        found = ", ".join(map(str, content)) if isinstance(content, dict) else type(content).__name__
        raise _of_another_version(path, f"it holds {found} in place of {', '.join(sorted(required))}")
    return TrainingState(**content)


def _checksum(data: bytes | memoryview) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _of_another_version(path: Path, reason: str) -> UserError:
    return UserError(
        f"{path} was not written by this version of the program ({reason}): go on with the version that wrote it, or"
        " choose another --out"
    )
