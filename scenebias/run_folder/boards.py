"""Where people watch a run's numbers: TensorBoard, MLflow, Weights & Biases.

``log.jsonl`` has all numbers whatever a board does; so a run goes on where its board can no longer be reached.
"""

import importlib.util
import json
import logging
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

from scenebias.run_folder.record import OF_THE_MACHINE, RunRecord, leaves
from shards.errors import UserError
from shards.system.atomic import write_json

_logger = logging.getLogger(__name__)

BoardName = Literal["tensorboard", "mlflow", "wandb"]
IDENTITY_NAME = "{}.json"
"""In the run's folder: which run it is on that board, so that the same command goes on there."""


@dataclass(frozen=True, kw_only=True)
class BoardsConfig:
    """Where a run's numbers are shown."""

    boards: tuple[BoardName, ...] = ("tensorboard",)
    """Where to watch the run: tensorboard (its folder in --out), mlflow (where MLFLOW_TRACKING_URI says), wandb; each
    of the latter two as its own settings say. log.jsonl is written whatever is named, and where nothing is."""
    project: str = "scenebias"
    """The experiment of MLflow and the project of Weights & Biases that the run belongs to."""

    def __post_init__(self) -> None:
        for name in self.boards:
            if name not in get_args(BoardName):
                raise ValueError(f"boards must be some of {', '.join(get_args(BoardName))}, got {name!r}")
        if len(set(self.boards)) < len(self.boards):
            raise ValueError(f"boards must be different ones, got {', '.join(self.boards)}")


class Board(Protocol):
    """Shows numbers."""

    def show(self, numbers: Mapping[str, float], step: int) -> None:
        """Show finite numbers by name, of a global step."""

    def close(self) -> None:
        """Show all that came."""


def check_boards(config: BoardsConfig) -> None:
    """UserError where a board's package is missing."""
    for name in config.boards:
        if importlib.util.find_spec(name) is None:
            raise UserError(f'--boards {name} needs its package: pip install -e ".[{name}]"')


def open_boards(config: BoardsConfig, out: Path, resume_at_step: int) -> list[Board]:
    """The boards of the run in the folder ``out``, whose `RunRecord` is there; it goes on at that global step."""
    opened: list[Board] = []
    for name in config.boards:
        if name == "tensorboard":
            opened.append(_TensorBoard(out, resume_at_step))
        elif name == "mlflow":
            opened.append(_Reached(name, _MLflow(out, config.project)))
        else:
            opened.append(_Reached(name, _WeightsAndBiases(out, config.project)))
    return opened


class _TensorBoard:
    def __init__(self, out: Path, resume_at_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(out / "tensorboard"), purge_step=resume_at_step)

    def show(self, numbers: Mapping[str, float], step: int) -> None:
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class _MLflow:
    """A step that a killed run has shown is shown again, with the same values."""

    def __init__(self, out: Path, project: str) -> None:
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient

        self._client = MlflowClient()
        identity = out / IDENTITY_NAME.format("mlflow")
        try:
            if identity.exists():
                self._run = str(json.loads(identity.read_text())["run"])
                self._client.update_run(self._run, status="RUNNING")
            else:
                found = self._client.get_experiment_by_name(project)
                experiment = self._client.create_experiment(project) if found is None else found.experiment_id
                self._run = self._client.create_run(experiment, run_name=out.absolute().name).info.run_id
                for name, value in _options(out):
                    self._client.log_param(self._run, name, value)
                write_json(identity, {"run": self._run})
        except MlflowException as error:
            raise UserError(
                f"--boards mlflow: {_first_line(error)}: set MLFLOW_TRACKING_URI, or train without it"
            ) from error

    def show(self, numbers: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now_ms = int(1000 * time.time())
        self._client.log_batch(self._run, [Metric(name, value, now_ms, step) for name, value in numbers.items()])

    def close(self) -> None:
        self._client.set_terminated(self._run)


class _WeightsAndBiases:
    """It keeps the first numbers that it was shown of a step: those of a killed run are the same."""

    def __init__(self, out: Path, project: str) -> None:
        import wandb

        identity = out / IDENTITY_NAME.format("wandb")
        if not identity.exists():
            write_json(identity, {"run": secrets.token_hex(8)})
        try:
            self._run = wandb.init(
                project=project,
                id=json.loads(identity.read_text())["run"],
                resume="allow",
                name=out.absolute().name,
                dir=str(out),
                config=dict(_options(out)),
            )
        except wandb.errors.Error as error:
            raise UserError(
                f"--boards wandb: {_first_line(error)}: log in by wandb login, or set WANDB_MODE=offline"
            ) from error

    def show(self, numbers: Mapping[str, float], step: int) -> None:
        self._run.log(dict(numbers), step=step)

    def close(self) -> None:
        self._run.finish()


class _Reached:
    """Another board, as long as it can be reached."""

    def __init__(self, name: str, board: Board) -> None:
        self._name = name
        self._board: Board | None = board

    def show(self, numbers: Mapping[str, float], step: int) -> None:
        self._try(lambda board: board.show(numbers, step), f"from step {step} on its numbers are in log.jsonl alone")

    def close(self) -> None:
        self._try(lambda board: board.close(), "it may show the run as unfinished")

    def _try(self, do: Any, without_it: str) -> None:
        if self._board is None:
            return
        try:
            do(self._board)
        except Exception as error:  # whatever the board's library raises: none of it is a reason to end a training
            self._board = None
            _logger.warning(
                "warning: %s cannot be reached (%s): %s; the run goes on", self._name, _first_line(error), without_it
            )


def _options(out: Path) -> Iterator[tuple[str, Any]]:
    """The options of the run by dotted name, without the paths of this machine."""
    for name, value in leaves(RunRecord.read(out).configuration).items():
        if name.split(".")[0] not in OF_THE_MACHINE:
            yield name, value


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__
