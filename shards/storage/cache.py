"""A folder of fetched shards that several processes share and that never holds more than its budget:

    lock                    held by whoever adds or removes a file, for an instant
    SHA256.tar              a whole shard, named by its content; its time is that of its last use
    SHA256.BYTES.part       one on its way, locked by the process that fetches it

Locks end with their process, so a part that nobody locks is a leftover, at whatever moment its process was killed. A
shard that somebody will read soon is held by a shared lock: who makes room ahead of need takes only what nobody holds,
and who needs a shard at once takes the least recently used, which those who have it open can still read.
"""

import fcntl
import os
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from shards.errors import UserError
from shards.format.manifest import ShardRecord
from shards.storage.downloads import CancelledDownloadError
from shards.storage.store import OpenShard

_BUSY_POLL_S = 0.05
_ROOM_POLL_S = 0.25  # looking for room reads the whole folder


class CachedShard(OpenShard):
    """An open shard of the cache, held by a shared lock until it is let go."""

    def mark_used(self) -> None:
        """Make it the most recently used shard."""
        now_ns = time.time_ns()  # the clock of the file system itself ticks only every few milliseconds
        os.utime(self._descriptor, ns=(now_ns, now_ns))

    def hold(self) -> None:
        """Ask others not to remove it if they can help it."""
        fcntl.flock(self._descriptor, fcntl.LOCK_SH)

    def let_go(self) -> None:
        """Leave it to others to remove it."""
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def has(self, size: int) -> bool:
        """Whether it has so many bytes."""
        return os.fstat(self._descriptor).st_size == size

    @property
    def is_removed(self) -> bool:
        """Whether its disk space is free as soon as it is closed."""
        return os.fstat(self._descriptor).st_nlink == 0


@dataclass(frozen=True)
class Need:
    """How badly a shard is needed, which may change while it is being fetched."""

    urgent: threading.Event
    """Set when somebody waits for it; it then takes the place even of shards that are held."""
    is_over: Callable[[], bool]
    """Asked again and again whether nobody needs it any more."""
    neighbours: Callable[[], Collection[str]]
    """SHA-256 of the shards that are needed as much."""


class ShardCache:
    """The folder; makes it, and removes what was left in it.

    Raises:
        UserError: it cannot be made or written.
    """

    def __init__(self, folder: Path, budget_bytes: int) -> None:
        self._folder = folder
        self._budget_bytes = budget_bytes
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with self._locked():
                self._make_room(urgent=True)
        except OSError as error:
            raise UserError(
                f"{folder}: cannot be written ({error.strerror}); choose another cache directory"
            ) from error

    def acquire(self, record: ShardRecord, download: Callable[[Path], None], need: Need) -> CachedShard:
        """Open a shard, after fetching it if it is not there, or waiting for another process or thread to do so.

        Args:
            record: The shard.
            download: Fills a file with it and checks it.
            need: As long as it is not urgent and all others are held, this waits for room.

        Returns:
            The shard, held, and marked as used.

        Raises:
            CancelledDownloadError: the need is over.
            Exception: what ``download`` raises.
        """
        while True:
            with self._locked():
                file = self._open_whole(record)
                if file is not None:
                    return file
                part = self._open_part(record)
                if part is not None:
                    if self._make_room(need.urgent.is_set(), need.neighbours()):
                        break
                    part.path.unlink()
                    part.let_go()
            if need.is_over():
                raise CancelledDownloadError
            if part is None or need.urgent.is_set():
                time.sleep(_BUSY_POLL_S)
            else:
                need.urgent.wait(_ROOM_POLL_S)
        try:
            download(part.path)
            part.sync()
        except BaseException:
            with self._locked():
                part.path.unlink(missing_ok=True)
                part.let_go()  # a process that was forked meanwhile has it open too
            raise
        with self._locked():
            part.path.rename(self._path(record))
            part.let_go()
            file = self._open_whole(record)
        assert file is not None
        return file

    def _path(self, record: ShardRecord) -> Path:
        return self._folder / f"{record.sha256}.tar"

    def _open_whole(self, record: ShardRecord) -> CachedShard | None:
        path = self._path(record)
        try:
            file = CachedShard(os.open(path, os.O_RDONLY), path)
        except FileNotFoundError:
            return None
        if not file.has(record.bytes):  # cut short from outside
            path.unlink()
            return None
        file.hold()
        file.mark_used()
        return file

    def _open_part(self, record: ShardRecord) -> "_Part | None":
        """Begin to fetch a shard, or return None where another thread or process is at it."""
        path = self._folder / f"{record.sha256}.{record.bytes}.part"
        part = _Part(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), path)
        return part if part.try_lock() else None

    def _make_room(self, urgent: bool, neighbours: Collection[str] = ()) -> bool:
        """Remove leftovers, and as many shards as exceed the budget; False, and no shard removed, where that fails."""
        excess_bytes = -self._budget_bytes
        shards = []
        with os.scandir(self._folder) as entries:
            for entry in entries:
                if entry.name.endswith(".tar"):
                    status = entry.stat()
                    shards.append((status.st_mtime_ns, status.st_size, Path(entry.path)))
                    excess_bytes += status.st_size
                elif entry.name.endswith(".part"):
                    if _is_locked(Path(entry.path)):
                        excess_bytes += int(entry.name.split(".")[1])
                    else:
                        Path(entry.path).unlink()
        if excess_bytes <= 0:
            return True
        shards.sort()
        is_held = {path: path.stem in neighbours or _is_locked(path) for _, _, path in shards}
        victims = []
        for _, size, path in sorted(shards, key=lambda shard: is_held[shard[2]]):  # by time within either kind
            if excess_bytes <= 0 or (is_held[path] and not urgent):
                break
            victims.append(path)
            excess_bytes -= size
        if excess_bytes > 0:
            return False
        for path in victims:
            path.unlink()
        return True

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self._folder / "lock").open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(file, fcntl.LOCK_UN)  # closing would not do, had another thread forked the process


class _Part(CachedShard):
    """A shard that is being fetched."""

    def try_lock(self) -> bool:
        return _try_lock(self._descriptor)

    def sync(self) -> None:
        os.fsync(self._descriptor)


def _is_locked(path: Path) -> bool:
    descriptor = os.open(path, os.O_RDWR)
    try:
        if not _try_lock(descriptor):
            return True
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        return False
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
