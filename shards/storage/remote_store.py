"""Shards that lie far away, read through a cache on a local disk."""

import os
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from shards.errors import UserError
from shards.format.manifest import ShardRecord
from shards.storage.cache import CachedShard, Need, ShardCache
from shards.storage.cache_config import CacheConfig
from shards.storage.downloads import CancelledDownloadError, RemoteFiles, never
from shards.storage.read_ahead import read_ahead
from shards.storage.store import OPEN_FILES, Batch, OpenShard
from shards.system.checksums import sha256_of
from shards.system.home import usable_folder


class RemoteShards:
    """The shards of a remote data set.

    Raises:
        UserError: the cache cannot be written, or its budget is smaller than a shard.
    """

    def __init__(self, files: RemoteFiles, records: Sequence[ShardRecord], config: CacheConfig) -> None:
        self._files = files
        self._records = records
        self._config = config
        largest = max((record.bytes for record in records), default=0)
        if config.budget_bytes < largest:
            raise UserError(
                f"the cache may hold {config.budget_bytes} bytes (budget_bytes, --cache-gb), and the largest shard of "
                f"{files.url} has {largest}; allow at least {largest}"
            )
        self._cache = ShardCache(usable_folder(config.directory) / "shards", config.budget_bytes)
        self._fetchers: dict[int, ShardFetcher] = {}

    def open(self, number: int) -> OpenShard:
        """Give access to a shard, after fetching it if it is not in the cache."""
        return self._fetcher.open(number)

    def describe(self, number: int) -> str:
        """The URL of a shard."""
        return self._files.url_of(self._records[number].name)

    def reading_ahead(
        self, batches: Iterable[Batch], shards_of: Callable[[Batch], Iterable[int]]
    ) -> Generator[Batch, None, None]:
        """Yield the batches, while threads that end with the iterator fetch the shards of the coming ones."""
        return read_ahead(batches, shards_of, self._fetcher, self._config)

    @property
    def _fetcher(self) -> "ShardFetcher":
        """The fetcher of this process: no lock and no thread of the one that it was forked from is of use in it."""
        process = os.getpid()
        if process not in self._fetchers:
            self._fetchers.setdefault(process, ShardFetcher(self._files, self._records, self._cache))
        return self._fetchers[process]


@dataclass(frozen=True)
class _Job:
    """A shard on its way."""

    need: Need
    """How badly it is needed."""
    result: Future[CachedShard] = field(default_factory=Future)
    """The open shard, or why there is none."""


class ShardFetcher:
    """Fetches shards for all threads of a process; each is on its way once."""

    def __init__(self, files: RemoteFiles, records: Sequence[ShardRecord], cache: ShardCache) -> None:
        self.records = records
        self._files = files
        self._cache = cache
        self._lock = threading.Lock()  # of all that follows
        self._open_files: OrderedDict[int, CachedShard] = OrderedDict()
        self._jobs: dict[int, _Job] = {}
        self._plans: Counter[int] = Counter()
        self._failures: dict[int, Exception] = {}

    def open(self, number: int) -> OpenShard:
        """Give access to a shard.

        Raises:
            UserError: it cannot be fetched, now or when that was tried ahead of this call.
        """
        while True:
            with self._lock:
                file = self._open_files.get(number)
                if file is not None:
                    self._open_files.move_to_end(number)
                    break
                if number in self._failures:
                    raise self._failures.pop(number)
                job = self._jobs.get(number)
                is_mine = job is None
                if job is None:
                    job = self._begin(number, is_over=never)
                job.need.urgent.set()
            try:
                file = self._finish(number, job) if is_mine else job.result.result()
                break
            except CancelledDownloadError:  # those who read ahead gave up
                continue
        file.mark_used()
        return file

    def open_ahead(self, number: int, stopped: Callable[[], bool]) -> None:
        """Bring a planned shard near; an error is kept for who reads it."""
        with self._lock:
            if number in self._jobs or not self._plans[number]:
                return
            file = self._open_files.get(number)
            if file is not None:
                file.hold()
                if not file.is_removed:
                    return
                del self._open_files[number]
            job = self._begin(number, is_over=lambda: stopped() or not self._plans[number])
        with suppress(CancelledDownloadError, UserError, OSError):
            self._finish(number, job)

    def plan(self, number: int) -> None:
        """Announce that a shard will be read soon: it stays in the cache if that can be."""
        with self._lock:
            self._plans[number] += 1

    def unplan(self, number: int) -> None:
        """Take one announcement back."""
        with self._lock:
            self._plans[number] -= 1
            if not self._plans[number]:
                del self._plans[number]
                self._failures.pop(number, None)
                if number in self._open_files:
                    self._open_files[number].let_go()

    def _begin(self, number: int, is_over: Callable[[], bool]) -> _Job:
        self._jobs[number] = _Job(Need(threading.Event(), is_over, self._planned_sha256))
        return self._jobs[number]

    def _finish(self, number: int, job: _Job) -> CachedShard:
        record = self.records[number]

        def download(target: Path) -> None:
            self._files.download(record.name, target, lambda path: _problem(path, record), job.need.is_over)

        try:
            file = self._cache.acquire(record, download, job.need)
        except BaseException as error:
            with self._lock:
                del self._jobs[number]
                if isinstance(error, UserError | OSError) and not job.need.urgent.is_set() and self._plans[number]:
                    self._failures[number] = error  # nobody waits for it yet
            job.result.set_exception(error)
            raise
        with self._lock:
            del self._jobs[number]
            self._open_files[number] = file
            if not self._plans[number]:
                file.let_go()
            self._close_some()
        job.result.set_result(file)
        return file

    def _planned_sha256(self) -> set[str]:
        with self._lock:
            return {self.records[number].sha256 for number in self._plans}

    def _close_some(self) -> None:
        """Close shards that were removed, whose space is free then, and the least recently used of too many."""
        for number, file in list(self._open_files.items()):
            if not self._plans[number] and (file.is_removed or len(self._open_files) > OPEN_FILES):
                del self._open_files[number]


def _problem(path: Path, record: ShardRecord) -> str | None:
    """What is wrong with a fetched shard."""
    size = path.stat().st_size
    if size != record.bytes:
        return f"{size} bytes came, the manifest says {record.bytes}"
    if sha256_of(path) != record.sha256:
        return "its SHA-256 is not the manifest's"
    return None
