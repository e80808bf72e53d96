"""End training in every rough way, start it again, and compare every loss with an undisturbed run's.

kills: SIGKILL at random moments, inside steps, checkpoint writes and evaluations, and the same command again.
restarts: single ranks of ``torchrun --max-restarts`` are killed. signals: SIGTERM and SIGUSR1, alone and under
torchrun. elastic: a run of two processes is killed, and goes on in one and in three. A GPU is not used: the same bits
are promised on a CPU.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro
from safetensors.torch import load_file

from scenebias.commands import Command
from scenebias.data.datasets import RemoteConfig, open_pair
from shards.checks import require_at_least

PROJECT_ROOT = Path(__file__).resolve().parents[2]
LONGEST_RUN_S = 1800
"""Only what hangs takes so long, on the slowest machine."""
EPOCHS = 3
SMALL = ("--backbone", "small3d", "--frames", "8", "--size", "32", "--batch-size", "32", "--epochs", str(EPOCHS))
OFTEN = ("--checkpoint-every-steps", "3")
ALL_SIGNALS = "--signals-to-handle=SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1"
TIMINGS = {"step_s", "data_wait_share", "clips_per_s", "precise_bn_s"}
LOOSEST_AGREEMENT = 1e-5
"""Relative difference of losses whose sums were taken in another order."""


@dataclass(frozen=True, kw_only=True)
class KillTraining:
    """What to try, on which data."""

    trial: Annotated[Literal["kills", "restarts", "signals", "elastic"], tyro.conf.Positional]
    """kills: SIGKILL at random moments; restarts: of single ranks; signals: SIGTERM and SIGUSR1; elastic: with other
    numbers of processes."""
    train: Path
    """Packed data set to train on."""
    val: Path
    """Packed data set to evaluate on."""
    kills: int = 20
    """Kill at least so many times."""
    processes: int = 1
    """kills: processes under torchrun; 1: without it."""
    seed: int = 0
    """Seed of the moments."""

    def __post_init__(self) -> None:
        require_at_least(1, kills=self.kills, processes=self.processes)


def main(config: KillTraining) -> int:
    """End training in every rough way, start it again, and compare every loss with an undisturbed run's.

    Exit status 1 where a number is not that of the undisturbed run, or something was left behind.
    """
    trials = {"kills": try_kills, "restarts": try_restarts, "signals": try_signals, "elastic": try_elastic}
    open_pair(str(config.train), str(config.val), RemoteConfig())
    with tempfile.TemporaryDirectory() as temporary:
        data = ("--train", str(config.train.resolve()), "--val", str(config.val.resolve()))
        trial = Trial(Path(temporary), data, random.Random(config.seed))
        trials[config.trial](trial, config)
        print(f"{config.trial}: {trial.problems} problems")
        return 1 if trial.problems else 0


@dataclass
class Trial:
    """Runs of one command, each in a folder of its own."""

    folder: Path
    data: tuple[str, ...]
    random: random.Random
    command: tuple[str, ...] = ("scenebias.pretrain", *SMALL, *OFTEN)
    problems: int = 0
    expected: list[dict] = field(default_factory=list)
    """What the last undisturbed run has logged."""
    training_s: float = 0.0
    """From the first step of the last undisturbed run to its end."""

    def start(self, name: str, processes: int, *torchrun: str) -> "Run":
        """Start the command, or start it again."""
        module, *arguments = self.command
        launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}", *torchrun]
        command = [sys.executable, *(launch if processes > 1 else []), "-m", module, *arguments]
        out = self.folder / name
        before = log_identity(out), unfinished_writes(out)
        with (self.folder / f"{name}.output").open("ab") as output:
            process = subprocess.Popen(
                [*command, *self.data, "--out", str(out)],
                cwd=PROJECT_ROOT,
                env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        return Run(process, out, *before)

    def undisturbed(self, name: str, processes: int) -> Path:
        """The folder of a run that is left alone."""
        run = self.start(name, processes)
        run.wait_for(run.has_begun)
        begun_s = time.monotonic()
        self.finish(run)
        self.training_s = time.monotonic() - begun_s
        self.expected = numbers_of(run.out)
        print(f"{name}: {len(self.expected)} steps and epochs in {self.training_s:.1f} s", flush=True)
        return run.out

    def after(self, lines: int) -> str:
        """What follows so many lines of the log."""
        if lines >= len(self.expected):
            return "end"
        return "evaluation" if self.expected[lines]["kind"] == "epoch" else "step"

    def finish(self, run: "Run") -> None:
        """Wait for the run's end, which must be a good one."""
        if run.process.wait(LONGEST_RUN_S) != 0:
            output = run.out.with_name(f"{run.out.name}.output").read_text()
            raise SystemExit(f"{run.out.name}: exit status {run.process.returncode}\n{output[-3000:]}")

    def check(self, holds: bool, problem: str) -> None:
        """Count and tell a problem, unless it ``holds``."""
        if not holds:
            self.problems += 1
            print(f"PROBLEM: {problem}", flush=True)

    def check_same(self, out: Path, undisturbed: Path) -> None:
        """Every number, every weight and nothing left behind."""
        ours = numbers_of(out)
        self.check(len(ours) == len(self.expected), f"{out.name}: {len(ours)} lines, not {len(self.expected)}")
        differ = [line for line, expected in zip(ours, self.expected, strict=False) if line != expected]
        self.check(not differ, f"{out.name}: {len(differ)} lines differ, first {differ[:1]}")
        weights, expected = (load_file(folder / "weights.safetensors") for folder in (out, undisturbed))
        same = weights.keys() == expected.keys() and all(torch.equal(weights[n], expected[n]) for n in expected)
        self.check(same, f"{out.name}: the weights differ")
        self.check(
            (out / "result.json").read_bytes() == (undisturbed / "result.json").read_bytes(),
            f"{out.name}: result.json differs",
        )
        left = [path.name for path in out.rglob(".*")]
        self.check(not left, f"{out.name}: left behind: {left}")
        checkpoints = list((out / "checkpoints").iterdir())
        self.check(len(checkpoints) <= 3, f"{out.name}: {len(checkpoints)} checkpoints are kept")


