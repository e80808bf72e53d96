"""Training on all cards: one process is killed, all others must end soon, and the same command must go on."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from scenebias.benchmark.gpu_check.check import NO_GPU, Outcome
from scenebias.benchmark.gpu_check.options import GpuCheck
from shards.dataset import ShardDataset
from shards.format.manifest import MANIFEST_NAME

RANKS_ON_CPU = 2
VALIDATION = "validation"
STEPS_BEFORE, STEPS_AFTER = 5, 2
"""Steps before the kill, and more of them after it."""
LONGEST_START_S = 600.0
LONGEST_END_S = 120.0
"""How long all may take to end; NCCL itself would wait for ten minutes."""
SAID = 1500
"""Characters of its last output that are told of a run that went wrong."""


class RunFailedError(Exception):
    """A run did not do what it had to."""


@dataclass
class Training:
    """A training command that was started."""

    process: subprocess.Popen[bytes]
    out: Path
    output: Path

    @property
    def steps(self) -> int:
        """Those in the log."""
        with suppress(FileNotFoundError):
            return (self.out / "log.jsonl").read_bytes().count(b'"kind": "step"')
        return 0

    @property
    def has_checkpoint(self) -> bool:
        return any(path for path in (self.out / "checkpoints").glob("*") if not path.name.startswith("."))

    @property
    def last_words(self) -> str:
        return self.output.read_text(encoding="utf-8", errors="replace")[-SAID:].strip()

    def wait_for(self, happens: Callable[[], bool], what: str) -> None:
        """Return once it ``happens``; RunFailedError where the run ends before, or it takes too long."""
        deadline_s = time.monotonic() + LONGEST_START_S
        while not happens():
            if self.process.poll() is not None:
                raise RunFailedError(f"it ended with status {self.process.returncode} before {what}: {self.last_words}")
            if time.monotonic() > deadline_s:
                raise RunFailedError(f"it had not {what} after {LONGEST_START_S:.0f} s: {self.last_words}")
            time.sleep(0.05)

    def end_s(self, pids: set[int]) -> float:
        """Seconds until the command and all of ``pids`` have ended; RunFailedError where they do not."""
        begun_s = time.monotonic()
        try:
            self.process.wait(LONGEST_END_S)
        except subprocess.TimeoutExpired as error:
            raise RunFailedError(f"it had not ended after {LONGEST_END_S:.0f} s: {self.last_words}") from error
        while left := [pid for pid in pids if is_alive(pid)]:
            if time.monotonic() - begun_s > LONGEST_END_S:
                raise RunFailedError(f"{len(left)} processes had not ended after {LONGEST_END_S:.0f} s")
            time.sleep(0.05)
        return time.monotonic() - begun_s


def check_processes(options: GpuCheck) -> Outcome:
    """Train on every card, kill the last rank, and start the same command again."""
    cards = torch.cuda.device_count()
    ranks = cards or RANKS_ON_CPU
    backend = "NCCL" if cards > 1 else "one GPU" if cards else "gloo"
    skipped = []
    if not cards:
        skipped.append(f"NCCL: {NO_GPU}")
    elif cards == 1:
        skipped.append("NCCL: needs two cards")
    with tempfile.TemporaryDirectory(prefix="gpu_check_") as name:
        folder = Path(name)
        pose_as_other_clips(options.shards, folder / VALIDATION)
        try:
            with training(options, folder, ranks) as run:
                run.wait_for(lambda: run.steps >= STEPS_BEFORE and run.has_checkpoint, "trained and saved")
                pids = ranks_of(run.process.pid)
                os.kill(pids[max(pids)], signal.SIGKILL)
                killed_s = run.end_s(set(pids.values()))
                trained = run.steps
            with training(options, folder, ranks) as run:
                run.wait_for(lambda: "resumes at" in run.output.read_text(encoding="utf-8"), "said that it resumes")
                begun_at = run.steps
                run.wait_for(lambda: run.steps >= begun_at + STEPS_AFTER, "gone on")
                pids = ranks_of(run.process.pid)
                run.process.send_signal(signal.SIGTERM)
                asked_s = run.end_s(set(pids.values()))
        except RunFailedError as error:
            return Outcome(found=f"{ranks} ranks, {backend}", problems=(str(error),), skipped=tuple(skipped))
    return Outcome(
        found=(
            f"{ranks} ranks, {backend}: a rank was killed after {trained} steps, and all had ended {killed_s:.1f} s"
            f" later; the same command went on; asked to end, it took {asked_s:.1f} s"
        ),
        values={"ranks": ranks, "ended_after_kill_s": killed_s, "ended_after_signal_s": asked_s, "steps": trained},
        skipped=tuple(skipped),
    )


def pose_as_other_clips(shards: Path, folder: Path) -> None:
    """Make ``folder`` a data set of the same files under another name: nobody looks at what is measured on it."""
    folder.mkdir()
    for path in shards.resolve().iterdir():
        if path.name != MANIFEST_NAME:
            (folder / path.name).symlink_to(path)
    replace(ShardDataset.open(shards).manifest, subset=VALIDATION).save(folder)


@contextmanager
def training(options: GpuCheck, folder: Path, ranks: int) -> Iterator[Training]:
    """Start to pretrain in ``folder``, or go on there; whatever still runs at the block's end is killed."""
    clip, out, output = options.clip, folder / "run", folder / "output.txt"
    command = [sys.executable, "-m", "scenebias.pretrain", "--processes", str(ranks)]
    command += ["--train", str(options.shards), "--val", str(folder / VALIDATION), "--out", str(out)]
    command += ["--backbone", options.backbone, "--frames", str(clip.frames), "--size", str(clip.size)]
    command += ["--batch-size", str(options.batch_size * ranks), "--epochs", "1000", "--checkpoint-every-steps", "2"]
    command += ["--loader-threads", str(options.loader_threads)]
    with output.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file)
    try:
        yield Training(process, out, output)
    finally:
        for pid in (*ranks_of(process.pid).values(), process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()


def ranks_of(launcher: int) -> dict[int, int]:
    """The processes that a command has started, by rank; itself where it has started none."""
    found: dict[int, int] = {}
    for children in Path(f"/proc/{launcher}/task").glob("*/children"):
        with suppress(FileNotFoundError, ProcessLookupError):
            for pid in map(int, children.read_text(encoding="ascii").split()):
                variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
                found |= {int(value[5:]): pid for value in variables if value.startswith(b"RANK=")}
    return found or {0: launcher}


def is_alive(pid: int) -> bool:
    """Whether that process runs."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
