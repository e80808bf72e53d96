"""What a check is, and how it is run: in a process of its own, so that one that crashes or hangs ends no other."""

import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection
from typing import Any, Literal

from scenebias.benchmark.gpu_check.options import GpuCheck

NO_GPU = "no GPU: skipped"
Status = Literal["passed", "failed", "skipped"]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a check has found."""

    found: str = ""
    """In a line."""
    values: dict[str, Any] = field(default_factory=dict)
    """JSON values."""
    problems: tuple[str, ...] = ()
    """What should be otherwise; none: the check has passed."""
    skipped: tuple[str, ...] = ()
    """What was not looked at, and why."""

    @property
    def status(self) -> Status:
        if self.problems:
            return "failed"
        return "skipped" if self.skipped and not self.found else "passed"

    def as_json(self) -> dict[str, Any]:
        """JSON values."""
        return {"status": self.status, **asdict(self)}


@dataclass(frozen=True, kw_only=True)
class Check:
    """Something that must hold on a GPU."""

    name: str
    looks_at: str
    """What it is about, in a line."""
    means: str
    """What it says when it fails."""
    remedy: str
    """What to try then."""
    run: Callable[[GpuCheck], Outcome]
    """Runs on a CPU too, and leaves out what needs a GPU. A function of a module, so that another process finds it."""


def run_apart(check: Check, options: GpuCheck) -> Outcome:
    """Run ``check`` in a new process, and end all that it has started."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_run_and_send, args=(check.run, options, sender))
    process.start()
    sender.close()
    try:
        if not receiver.poll(options.limit_s):
            return Outcome(problems=(f"it had not ended after {options.limit_s:.0f} s",))
        outcome: Outcome = receiver.recv()
        return outcome
    except EOFError:
        process.join()
        code = process.exitcode or 0
        how = signal.Signals(-code).name if code < 0 else f"exit status {code}"
        return Outcome(problems=(f"its process ended with {how}",))
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid or 0, signal.SIGKILL)
        process.kill()
        process.join()


def run_here(run: Callable[[GpuCheck], Outcome], options: GpuCheck) -> Outcome:
    """What ``run`` finds; a check that raises has failed."""
    try:
        return run(options)
    except Exception as error:
        last_line = traceback.format_exception_only(error)[-1].strip()
        return Outcome(problems=(last_line,), values={"traceback": traceback.format_exc()})


def _run_and_send(run: Callable[[GpuCheck], Outcome], options: GpuCheck, sender: Connection) -> None:
    os.setsid()  # whatever it starts can be ended with it
    sender.send(run_here(run, options))
    sender.close()
