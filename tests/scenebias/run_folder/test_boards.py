"""What must hold of boards: they show what log.jsonl holds, through a resume too, and no fault of theirs ends a run."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from scenebias.run_folder.boards import BoardsConfig, check_boards, open_boards
from scenebias.run_folder.log import TrainingLog
from scenebias.run_folder.record import RunRecord
from shards.errors import UserError


@dataclass(frozen=True)
class Options:
    learning_rate: float = 0.5
    train: str = "/a/secret/place"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """The folder of a run that has begun."""
    folder = tmp_path / "run"
    folder.mkdir()
    RunRecord.of(Options(), {}, {}).write(folder)
    return folder


def log_two_epochs_with_a_kill_between(out: Path, boards: BoardsConfig) -> dict[tuple[str, int], float]:
    """What log.jsonl then holds; the third step is logged twice, as it came after the checkpoint."""
    log = TrainingLog(out, 0, 0, boards)
    for step in range(3):
        log.write("step", step, {"epoch": step // 2, "loss": 1.0 / (step + 1)})
        if step == 1:
            log.write("epoch", 2, {"epoch": 0, "top1": 0.25})
    log.close()
    log = TrainingLog(out, 2, 1, boards)
    for step in range(2, 4):
        log.write("step", step, {"epoch": 1, "loss": 1.0 / (step + 1)})
    log.write("epoch", 4, {"epoch": 1, "top1": 0.5})
    log.close()
    entries = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return {
        (f"{entry['kind']}/{name}", entry["global_step"] - (entry["kind"] == "epoch")): value
        for entry in entries
        for name, value in entry.items()
        if name not in ("kind", "global_step")
    }


def test_mlflow_shows_what_the_log_holds_as_one_run_with_its_options(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracking = pytest.importorskip("mlflow.tracking", reason="--boards mlflow needs mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "store").as_uri())
    expected = log_two_epochs_with_a_kill_between(out, BoardsConfig(boards=("mlflow",), project="trials"))
    client = tracking.MlflowClient()
    experiment = client.get_experiment_by_name("trials")
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == ("run", "FINISHED")
    assert run.data.params == {"learning_rate": "0.5"}
    shown = {
        (name, metric.step): metric.value
        for name in run.data.metrics
        for metric in client.get_metric_history(run.info.run_id, name)
    }
    assert shown == expected
    assert not (out / "tensorboard").exists()


def test_weights_and_biases_is_given_what_the_log_holds_as_one_run(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for the library, which needs an account: it notes how it is called."""
    begun: list[dict] = []
    shown: dict[tuple[str, int], float] = {}

    def init(**options: object) -> SimpleNamespace:
        begun.append(options)
        return SimpleNamespace(
            log=lambda numbers, step: shown.update({(name, step): value for name, value in numbers.items()}),
            finish=lambda: None,
        )

    library = ModuleType("wandb")
    library.init, library.errors = init, SimpleNamespace(Error=RuntimeError)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", library)
    expected = log_two_epochs_with_a_kill_between(out, BoardsConfig(boards=("wandb",), project="trials"))
    assert shown == expected
    first, second = begun
    assert first["id"] == second["id"]
    assert (first["project"], first["resume"], first["name"]) == ("trials", "allow", "run")
    assert first["config"] == {"learning_rate": 0.5}


def test_a_board_that_fails_is_told_once_and_the_log_goes_on(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tracking = pytest.importorskip("mlflow.tracking", reason="--boards mlflow needs mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "store").as_uri())
    log = TrainingLog(out, 0, 0, BoardsConfig(boards=("mlflow", "tensorboard")))

    def fail(*_: object, **__: object) -> None:
        raise ConnectionError("no route to host\nand more")

    monkeypatch.setattr(tracking.MlflowClient, "log_batch", fail)
    for step in range(3):
        log.write("step", step, {"loss": 1.0})
    log.close()
    assert [record.getMessage() for record in caplog.records if record.name == "scenebias.run_folder.boards"] == [
        "warning: mlflow cannot be reached (no route to host): from step 0 on its numbers are in log.jsonl alone; the"
        " run goes on"
    ]
    assert len((out / "log.jsonl").read_text().splitlines()) == 3
    assert list((out / "tensorboard").iterdir())


def test_without_any_board_the_log_alone_is_written(out: Path) -> None:
    assert log_two_epochs_with_a_kill_between(out, BoardsConfig(boards=()))
    assert sorted(path.name for path in out.iterdir()) == ["log.jsonl", "run.json"]
    assert open_boards(BoardsConfig(boards=()), out, 0) == []


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"boards": ("visdom",)}, "boards must be some of tensorboard, mlflow, wandb, got 'visdom'"),
        ({"boards": ("mlflow", "mlflow")}, "boards must be different ones"),
    ],
)
def test_unknown_boards_and_the_same_twice_are_refused(options: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        BoardsConfig(**options)


def test_a_board_whose_package_is_missing_is_refused_with_the_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "wandb" else True)
    check_boards(BoardsConfig())
    with pytest.raises(UserError, match=r'--boards wandb needs its package: pip install -e "\.\[wandb\]"'):
        check_boards(BoardsConfig(boards=("tensorboard", "wandb")))
