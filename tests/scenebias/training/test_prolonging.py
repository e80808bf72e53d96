"""A finished run that is given more epochs: what comes of it is what would have come of so many from the start."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from dali_pipelines.windows import ClipConfig
from scenebias.debiasing.objective import ObjectiveConfig
from scenebias.models.action_model import ModelConfig
from scenebias.pretrain import PretrainConfig
from scenebias.pretrain import main as pretrain
from scenebias.run_folder.folder import RunFolder
from scenebias.run_folder.record import RunRecord
from scenebias.training import precise_batch_norm
from scenebias.training.optimization import OptimizationConfig
from scenebias.training.schedule import ScheduleConfig
from shards.errors import UserError
from tests.forked import run_command, run_in_ranks
from tests.scenebias.training.test_survival import Killed, assert_same_run, call_after, log_lines

SCHEDULES = {
    "constant": OptimizationConfig(learning_rate=0.01, warmup_epochs=1.5),
    "step": OptimizationConfig(learning_rate=0.01, schedule="step", step_epochs=(1, 3)),
    "plateau": OptimizationConfig(learning_rate=0.05, schedule="plateau", plateau_patience=0, head_warmup_epochs=1),
}


@pytest.fixture(autouse=True)
def _fewer_clips_between(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in data sets of usual size, the statistics after the last epoch are of more clips than those after others."""
    monkeypatch.setattr(precise_batch_norm, "LEAST_BETWEEN", 4)


@pytest.fixture
def config(tiny_dataset: Path, tiny_test_dataset: Path, tmp_path: Path) -> PretrainConfig:
    return PretrainConfig(
        train=str(tiny_dataset),
        val=str(tiny_test_dataset),
        out=tmp_path / "run",
        clip=ClipConfig(frames=8, size=32),
        model=ModelConfig(backbone="small3d", dropout=0.2),
        schedule=ScheduleConfig(epochs=2, batch_size=4),
        optimization=SCHEDULES["constant"],
    )


def of_epochs(config: PretrainConfig, epochs: int) -> PretrainConfig:
    return replace(config, schedule=replace(config.schedule, epochs=epochs))


def positions(config: PretrainConfig) -> list[str]:
    """Of the checkpoints: their names without the checksums, as pickles of the same state differ in bytes."""
    return sorted(path.stem.rpartition("-")[0] for path in RunFolder(config.out).checkpoints.iterdir())


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_run_that_is_given_more_epochs_is_one_that_had_them_from_the_start(
    config: PretrainConfig, tmp_path: Path, schedule: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = replace(config, optimization=SCHEDULES[schedule])
    whole = replace(of_epochs(config, 4), out=tmp_path / "whole")
    pretrain(whole)
    for epochs in (2, 3, 4):
        pretrain(of_epochs(config, epochs))
        assert len(RunFolder(config.out).read_result().history) == epochs
    assert "the run goes on, although schedule.epochs was 3 and is now 4" in capsys.readouterr().out
    assert_same_run(config.out, whole.out)
    assert positions(config) == positions(whole)
    pretrain(of_epochs(config, 4))
    assert "complete already" in capsys.readouterr().out


@pytest.mark.parametrize("line", [1, 2, 5])
def test_a_run_that_was_killed_after_it_was_given_more_epochs_goes_on_to_the_same(
    config: PretrainConfig, tmp_path: Path, line: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = replace(of_epochs(config, 4), out=tmp_path / "whole")
    pretrain(whole)
    pretrain(config)

    def die() -> None:
        raise Killed

    with monkeypatch.context() as patch:
        call_after(patch, line, die)
        with pytest.raises(Killed):
            pretrain(of_epochs(config, 4))
    assert not RunFolder(config.out).is_complete
    pretrain(of_epochs(config, 4))
    assert_same_run(config.out, whole.out)


def test_a_kill_between_the_steps_of_reopening_leaves_a_run_that_goes_on(
    config: PretrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the result is removed, and before the record is written."""
    whole = replace(of_epochs(config, 3), out=tmp_path / "whole")
    pretrain(whole)
    pretrain(config)
    finished = Path(shutil.copytree(config.out, tmp_path / "finished"))

    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(RunRecord, "write", die)
        with pytest.raises(Killed):
            pretrain(of_epochs(config, 3))
    pretrain(config)  # once more as it was
    assert_same_run(config.out, finished)
    with monkeypatch.context() as patch:
        patch.setattr(RunRecord, "write", die)
        with pytest.raises(Killed):
            pretrain(of_epochs(config, 3))
    shutil.copy(finished / "result.json", config.out)  # as if it had not been removed
    pretrain(of_epochs(config, 3))
    assert_same_run(config.out, whole.out)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            {"optimization": OptimizationConfig(learning_rate=0.01, schedule="cosine")},
            "--schedule cosine has brought its",
        ),
        ({"objective": ObjectiveConfig(name="scene", alpha_schedule="dann")}, "--alpha-schedule dann has raised"),
    ],
)
def test_what_depends_on_the_number_of_epochs_says_so_and_is_left_alone(
    config: PretrainConfig, change: dict, reason: str
) -> None:
    config = replace(config, **change)
    pretrain(config)
    before = {path: path.read_bytes() for path in config.out.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match=f"holds a run of 2 epochs, which cannot have 3: {reason}"):
        pretrain(of_epochs(config, 3))
    with pytest.raises(UserError, match=r"holds another run \(schedule\.epochs was 2 and is now 1"):
        pretrain(of_epochs(config, 1))
    assert {path: path.read_bytes() for path in config.out.rglob("*") if path.is_file()} == before


def test_without_the_checkpoint_before_the_last_evaluation_nothing_is_touched(config: PretrainConfig) -> None:
    pretrain(config)
    folder = RunFolder(config.out)
    *earlier, last = sorted(folder.checkpoints.iterdir())
    for path in earlier:
        path.write_bytes(b"damaged")
    with pytest.raises(UserError, match="holds no undamaged checkpoint of before the end of epoch 1"):
        pretrain(of_epochs(config, 3))
    assert last.exists()
    assert folder.is_complete


def test_several_processes_go_on_with_what_one_has_finished(config: PretrainConfig, tmp_path: Path) -> None:
    config = replace(config, schedule=replace(config.schedule, batch_size=6), optimization=OptimizationConfig())
    pretrain(config)
    options = ["--train", config.train, "--val", config.val, "--out", config.out, "--epochs", 3, "--batch-size", 6]
    options += ["--backbone", "small3d", "--dropout", 0.2, "--frames", 8, "--size", 32]
    run_in_ranks(tmp_path / "printed", 2, run_command, "scenebias.pretrain", options)
    assert [line["kind"] for line in log_lines(config.out)] == ["step", "step", "epoch"] * 3
    assert len(RunFolder(config.out).read_result().history) == 3
