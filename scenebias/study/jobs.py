"""Many jobs side by side, each in a process of its own, none done twice."""

import contextlib
import json
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Protocol

import torch

from scenebias.distributed.interruption import Interrupted
from scenebias.reports.progress import ProgressDisplay
from shards.system.atomic import write_json
from shards.system.worker_pool import run_in_order

LOG_NAME = "log.txt"


class Job(Protocol):
    """A part of the study; it can be pickled, and finds out by itself what of it is done already."""

    @property
    def folder(self) -> Path:
        """Where it writes, and where the log of it goes."""

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do."""

    def run(self) -> None:
        """Do it, or what is left of it."""


@dataclass(frozen=True)
class _Begun:
    """A job as a worker process gets it."""

    job: Job
    threads: int
    """How many it may use."""

    def __call__(self) -> None:
        torch.set_num_threads(self.threads)
        self.job.folder.mkdir(parents=True, exist_ok=True)
        log = self.job.folder / LOG_NAME
        with (
            open(log, "a", encoding="utf-8") as file,
            contextlib.redirect_stdout(file),
            contextlib.redirect_stderr(file),
        ):
            try:
                self.job.run()
            except Interrupted:
                # Its process must end too: the pool would take this for a failed job, and begin the next one in it.
                file.flush()
                os._exit(1)


def run_jobs(jobs: Sequence[Job], title: str, *, workers: int, threads: int) -> None:
    """Run those ``jobs`` that are not done yet, ``workers`` at a time with ``threads`` each.

    The first error of a job is raised here once those that are under way have ended. Ctrl-C and SIGTERM reach the jobs
    as SIGTERM, which makes training save what it has done.
    """
    waiting = [job for job in jobs if not job.is_done]
    if not waiting:
        return
    with (
        _jobs_end_with_this_process(),
        ProgressDisplay(title, len(jobs), "jobs", done=len(jobs) - len(waiting)) as progress,
        contextlib.closing(
            run_in_order([_Begun(job, threads) for job in waiting], workers=workers, in_flight=len(waiting))
        ) as futures,
    ):
        for future in futures:
            future.result()
            progress.advance()


@contextlib.contextmanager
def _jobs_end_with_this_process() -> Iterator[None]:
    def stop(number: int, _frame: FrameType | None) -> None:
        for process in multiprocessing.active_children():
            process.terminate()
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass(frozen=True)
class Cost:
    """What a job took."""

    wall_s: float = 0.0
    """Seconds on the clock, with whatever else ran beside it."""
    cpu_s: float = 0.0
    """Seconds of all its threads."""

    @classmethod
    def read(cls, path: Path) -> "Cost":
        """What `cost_added` has counted; nothing where it has not yet."""
        return cls(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else cls()


@contextlib.contextmanager
def cost_added(path: Path) -> Iterator[None]:
    """Add what the code inside costs to the `Cost` in ``path``, also when it ends in an error."""
    before, wall_s, cpu_s = Cost.read(path), time.monotonic(), time.process_time()
    try:
        yield
    finally:
        wall_s, cpu_s = time.monotonic() - wall_s, time.process_time() - cpu_s
        write_json(path, asdict(Cost(before.wall_s + wall_s, before.cpu_s + cpu_s)))
