"""A training run as a folder: what lies in it, and how far the run has come."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from scenebias.distributed.launch import is_main_process
from scenebias.run_folder.checkpoint import CheckpointFolder
from scenebias.run_folder.record import RECORD_NAME
from shards.errors import UserError
from shards.system.atomic import write_json
from shards.system.locks import LOCK_NAME, locked_folder


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """What a finished run came to."""

    final: dict[str, float]
    """The numbers of `Evaluation.summary` after the last epoch."""
    history: list[dict[str, Any]]
    """The numbers of every epoch, oldest first."""
    skipped_clips: int
    """Training clips that could not be read, over all epochs."""
    skipped_steps: int
    """Training steps without a finite loss, over all epochs."""
    eval_precision: str = "fp32"
    """The arithmetic of the evaluations, as of `PrecisionConfig`."""

    @classmethod
    def of_epochs(cls, history: list[dict[str, Any]], eval_precision: str = "fp32") -> Self:
        """What the numbers of every epoch come to."""
        counted = ("skipped_clips", "skipped_steps")
        final = {name: value for name, value in history[-1].items() if name not in ("epoch", *counted)}
        totals = {name: sum(numbers[name] for numbers in history) for name in counted}
        return cls(final=final, history=history, **totals, eval_precision=eval_precision)

    def __post_init__(self) -> None:
        if missing := {"top1", "top5", "clips"} - self.final.keys():
            raise ValueError(f"final lacks {', '.join(sorted(missing))}")

    @property
    def line(self) -> str:
        """One line to tell it."""
        told = f"; {self.skipped_clips} training clips could not be read and were skipped" if self.skipped_clips else ""
        told += f"; {self.skipped_steps} steps without a finite loss were skipped" if self.skipped_steps else ""
        top5, clips = self.final["top5"], self.final["clips"]
        return f"validation {top1_line(self.final)}, top-5 {100 * top5:.1f} %, {clips:.0f} clips{told}"


def top1_line(numbers: Mapping[str, float]) -> str:
    """The accuracy of an evaluation, of all clips and of each of several data sets, for a person."""
    of_sets = {name.removeprefix("top1/"): value for name, value in numbers.items() if name.startswith("top1/")}
    each = ", ".join(f"{name} {100 * value:.1f} %" for name, value in sorted(of_sets.items()))
    return f"top-1 {100 * numbers['top1']:.1f} %" + (f" ({each})" if each else "")


@dataclass(frozen=True)
class RunFolder:
    """The folder of a training run, which need not be there yet."""

    path: Path

    @property
    def weights(self) -> Path:
        """The weights of the finished run."""
        return self.path / "weights.safetensors"

    def weights_of_head(self, number: int) -> Path:
        """Those with one of several heads; the first is that of `weights`."""
        return self.weights if number == 0 else self.path / f"weights-{number + 1}.safetensors"

    @property
    def result(self) -> Path:
        """The `RunResult`: the last that is written."""
        return self.path / "result.json"

    @property
    def checkpoints(self) -> Path:
        """The folder of its checkpoints."""
        return self.path / "checkpoints"

    @property
    def trace(self) -> Path:
        """Where the profiler writes, if it is asked to."""
        return self.path / "trace.json"

    @property
    def is_complete(self) -> bool:
        """Whether the run has come to its end."""
        return self.result.exists() and self.weights.exists()

    def has_begun(self) -> bool:
        """Whether it holds work of a run; UserError where it holds something else.

        A run that failed before its first checkpoint has left nothing to continue: its folder may be used anew.
        """
        if not self.path.exists():
            return False
        self._refuse_file()
        ours = (LOCK_NAME, ".*.tmp")
        if not (self.path / RECORD_NAME).exists() and any(
            not any(map(path.match, ours)) for path in self.path.iterdir()
        ):
            raise UserError(f"--out {self.path} holds other files: choose a new folder for the run")
        return self.result.exists() or CheckpointFolder(self.checkpoints).holds_any

    @contextmanager
    def held(self, doing: str) -> Iterator[None]:
        """Make the folder and keep other processes out of it; one that nothing was written to is removed again.

        Of several processes that run together the first holds it for all. A finished run that cannot be written to is
        nobody's to hold: it is only read.

        Raises:
            UserError: another process is ``doing`` something in it, such as "training into", or it cannot be made or
                written to.
        """
        if not is_main_process():
            yield
            return
        self._refuse_file()
        if self.path.exists() and not os.access(self.path, os.W_OK):
            if not self.is_complete:
                raise UserError(f"--out {self.path} cannot be written to: choose another folder")
            yield
            return
        with ExitStack() as stack:
            try:
                stack.enter_context(locked_folder(self.path, f"--out {self.path}", doing))
            except OSError as error:
                what = "locked" if Path(error.filename or "").name == LOCK_NAME else "created"
                raise UserError(
                    f"--out {self.path} cannot be {what} ({error.strerror}): choose another folder"
                ) from error
            yield

    def _refuse_file(self) -> None:
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f"--out {self.path} is a file: choose a folder")

    def remove_leftovers(self) -> None:
        """Remove what a process left that was killed while it wrote."""
        for leftover in self.path.glob(".*.tmp"):
            leftover.unlink()

    def reopen(self, epochs: int) -> None:
        """Let a run of so many ``epochs`` go on with more: before the evaluation of the last of them.

        Raises:
            UserError: there is no checkpoint from which it could, or the folder cannot be written to.
        """
        try:
            CheckpointFolder(self.checkpoints).go_back_before((epochs, 0))
            self.result.unlink(missing_ok=True)  # second: without the first it would be another run's result
        except OSError as error:
            raise UserError(
                f"--out {self.path} cannot be written to ({error.strerror}): choose another folder"
            ) from error

    def write_result(self, result: RunResult) -> None:
        """Say that the run is complete."""
        write_json(self.result, asdict(result))

    def read_result(self) -> RunResult:
        """What the finished run came to; UserError where the file is damaged."""
        try:
            return RunResult(**json.loads(self.result.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise UserError(f"{self.result} is damaged ({error!r}): remove it to finish the run again") from error
