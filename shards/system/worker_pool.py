"""Processes that work ahead of one consumer, in order, and survive a task that kills its process."""

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from typing import Generic, TypeVar

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


def _start(workers: int) -> ProcessPoolExecutor:
    # Forked from a clean server: no thread or lock of ours is copied.
    return ProcessPoolExecutor(workers, mp_context=get_context("forkserver"), initializer=_follow_parent)


def _follow_parent() -> None:
    """Leave Ctrl-C to the parent, and end with it: one that is killed leaves its workers waiting for ever."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    assert parent is not None

    def leave_with_parent() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=leave_with_parent, daemon=True).start()
