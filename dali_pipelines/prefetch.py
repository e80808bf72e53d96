"""Run an iterator ahead of its consumer in a background thread."""

import atexit
import threading
import weakref
from collections.abc import Generator, Iterator
from queue import SimpleQueue
from typing import Generic, TypeVar

T = TypeVar("T")


class BackgroundIterator(Iterator[T], Generic[T]):
    """Yield what ``items`` yields, computed up to ``depth`` items ahead in a thread.

    An exception in ``items`` is raised by ``next`` in the consumer, after the items before it. The thread ends and
    ``items`` is closed when the items end, when ``close`` is called, when this object is collected, and at the
    interpreter's exit.
    """

    def __init__(self, items: Generator[T, None, None], depth: int) -> None:
        self._results: SimpleQueue[_Item[T] | _End] = SimpleQueue()
        self._free_slots = threading.Semaphore(depth)
        stop = threading.Event()
        # The thread must not hold a reference to self: it would keep an abandoned iterator alive.
        thread = threading.Thread(
            target=_produce, args=(items, self._results, self._free_slots, stop), name="prefetch", daemon=True
        )
        self._finalizer = weakref.finalize(self, _stop, thread, self._free_slots, stop)
        # Exit handlers run last in, first out: the thread must end before DALI takes its pipelines away.
        atexit.register(self._finalizer)
        thread.start()

    def __next__(self) -> T:
        if not self._finalizer.alive:
            raise StopIteration
        result = self._results.get()
        if isinstance(result, _End):
            self.close()
            raise result.error or StopIteration
        self._free_slots.release()
        return result.value

    def close(self) -> None:
        """Stop the thread and wait for it; no items follow."""
        self._finalizer()
        atexit.unregister(self._finalizer)


class _Item(Generic[T]):
    def __init__(self, value: T) -> None:
        self.value = value


class _End:
    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def _produce(
    items: Generator[T, None, None],
    results: "SimpleQueue[_Item[T] | _End]",
    free_slots: threading.Semaphore,
    stop: threading.Event,
) -> None:
    error = None
    try:
        while True:
            free_slots.acquire()
            if stop.is_set():
                break
            results.put(_Item(next(items)))
    except StopIteration:
        pass
    except BaseException as raised:  # handed to the consumer
        error = raised
    finally:
        items.close()
        results.put(_End(error))


def _stop(thread: threading.Thread, free_slots: threading.Semaphore, stop: threading.Event) -> None:
    stop.set()
    free_slots.release()
    if thread is not threading.current_thread():  # the garbage collector may run in any thread
        thread.join()
