"""Files written in a thread, while training goes on."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self


class BackgroundWriter:
    """Does in a thread what it is given, in that order; as a context manager, which waits for all of it at its end.

    So what was given first is written first, such as the log of the steps before a checkpoint that holds them. Once
    something fails, nothing more is done, and the error is raised by whichever method is called next, or by the end of
    the block.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="writer")  # the interpreter's exit waits for it
        self._newest: Future[None] | None = None
        self._error: BaseException | None = None

    def submit(self, work: Callable[..., object], *arguments: Any) -> None:
        """Let ``work(*arguments)`` be called after all before it."""
        self._raise_error()
        self._newest = self._pool.submit(self._do, work, *arguments)

    def wait(self) -> None:
        """Return when all is done."""
        if self._newest is not None:
            self._newest.result()
        self._raise_error()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown()
        if kind is None:
            self._raise_error()

    def _do(self, work: Callable[..., object], *arguments: Any) -> None:
        if self._error is None:
            try:
                work(*arguments)
            except BaseException as error:  # handed to the thread that asked for it
                self._error = error

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error
