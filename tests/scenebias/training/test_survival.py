"""Training that is ended from outside, in one process and in several: what it leaves behind, and how it goes on."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from dali_pipelines.windows import ClipConfig
from scenebias.commands import Command
from scenebias.distributed.interruption import Interrupted
from scenebias.distributed.process_place import DistributedConfig, distributed_session
from scenebias.distributed.rank_agreement import check_rank_agreement
from scenebias.models.action_model import ModelConfig
from scenebias.models.weights import load_weights
from scenebias.pretrain import PretrainConfig
from scenebias.pretrain import main as pretrain
from scenebias.run_folder.checkpoint import CheckpointConfig, CheckpointFolder
from scenebias.run_folder.log import TrainingLog
from scenebias.training.optimization import OptimizationConfig
from scenebias.training.schedule import ScheduleConfig
from scenebias.transfer.run import TransferRunConfig, run_transfer
from shards.errors import UserError
from tests.forked import LONGEST_RUN_S, ranks, run_command, run_in_ranks

SMALL = (
    "--backbone",
    "small3d",
    "--frames",
    "8",
    "--size",
    "32",
    "--batch-size",
    "6",
    "--check-ranks-every-steps",
    "1",
)
TIMINGS = {"step_s", "data_wait_share", "clips_per_s", "precise_bn_s"}


@pytest.fixture(scope="module")
def undisturbed(
    tiny_dataset: Path, tiny_test_dataset: Path, tmp_path_factory: pytest.TempPathFactory
) -> PretrainConfig:
    """A finished run of two epochs of three steps."""
    config = PretrainConfig(
        train=str(tiny_dataset),
        val=str(tiny_test_dataset),
        out=tmp_path_factory.mktemp("undisturbed") / "run",
        clip=ClipConfig(frames=8, size=32),
        model=ModelConfig(backbone="small3d", dropout=0.2),
        schedule=ScheduleConfig(epochs=2, batch_size=4),
        optimization=OptimizationConfig(learning_rate=0.01),
        checkpoints=CheckpointConfig(checkpoint_every_steps=2),
    )
    pretrain(config)
    assert [line["kind"] for line in log_lines(config.out)] == ["step", "step", "step", "epoch"] * 2
    return config


def log_lines(out: Path) -> list[dict]:
    """Whole lines only: the log may be growing."""
    if not (out / "log.jsonl").exists():
        return []
    entries = [json.loads(line) for line in (out / "log.jsonl").read_text().split("\n")[:-1]]
    return [{name: value for name, value in entry.items() if name not in TIMINGS} for entry in entries]


def assert_same_run(out: Path, other: Path) -> None:
    """To the bit."""
    assert log_lines(out) == log_lines(other)
    assert (out / "result.json").read_bytes() == (other / "result.json").read_bytes()
    ours, theirs = (load_weights(folder / "weights.safetensors")[0].state_dict() for folder in (out, other))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def call_after(monkeypatch: pytest.MonkeyPatch, line: int, call: Callable[[], None]) -> None:
    """``call`` when so many lines have been logged."""
    write = TrainingLog.write
    written = 0

    def write_and_call(log: TrainingLog, kind: str, global_step: int, numbers: dict[str, float]) -> None:
        nonlocal written
        write(log, kind, global_step, numbers)
        written += 1
        if written == line:
            call()

    monkeypatch.setattr(TrainingLog, "write", write_and_call)


@pytest.mark.parametrize(
    ("line", "number"), [(1, signal.SIGTERM), (3, signal.SIGUSR1), (4, signal.SIGTERM), (7, signal.SIGTERM)]
)
def test_a_signal_ends_training_with_all_steps_saved_and_the_run_goes_on_to_the_same_losses(
    undisturbed: PretrainConfig, tmp_path: Path, line: int, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the third and the seventh line the run evaluates."""
    config = replace(undisturbed, out=tmp_path / "run")
    with monkeypatch.context() as patch:
        call_after(patch, line, lambda: os.kill(os.getpid(), number))
        with pytest.raises(Interrupted) as ended:
            pretrain(config)
    assert ended.value.code == 128 + number
    saved = CheckpointFolder(config.out / "checkpoints").load_newest()
    assert saved is not None
    assert 3 * saved.epoch + saved.step == sum(entry["kind"] == "step" for entry in log_lines(config.out))
    pretrain(config)
    assert_same_run(config.out, undisturbed.out)


class Killed(BaseException):
    """Stands for the end of the process."""


