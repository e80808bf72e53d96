"""A command that starts its own processes: one ending for all, told once, with the status of a command alone."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

from scenebias.commands import Command
from scenebias.distributed.launch import Ending, check_process_count, ending_of, leave_words, said_once
from scenebias.models.weights import load_weights
from scenebias.pretrain import PretrainConfig
from scenebias.run_folder.checkpoint import CheckpointFolder
from shards.errors import UserError
from tests.forked import run_command, run_in_ranks
from tests.project import ROOT

LONGEST_RUN_S = 120
SMALL = ("--backbone", "small3d", "--frames", "8", "--size", "32", "--batch-size", "6", "--learning-rate", "0.01")

PROGRAM = """
import os, signal, sys, time
from dataclasses import dataclass
from scenebias.commands import Command
from shards.errors import UserError

@dataclass(frozen=True, kw_only=True)
class Options:
    end: str

RANK = os.environ.get("RANK", "alone")

def say(what: str) -> None:
    os.write(1, f"rank {RANK} {what}\\n".encode())  # whole lines, as all write to one pipe

def save(number, frame):
    say("saved")
    sys.exit(128 + number)

def main(options: Options) -> int | None:
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, save)
    say("began")
    if options.end == "good":
        return
    if options.end == "mistake":
        raise UserError("no such thing: choose another")
    if options.end == "bug" and RANK == "1":
        raise ValueError("a bug")
    if options.end == "killed" and RANK == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)

Command(main=main, options=Options, parallel=True).run()
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("program") / "program.py"
    path.write_text(PROGRAM)
    return path


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[str]]]:
    """All that are started; ended with the test."""
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        process.kill()  # its processes end with it
        process.communicate(timeout=LONGEST_RUN_S)


