"""Processes that work ahead of one consumer, in order, and survive a task that kills its process."""

import os
import signal
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process, util
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerContext
from typing import Generic, TypeVar

from shards.errors import UserError

LONGEST_SOCKET_FOLDER_BYTES = 107 - len("/pymp-01234567/listener-01234567")
"""The path of a socket has at most 107 bytes, and multiprocessing calls its own so, in the folder for temporaries."""
SHORT_FOLDERS = ("/tmp", "/dev/shm", "/var/tmp")
Result = TypeVar("Result")
Task = Callable[[], Result]


def run_in_order(
    tasks: Iterable[Task[Result]], *, workers: int, in_flight: int
) -> Generator[Future[Result], None, None]:
    """Yield the futures of ``tasks``, done and in their order, with at most ``in_flight`` of them begun ahead.

    A task that kills its process takes with it whatever the pool has begun. So what comes next is then run again
    alone: the future of a task that kills its process even so raises BrokenProcessPool, and the others go on.
    """
    pool = _Pool[Result](workers)
    try:
        for task in tasks:
            pool.submit(task)
            if len(pool.pending) == in_flight:
                yield pool.take()
        while pool.pending:
            yield pool.take()
    finally:
        pool.executor.shutdown(cancel_futures=True)


class _Pool(Generic[Result]):
    def __init__(self, workers: int) -> None:
        self._workers = workers
        self.executor = _start(workers)
        self.pending: deque[tuple[Task[Result], Future[Result]]] = deque()

    def submit(self, task: Task[Result]) -> None:
        try:
            future = self.executor.submit(task)
        except BrokenProcessPool as error:
            future = Future()
            future.set_exception(error)
        self.pending.append((task, future))

    def take(self) -> Future[Result]:
        task, future = self.pending.popleft()
        if isinstance(future.exception(), BrokenProcessPool):
            self.executor.shutdown(cancel_futures=True)
            with _start(1) as executor:
                future = executor.submit(task)
            self.executor = _start(self._workers)
            tasks = [task for task, _ in self.pending]
            self.pending.clear()
            for task in tasks:
                self.submit(task)
        return future


def fork_server() -> ForkServerContext:
    """What starts processes that are forked from a clean server: no thread or lock of ours is copied.

    Its sockets lie in the folder for temporary files or, where their names would be too long, in another one.

    Raises:
        UserError: there is no folder with a name that is short enough.
    """
    if len(os.fsencode(tempfile.gettempdir())) > LONGEST_SOCKET_FOLDER_BYTES:
        short = next((folder for folder in SHORT_FOLDERS if os.access(folder, os.W_OK | os.X_OK)), None)
        if short is None:
            raise UserError(
                f"TMPDIR {tempfile.gettempdir()}: too long for the sockets of worker processes; give one of at most"
                f" {LONGEST_SOCKET_FOLDER_BYTES} bytes"
            )
        before, tempfile.tempdir = tempfile.tempdir, short
        try:
            util.get_temp_dir()  # made once for the process, and kept
        finally:
            tempfile.tempdir = before
    return get_context("forkserver")


def _start(workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, mp_context=fork_server(), initializer=_follow_parent)


def _follow_parent() -> None:
    """Leave Ctrl-C to the parent, and end with it: one that is killed leaves its workers waiting for ever."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    assert parent is not None

    def leave_with_parent() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=leave_with_parent, daemon=True).start()
