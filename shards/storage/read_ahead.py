"""The order of reading is known, so the shards of the coming batches are fetched while the present one is used."""

import threading
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Generic, Protocol

from shards.format.manifest import ShardRecord
from shards.storage.cache_config import CacheConfig
from shards.storage.store import OPEN_FILES, Batch

_BATCHES_AHEAD = 4096
"""No more batches are planned, however few shards they need."""
_BATCHES_PER_STEP = 16
"""The plan grows by no more at a time, so that no step waits long for it."""


class Fetcher(Protocol):
    """Brings shards near, for several threads."""

    @property
    def records(self) -> Sequence[ShardRecord]:
        """The shards by number."""

    def plan(self, number: int) -> None:
        """Learn that a shard will be read soon."""

    def unplan(self, number: int) -> None:
        """Learn that it was read as often as was announced, or will not be."""

    def open_ahead(self, number: int, stopped: Callable[[], bool]) -> None:
        """Fetch a planned shard, if nothing is in the way; return soon once ``stopped``. Raises nothing."""


def read_ahead(
    batches: Iterable[Batch], shards_of: Callable[[Batch], Iterable[int]], fetcher: Fetcher, config: CacheConfig
) -> Generator[Batch, None, None]:
    """Yield the batches unchanged while threads fetch the shards of the coming ones, in the order of their use.

    The batches are drawn in the caller's thread, ahead of use, and a batch counts as read when the next is asked for.
    Planning ends where the planned shards fill the budget of the cache, so that none makes room for a later one.
    The threads end with the iterator: close it if it is not used to its end.
    """
    plan = _Plan(shards_of, fetcher, config)
    source = iter(batches)
    try:
        while plan.extend(source):
            yield plan.first
            plan.drop_first()
    finally:
        plan.close()


class _Plan(Generic[Batch]):
    """The present batch and those after it, and the threads that fetch what they need."""

    def __init__(self, shards_of: Callable[[Batch], Iterable[int]], fetcher: Fetcher, config: CacheConfig) -> None:
        self._shards_of = shards_of
        self._fetcher = fetcher
        self._budget_bytes = config.budget_bytes
        self._batches: deque[tuple[Batch, list[int]]] = deque()
        self._uses: Counter[int] = Counter()
        self._bytes = 0
        self._changed = threading.Condition()  # of the two that follow
        self._wanted: deque[int] = deque()
        self._is_stopped = False
        self._threads = [
            threading.Thread(target=self._fetch, name=f"read-ahead-{number}", daemon=True)
            for number in range(config.downloads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def first(self) -> Batch:
        """The present batch."""
        return self._batches[0][0]

    def extend(self, source: Iterator[Batch]) -> bool:
        """Plan further batches; False where none is left."""
        for _ in range(_BATCHES_PER_STEP):
            if self._batches and self._is_full():
                break
            try:
                batch = next(source)
            except StopIteration:
                break
            numbers = list(dict.fromkeys(self._shards_of(batch)))
            self._batches.append((batch, numbers))
            new = [number for number in numbers if number not in self._uses]
            self._uses.update(numbers)
            for number in new:
                self._bytes += self._fetcher.records[number].bytes
                self._fetcher.plan(number)
            with self._changed:
                self._wanted.extend(new)
                self._changed.notify(len(new))
        return bool(self._batches)

    def drop_first(self) -> None:
        """The present batch has been read."""
        _, numbers = self._batches.popleft()
        self._uses.subtract(numbers)
        for number in numbers:
            if not self._uses[number]:
                self._forget(number)

    def close(self) -> None:
        """End the threads, and wait for their end."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()
        for number in list(self._uses):
            self._forget(number)

    def _is_full(self) -> bool:
        return (
            len(self._batches) >= _BATCHES_AHEAD or len(self._uses) >= OPEN_FILES or self._bytes >= self._budget_bytes
        )

    def _forget(self, number: int) -> None:
        del self._uses[number]
        self._bytes -= self._fetcher.records[number].bytes
        self._fetcher.unplan(number)

    def _fetch(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._wanted or self._is_stopped)
                if self._is_stopped:
                    return
                number = self._wanted.popleft()
            self._fetcher.open_ahead(number, lambda: self._is_stopped)