@pytest.fixture(autouse=True)
def ctrl_c_is_heard() -> Iterator[None]:
    """A shell that starts the tests in the background has them, and all that they start, ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def start(started: list[subprocess.Popen[str]], *command: object) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    line = [sys.executable, *map(str, command)]
    pipe = subprocess.PIPE
    started.append(subprocess.Popen(line, env=environment, stdout=pipe, stderr=pipe, text=True))
    return started[-1]


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, error = process.communicate(timeout=LONGEST_RUN_S)
    return process.returncode, out, error


def test_every_process_runs_the_same_command_and_a_good_end_is_silent(
    program: Path, processes: list[subprocess.Popen[str]]
) -> None:
    status, out, error = finish(start(processes, program, "--gpus", "3", "--end", "good"))
    assert (status, error) == (0, "")
    assert sorted(out.splitlines()) == ["rank 0 began", "rank 1 began", "rank 2 began"]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGUSR1, 138)])
def test_signals_end_the_processes_with_their_work_saved(
    program: Path, processes: list[subprocess.Popen[str]], number: signal.Signals, status: int
) -> None:
    process = start(processes, program, "--processes", "2", "--end", "never")
    assert process.stdout is not None
    assert sorted(process.stdout.readline() for _ in range(2)) == ["rank 0 began\n", "rank 1 began\n"]
    process.send_signal(number)
    found, out, error = finish(process)
    assert found == status
    assert sorted(out.splitlines()) == ["rank 0 saved", "rank 1 saved"]
    assert error == ("interrupted\n" if number == signal.SIGINT else "")


def test_a_bug_shows_its_traceback_once_with_its_rank(program: Path, processes: list[subprocess.Popen[str]]) -> None:
    status, _, error = finish(start(processes, program, "--processes", "2", "--end", "bug"))
    assert status == 1
    assert error.startswith("error: rank 1 failed\nTraceback")
    assert error.count("Traceback") == error.count("ValueError: a bug") == 1


def test_a_killed_process_is_named(program: Path, processes: list[subprocess.Popen[str]]) -> None:
    status, _, error = finish(start(processes, program, "--processes", "2", "--end", "killed"))
    assert status == 137
    assert error == "error: rank 1 was ended by SIGKILL: start the same command again to go on\n"


def test_a_mistake_is_told_once_without_a_traceback(tmp_path: Path, processes: list[subprocess.Popen[str]]) -> None:
    places = ("--root", tmp_path / "none", "--out", tmp_path / "packed")
    status, out, error = finish(start(processes, "-m", "scenebias.cli", "pack", "folder", "--processes", "2", *places))
    assert (status, out) == (2, "")
    assert error.startswith(f"error: --root {tmp_path / 'none'}: no such folder")
    assert error.count("\n") == 1
    assert not (tmp_path / "packed").exists()


def test_sigterm_saves_the_run_which_two_processes_then_end_with_weights(
    tiny_dataset: Path, tiny_test_dataset: Path, tmp_path: Path, processes: list[subprocess.Popen[str]]
) -> None:
    out = tmp_path / "run"
    places = ("--train", tiny_dataset, "--val", tiny_test_dataset, "--out", out)
    options = (*SMALL, "--epochs", "8")
    began = start(processes, "-m", "scenebias.cli", "pretrain", *options, *places, "--processes", "2")
    while sum(1 for _ in steps_of(out)) < 3:
        assert began.poll() is None, finish(began)
        time.sleep(0.005)
    began.send_signal(signal.SIGTERM)
    status, _, error = finish(began)
    assert status == 143
    assert len(re.findall(r"SIGTERM: saved after (?:step|epoch) \d+; the same command", error)) == 1  # or evaluating
    assert "Traceback" not in error
    saved = CheckpointFolder(out / "checkpoints").load_newest()
    assert saved is not None
    assert 2 * saved.epoch + saved.step == sum(1 for _ in steps_of(out)) < 16
    told = run_in_ranks(tmp_path / "printed", 2, run_command, "scenebias.pretrain", [*options, *places])
    assert "resumes at epoch" in told[0]
    assert load_weights(out / "weights.safetensors")[1].classes == ("clap", "jump", "wave")
    assert json.loads((out / "run.json").read_text())["circumstances"]["processes"] == 2


def steps_of(out: Path) -> Iterator[dict[str, Any]]:
    """What the log says of each step; whole lines only, as it may be growing."""
    if (out / "log.jsonl").exists():
        for line in (out / "log.jsonl").read_text().split("\n")[:-1]:
            if (entry := json.loads(line))["kind"] == "step":
                yield entry


def test_the_option_is_no_part_of_the_configuration() -> None:
    seen: list[Any] = []
    command = Command(main=seen.append, options=PretrainConfig, parallel=True)
    with pytest.raises(SystemExit):
        command.run(["--train", "a", "--val", "b", "--out", "c", "--processes", "1"])
    assert seen == [PretrainConfig(train="a", val="b", out=Path("c"))]
    assert type(seen[0]) is PretrainConfig


def test_refused_options_start_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("scenebias.commands.launch", lambda processes: pytest.fail("started"))
    command = Command(main=print, options=PretrainConfig, parallel=True)
    places = ["--train", "a", "--val", "b", "--out", "c"]
    for wrong in (["--epochs", "x"], ["--epochs", "-1"], ["--processes", "0"]):
        with pytest.raises(SystemExit) as stop:
            command.run([*places, "--processes", "2", *wrong])
        assert stop.value.code == 2
    assert "--processes must be at least 1, got 0" in capsys.readouterr().err


def test_under_torchrun_the_option_must_agree_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    check_process_count(2)
    check_process_count(None)
    with pytest.raises(UserError, match="--processes 3, but torchrun has started 2 here"):
        check_process_count(3)


def test_under_torchrun_nothing_is_left_unsaid(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "error.json"))
    monkeypatch.setenv("ROLE_NAME", "default")
    assert not leave_words("hear me")
    assert not list(tmp_path.iterdir())


def test_under_torchrun_rank_0_speaks_and_the_others_leave_their_words_to_its_report(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "error.json"))
    monkeypatch.setenv("ROLE_NAME", "default")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    assert not leave_words("hear me")
    with said_once():
        print("a mistake", file=sys.stderr)
    assert capsys.readouterr().err == "a mistake\n"
    monkeypatch.setenv("RANK", "1")
    with said_once():
        print("a mistake", file=sys.stderr)
    assert capsys.readouterr().err == ""
    assert leave_words("hear me")
    assert json.loads((tmp_path / "error.json").read_text())["message"] == "hear me"
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", "")
    assert not leave_words("hear me")


def test_a_mistake_under_torchrun_is_told_once() -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += [str(ROOT / "tools" / "make_shards.py"), "folder", "--root", "a", "--out", "o", "--height", "-1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST_RUN_S, check=False)
    assert done.returncode != 0
    assert done.stderr.count("error: --height must be a multiple of 16 up to 65500, got -1\n") <= 1
    assert (
        "--height must be a multiple of 16 up to 65500, got -1" in done.stderr
    )  # by rank 0, or in the report for a faster one
    assert 'scenebias/commands.py", line' not in done.stderr


class Ranks:
    """Processes that have failed, as torch tells of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.failures: dict[int, ProcessFailure] = {}

    def fail(self, status: int, words: str | None = None, ended_s: float = 0) -> "Ranks":
        rank = len(self.failures)
        path = self.folder / f"{rank}.json"
        if words is not None:
            path.write_text(json.dumps({"message": words, "timestamp": ended_s}))
        self.failures[rank] = ProcessFailure(rank, 1, status, str(path))
        if words is None:
            self.failures[rank].timestamp = int(ended_s)  # as it is counted when the end is seen
        return self


@pytest.fixture
def ranks(tmp_path: Path) -> Ranks:
    return Ranks(tmp_path)


def test_the_first_to_leave_words_is_told(ranks: Ranks) -> None:
    ranks.fail(2, "lost another", ended_s=7.5).fail(1, "Traceback: a bug", ended_s=7.4).fail(-signal.SIGTERM)
    assert ending_of(ranks.failures) == Ending(1, "rank 1 failed\nTraceback: a bug")


def test_who_dies_without_words_comes_before_those_who_miss_it(ranks: Ranks) -> None:
    ranks.fail(2, "lost another", ended_s=7.5).fail(-signal.SIGSEGV, ended_s=7.6)
    assert ending_of(ranks.failures).status == 128 + signal.SIGSEGV


def test_who_is_killed_as_it_does_not_end_comes_after_those_who_have_failed(ranks: Ranks) -> None:
    ranks.fail(2, "no such thing", ended_s=7.5).fail(-signal.SIGKILL, ended_s=37.5)
    assert ending_of(ranks.failures) == Ending(2, "no such thing")


@pytest.mark.parametrize("status", [138, 143])
def test_processes_that_were_asked_to_end_have_said_so(ranks: Ranks, status: int) -> None:
    ranks.fail(status).fail(-signal.SIGTERM)
    assert ending_of(ranks.failures) == Ending(status)


def test_a_process_that_ends_before_it_reads_its_options_is_named(ranks: Ranks) -> None:
    assert ending_of(ranks.fail(1).failures) == Ending(1, "rank 0 ended with status 1: see what it says above")