def test_a_run_that_dies_after_the_line_of_an_epoch_goes_on_to_the_same_log_and_weights(
    undisturbed: PretrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(undisturbed, out=tmp_path / "run")

    def die() -> None:
        raise Killed

    with monkeypatch.context() as patch:
        call_after(patch, 4, die)
        with pytest.raises(Killed):
            pretrain(config)
    pretrain(config)
    assert_same_run(config.out, undisturbed.out)


def test_what_kills_inside_writes_left_does_not_stop_the_same_command_and_is_removed(
    undisturbed: PretrainConfig, tmp_path: Path
) -> None:
    config = replace(undisturbed, out=tmp_path / "run")
    config.out.mkdir()
    (config.out / ".run.json.77.tmp").write_text("{")
    pretrain(config)
    assert_same_run(config.out, undisturbed.out)
    assert not list(config.out.rglob(".*"))


def test_a_run_whose_newest_checkpoint_is_cut_short_goes_on_from_the_one_before_to_the_same_losses(
    undisturbed: PretrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(undisturbed, out=tmp_path / "run")
    with monkeypatch.context() as patch:
        call_after(patch, 6, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(Interrupted):
            pretrain(config)
    newest = max((config.out / "checkpoints").iterdir())
    os.truncate(newest, newest.stat().st_size // 2)
    with pytest.warns(UserWarning, match=f"{newest.name} is damaged: trying the one before"):
        pretrain(config)
    assert_same_run(config.out, undisturbed.out)


def test_checkpoints_of_another_version_end_the_run_in_one_sentence(
    undisturbed: PretrainConfig, tmp_path: Path
) -> None:
    config = replace(undisturbed, out=tmp_path / "run")
    (config.out / "checkpoints").mkdir(parents=True)
    shutil.copy(undisturbed.out / "run.json", config.out)
    torch.save({"epoch": 1, "step": 0, "model": {}}, config.out / "checkpoints" / "step-000000003.pt")
    with pytest.raises(UserError, match=r"step-000000003\.pt was not written by this version"):
        pretrain(config)


Launch = Callable[..., subprocess.Popen]


@pytest.fixture
def torchrun() -> Iterator[Launch]:
    """Starts training in two processes under torchrun; all are ended with the test."""
    started = []

    def start(out: Path, *options: str, launch: tuple[str, ...] = ()) -> subprocess.Popen:
        launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", *launch)
        process = subprocess.Popen(
            [sys.executable, *launcher, "-m", "scenebias.pretrain", *options, *SMALL, "--out", str(out)],
            env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()  # the ranks of torchrun end with it
        process.communicate(timeout=LONGEST_RUN_S)


def finish(process: subprocess.Popen, status: int = 0) -> str:
    output, _ = process.communicate(timeout=LONGEST_RUN_S)
    assert process.returncode == status, output
    return output


def wait_for_lines(out: Path, count: int, process: subprocess.Popen) -> None:
    deadline_s = time.monotonic() + LONGEST_RUN_S
    while len(log_lines(out)) < count:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline_s
        time.sleep(0.005)


def process_of_rank(out: Path, rank: int) -> int:
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            arguments = (folder / "cmdline").read_bytes().split(b"\0")
            environment = (folder / "environ").read_bytes().split(b"\0")
            if str(out).encode() in arguments and f"RANK={rank}".encode() in environment:
                return int(folder.name)
    raise AssertionError(f"no process of rank {rank}")


def test_a_run_of_torchrun_recovers_by_itself_from_a_killed_rank_to_the_same_losses(
    tiny_dataset: Path, tiny_test_dataset: Path, tmp_path: Path, torchrun: Launch
) -> None:
    places = ("--train", str(tiny_dataset), "--val", str(tiny_test_dataset))
    options = ("--epochs", "6", "--checkpoint-every-steps", "1", *places)
    killed = torchrun(tmp_path / "killed", *options, launch=("--max-restarts=1",))
    wait_for_lines(tmp_path / "killed", 4, killed)
    os.kill(process_of_rank(tmp_path / "killed", 1), signal.SIGKILL)
    undisturbed = [*options, *SMALL, "--out", tmp_path / "undisturbed"]
    run_in_ranks(tmp_path / "printed", 2, run_command, "scenebias.pretrain", undisturbed)
    assert "resumes at epoch" in finish(killed)
    assert_same_run(tmp_path / "killed", tmp_path / "undisturbed")


def test_when_torchrun_is_killed_its_processes_save_what_they_have_done_and_end(
    tiny_dataset: Path, tiny_test_dataset: Path, tmp_path: Path, torchrun: Launch
) -> None:
    places = ("--train", str(tiny_dataset), "--val", str(tiny_test_dataset))
    began = torchrun(tmp_path, "--epochs", "1000", *places)
    wait_for_lines(tmp_path, 4, began)
    began.kill()
    assert "SIGTERM: saved after" in finish(began, status=-signal.SIGKILL)
    saved = CheckpointFolder(tmp_path / "checkpoints").load_newest()
    assert saved is not None
    assert 2 * saved.epoch + saved.step == sum(entry["kind"] == "step" for entry in log_lines(tmp_path))


def transfer_until_terminated(arguments: list[object]) -> None:
    """Rank 0 gets SIGTERM after four lines of the log."""
    call_after(pytest.MonkeyPatch(), 4, lambda: os.kill(os.getpid(), signal.SIGTERM))
    run_command("scenebias.transfer.command", arguments)


def test_what_two_processes_began_goes_on_in_one_and_in_three_with_the_same_losses(
    undisturbed: PretrainConfig, tmp_path: Path
) -> None:
    """The backbone is frozen: a rank's batch statistics are its own."""
    weights = undisturbed.out / "weights.safetensors"
    one = TransferRunConfig(
        train=undisturbed.train,
        val=undisturbed.val,
        out=tmp_path / "one",
        weights=weights,
        backbone="small3d",
        head_only=True,
        force=True,
        clip=undisturbed.clip,
        schedule=ScheduleConfig(epochs=4, batch_size=6, check_ranks_every_steps=1),
        optimization=OptimizationConfig(learning_rate=0.5),
    )
    run_transfer(one)
    expected = log_lines(one.out)
    places = ("--train", one.train, "--val", one.val, "--weights", weights)
    options = ("--epochs", 4, "--learning-rate", 0.5, "--head-only", "--force", *places, *SMALL)
    with ranks(tmp_path / "began", 2, transfer_until_terminated, [*options, "--out", tmp_path / "two"]) as both:
        for rank in both:
            rank.finish(status=128 + signal.SIGTERM)
    assert 4 <= len(log_lines(tmp_path / "two")) < len(expected)
    three = Path(shutil.copytree(tmp_path / "two", tmp_path / "three"))
    run_in_ranks(tmp_path / "went on", 3, run_command, "scenebias.transfer.command", [*options, "--out", three])
    run_transfer(replace(one, out=tmp_path / "two"))
    for out in (tmp_path / "two", three):
        lines = log_lines(out)
        assert [line.pop("kind") for line in lines] == ["step", "step", "epoch"] * 4
        for line, wanted in zip(lines, expected, strict=True):
            assert line == pytest.approx({name: wanted[name] for name in line}, rel=1e-4)


@dataclass(frozen=True)
class Ending:
    ending: str


def end_as_rank_1(ending: signal.Signals) -> None:
    """Rank 1 ends so, or stands still, after its weights have changed; rank 0 tells of both."""
    Command(main=_end_as_rank_1, options=Ending).run(["--ending", ending.name])


def _end_as_rank_1(config: Ending) -> None:
    torch.manual_seed(0)
    linear = torch.nn.Linear(3, 2)
    with distributed_session(DistributedConfig(collective_timeout_s=4)) as place:
        check_rank_agreement(linear, place, "first")
        if place.rank == 1:
            with torch.no_grad():
                linear.bias[0] += 1
        try:
            check_rank_agreement(linear, place, "then")
        except UserError as error:
            print(error)
        if place.rank == 1:
            os.kill(os.getpid(), signal.Signals[config.ending])
        begun_s = time.monotonic()
        try:
            place.sum_over_ranks(torch.ones(3))
        finally:
            print(f"failed after {time.monotonic() - begun_s} s")


@pytest.mark.parametrize(
    ("ending", "least_s", "most_s"), [(signal.SIGKILL, 0, 3), (signal.SIGSTOP, 3, 8)], ids=["SIGKILL", "SIGSTOP"]
)
def test_a_rank_that_dies_or_stands_still_makes_the_others_fail_in_time_without_torchrun(
    tmp_path: Path, ending: signal.Signals, least_s: float, most_s: float
) -> None:
    with ranks(tmp_path, 2, end_as_rank_1, ending) as (main, _):
        output = main.finish(status=2)
    assert "rank 0 has lost another process of the run" in output
    assert "then, the weights of rank 1 differ from those of the other ranks (first in bias)" in output
    assert least_s < float(output.split("failed after ")[1].split()[0]) < most_s