@dataclass
class Run:
    """A command that was started, and what can be seen of it from outside."""

    process: subprocess.Popen
    out: Path
    log_before: int | None
    writes_before: set[Path]
    """What an earlier kill has left."""
    ranks: dict[int, int] = field(default_factory=dict)
    """Processes by rank."""

    def has_begun(self) -> bool:
        """Whether this start has opened its log, just before its first step."""
        return log_identity(self.out) not in (None, self.log_before)

    def is_writing(self) -> bool:
        """Whether a checkpoint is being written, or was when the process was killed."""
        return bool(unfinished_writes(self.out) - self.writes_before)

    def wait_for(self, happens: Callable[[], bool], longest_s: float = LONGEST_RUN_S) -> bool:
        """Whether it ``happens`` before the process ends, and in time; returns at once when it does."""
        deadline_s = time.monotonic() + longest_s
        while self.process.poll() is None and time.monotonic() < deadline_s:
            if happens():
                return True
            time.sleep(0.001)
        return False

    def find_ranks(self) -> None:
        """Note which processes the ranks are."""
        self.ranks = {}
        for pid in processes_of(self.out):
            with suppress(FileNotFoundError, ProcessLookupError):
                for entry in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                    if entry.startswith(b"RANK="):
                        self.ranks[int(entry[5:])] = pid

    def kill(self) -> bool:
        """Kill all processes at once; False where the command had ended."""
        if self.process.poll() is not None:
            return False
        for pid in (*self.ranks.values(), self.process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(LONGEST_RUN_S)
        while remaining := processes_of(self.out):
            for pid in remaining:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)
        return True


def try_kills(trial: Trial, config: KillTraining) -> None:
    """Kill until ``config.kills`` are reached, in as many runs as that takes."""
    undisturbed = trial.undisturbed("undisturbed", config.processes)
    hit: Counter[str] = Counter()
    number = 0
    while hit.total() < config.kills or min(hit[kind] for kind in MOMENTS) == 0:
        name = f"killed{number}"
        number += 1
        while True:
            run = trial.start(name, config.processes)
            run.wait_for(run.has_begun)
            run.find_ranks()
            (kind,) = trial.random.choices(list(MOMENTS), weights=[1 / (1 + hit[kind]) for kind in MOMENTS])
            MOMENTS[kind](run, trial)
            if not run.kill():
                break
            lines = len(lines_of(run.out))
            where = "write" if run.is_writing() else trial.after(lines)
            hit[where] += 1
            print(f"{name}: killed after {lines} lines, {where}", flush=True)
        trial.finish(run)
        trial.check_same(run.out, undisturbed)
    print(f"{hit.total()} kills of {config.processes} processes in {number} runs: {dict(hit)}")


def wait_for_step(run: Run, trial: Trial) -> None:
    """Any moment of what is left of the run; not the last ones alone, or it would never end."""
    left = 1 - len(lines_of(run.out)) / len(trial.expected)
    run.wait_for(lambda: False, trial.random.uniform(0, max(left, 0.4) * trial.training_s))


def wait_for_write(run: Run, trial: Trial) -> None:
    """The moment in which a checkpoint is being written."""
    wait_for_step(run, trial)
    run.wait_for(run.is_writing)


def wait_for_evaluation(run: Run, trial: Trial) -> None:
    """A moment after the last step of an epoch."""
    seen = len(lines_of(run.out))
    ends = [line for line in range(seen, len(trial.expected)) if trial.after(line) == "evaluation"]
    if ends:
        end = trial.random.choice(ends)
        run.wait_for(lambda: len(lines_of(run.out)) >= end)
        run.wait_for(lambda: False, trial.random.uniform(0, 0.03 * trial.training_s))


MOMENTS = {"step": wait_for_step, "write": wait_for_write, "evaluation": wait_for_evaluation}


