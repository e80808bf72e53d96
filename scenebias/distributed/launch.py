"""One command in several processes of this machine: ``--processes 2`` does what ``torchrun --standalone`` does.

Every process is the same command line again, told its rank by its environment. Where one ends of a mistake or a fault
it leaves its last words to the command that has started it, which says them once for all.
"""

import io
import json
import logging
import os
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from signal import SIGTERM, Signals
from typing import TYPE_CHECKING

from shards.errors import UserError

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

ROLE = "scenebias"
"""Torch's role of the processes that a command has started itself."""
SIGNALS = "SIGTERM,SIGUSR1,SIGHUP,SIGQUIT"
"""Handed on to the processes. Ctrl-C is not: it ends them as SIGTERM does, so that they save what they have done."""
USER_ERROR_STATUS = 2


@dataclass(frozen=True)
class Ending:
    """How all processes ended, as one."""

    status: int
    message: str | None = None
    """What is to be said of it, unless the processes have said it themselves."""


def is_rank() -> bool:
    """Whether this is one of the processes that a command, or ``torchrun``, has started."""
    return "LOCAL_WORLD_SIZE" in os.environ


def is_main_process() -> bool:
    """Whether this is the process of rank 0, or the only one; known before the processes join."""
    return int(os.environ.get("RANK", "0")) == 0


def check_process_count(processes: int | None) -> None:
    """UserError where no so many ``processes`` can be started, or where ``torchrun`` has started others already."""
    if processes is None:
        return
    if processes < 1:
        raise UserError(f"--processes must be at least 1, got {processes}")
    started = int(os.environ.get("LOCAL_WORLD_SIZE", processes))
    if started != processes:
        raise UserError(f"--processes {processes}, but torchrun has started {started} here: leave --processes out")


def leave_words(message: str) -> bool:
    """Leave ``message`` to who has started this process; False where it is to be said here.

    A command says the words of its first rank. ``torchrun`` puts them into its own report, in which they are easily
    overlooked: of the processes that it has started, rank 0 says them itself.
    """
    path = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if not path or not (os.environ.get("ROLE_NAME") == ROLE or _is_silent()):
        return False
    Path(path).write_text(json.dumps({"message": message, "timestamp": time.time()}), encoding="utf-8")
    return True


@contextmanager
def said_once() -> Iterator[None]:
    """While all processes that ``torchrun`` has started do the same: only rank 0 writes what is wrong with it."""
    with redirect_stderr(io.StringIO()) if _is_silent() else nullcontext():
        yield


def _is_silent() -> bool:
    return is_rank() and os.environ.get("RANK", "0") != "0"


def launch(processes: int) -> Ending:
    """Start this command line so many times and wait for the end. Ctrl-C and signals end the processes first."""
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.disable()  # torch tells every ending at length, and we do in a sentence
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // processes)))
    with tempfile.TemporaryDirectory(prefix="scenebias-") as words:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=processes,
            logs_specs=DefaultLogsSpecs(log_dir=words),
            run_id=uuid.uuid4().hex,
            role=ROLE,
            rdzv_backend="c10d",
            rdzv_endpoint="127.0.0.1:0",
            local_addr="127.0.0.1",
            max_restarts=0,
            signals_to_handle=SIGNALS,
        )
        try:
            elastic_launch(config, sys.executable)("-u", *sys.orig_argv[1:])
        except ChildFailedError as error:
            return ending_of(error.failures)
        except SignalException as error:
            return Ending(128 + error.sigval)
    return Ending(0)


def ending_of(failures: "Mapping[int, ProcessFailure]") -> Ending:
    """What ended all processes, by their ranks: what befell the first of them. The others are ended with SIGTERM."""
    by_themselves = {
        rank: failure for rank, failure in failures.items() if failure.exitcode not in (-SIGTERM, 128 + SIGTERM)
    }
    rank, failure = min((by_themselves or failures).items(), key=lambda item: _ended_s(item[1]))
    status = failure.exitcode
    words = failure.error_file_data["message"] if _has_words(failure) else None
    if words is not None:
        return Ending(status, words if status == USER_ERROR_STATUS else f"rank {rank} failed\n{words}")
    if status > 128 or status == -SIGTERM:  # it was asked to end, and has said so
        return Ending(abs(status) % 128 + 128)
    if status < 0:
        name = Signals(-status).name
        return Ending(128 - status, f"rank {rank} was ended by {name}: start the same command again to go on")
    return Ending(status, f"rank {rank} ended with status {status}: see what it says above")


def _has_words(failure: "ProcessFailure") -> bool:
    return "timestamp" in failure.error_file_data


def _ended_s(failure: "ProcessFailure") -> float:
    """When it ended, in seconds: to the second below where it has left no words."""
    return float(failure.error_file_data.get("timestamp", failure.timestamp))