def try_restarts(trial: Trial, config: KillTraining) -> None:
    """Kill one rank after the other of a single command, which must come to its end by itself."""
    undisturbed = trial.undisturbed("undisturbed", 2)
    run = trial.start("restarted", 2, f"--max-restarts={config.kills}")
    for number in range(config.kills):
        run.wait_for(run.has_begun)
        run.wait_for(lambda: False, trial.random.uniform(0, 0.3 * trial.training_s))
        run.find_ranks()
        rank = trial.random.randrange(2)
        if run.process.poll() is not None or rank not in run.ranks:
            break
        run.log_before = log_identity(run.out)
        os.kill(run.ranks[rank], signal.SIGKILL)
        print(f"kill {number}: rank {rank}, after {len(lines_of(run.out))} lines", flush=True)
    trial.finish(run)
    trial.check_same(run.out, undisturbed)


def try_signals(trial: Trial, config: KillTraining) -> None:
    """Ask for an end at random moments, until the run is complete."""
    for processes in (1, 2):
        undisturbed = trial.undisturbed(f"undisturbed{processes}", processes)
        for number in (signal.SIGTERM, signal.SIGUSR1):
            name = f"{number.name}-{processes}"
            while True:
                run = trial.start(name, processes, ALL_SIGNALS)
                run.wait_for(run.has_begun)
                run.wait_for(lambda: False, trial.random.uniform(0, trial.training_s))
                if run.process.poll() is not None:
                    break
                run.process.send_signal(number)
                asked_s = time.monotonic()
                status = run.process.wait(LONGEST_RUN_S)
                if status == 0:
                    break
                seconds = time.monotonic() - asked_s
                # Outside of the training itself it dies of the signal, for which a shell reports the same status.
                expected = (128 + number, -number) if processes == 1 else (1,)
                trial.check(status in expected, f"{name}: exit status {status}, not {expected}")
                steps = sum(line["kind"] == "step" for line in numbers_of(run.out))
                print(f"{name}: ended in {seconds:.2f} s with status {status} after {steps} steps", flush=True)
                steps_per_epoch = sum(line["kind"] == "step" for line in trial.expected) // EPOCHS
                newest = max((run.out / "checkpoints").iterdir()).name.split("-")
                saved = int(newest[1]) * steps_per_epoch + int(newest[3])
                trial.check(saved == steps, f"{name}: {saved} of {steps} steps are saved")
            trial.finish(run)
            trial.check_same(run.out, undisturbed)


def try_elastic(trial: Trial, config: KillTraining) -> None:
    """Kill two processes and go on with one and with three; a frozen backbone has no statistics of its rank's clips."""
    weights = trial.undisturbed("pretrained", 1) / "weights.safetensors"
    trial.command = ("scenebias.transfer", *SMALL, *OFTEN, "--weights", str(weights), "--head-only", "--force")
    trial.undisturbed("one", 1)
    reference = trial.expected
    run = trial.start("two", 2)
    run.wait_for(run.has_begun)
    run.wait_for(lambda: len(lines_of(run.out)) > len(reference) // 3)
    run.find_ranks()
    trial.check(run.kill(), "the run of two processes was over before it could be killed")
    for processes in (1, 3):
        name = f"two-then-{processes}"
        shutil.copytree(run.out, trial.folder / name)
        continued = trial.start(name, processes)
        trial.finish(continued)
        ours = numbers_of(continued.out)
        trial.check(len(ours) == len(reference), f"{name}: {len(ours)} lines, not {len(reference)}")
        difference = max(
            abs(a[key] - b[key]) / max(1e-12, abs(b[key]))
            for a, b in zip(ours, reference, strict=False)
            for key in ("action_loss", "top1")
            if key in b
        )
        print(f"{name}: largest relative difference of a loss {difference:.1e}", flush=True)
        trial.check(difference < LOOSEST_AGREEMENT, f"{name}: losses differ by {difference:.1e}")


def lines_of(out: Path) -> list[bytes]:
    """The whole lines of a run's log."""
    with suppress(FileNotFoundError):
        return (out / "log.jsonl").read_bytes().split(b"\n")[:-1]
    return []


def numbers_of(out: Path) -> list[dict]:
    """The lines of a run's log without times."""
    entries = [json.loads(line) for line in lines_of(out)]
    return [{name: value for name, value in entry.items() if name not in TIMINGS} for entry in entries]


def log_identity(out: Path) -> int | None:
    """Another number for every start, as each writes the log anew."""
    with suppress(FileNotFoundError):
        return (out / "log.jsonl").stat().st_ino
    return None


def unfinished_writes(out: Path) -> set[Path]:
    """Checkpoints under their temporary names."""
    return set((out / "checkpoints").glob(".*.tmp"))


def processes_of(out: Path) -> list[int]:
    """The processes that still run and name the folder of a run on their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(FileNotFoundError, ProcessLookupError):
            if str(out).encode() in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
    return found


COMMAND = Command(
    main=main,
    options=KillTraining,
    example="python tools/trials/kill_training.py kills --train data/jhmdb/train --val data/jhmdb/test --processes 2",
)

if __name__ == "__main__":
    COMMAND.run()
