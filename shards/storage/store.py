"""Where the bytes of shards are read from: a local folder, or a cache of what lies far away (`remote_shards`)."""

import os
from collections.abc import Callable, Generator, Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Protocol, TypeVar

from shards.codecs.parts import DamagedPartError
from shards.errors import UserError
from shards.format.manifest import ShardRecord
from shards.system.checksums import sha256_of

OPEN_FILES = 256

Batch = TypeVar("Batch")


class OpenShard:
    """An open shard. It closes itself when the last thread that reads from it lets go of it.

    It can be read in any thread and after a fork, and even after its name was removed.
    """

    def __init__(self, descriptor: int, path: Path) -> None:
        self._descriptor = descriptor
        self.path = path

    def __del__(self) -> None:
        os.close(self._descriptor)

    def read(self, offset: int, size: int) -> bytes:
        """Read a range of bytes; a DamagedPartError where the file does not have all of them."""
        data = os.pread(self._descriptor, size, offset)
        if len(data) != size:
            raise DamagedPartError(f"the shard is cut short, it has no {size} bytes at {offset}")
        return data

    def read_within(self, base: int, offset: int, size: int) -> bytes:
        """Read a range whose ``offset`` counts from ``base``."""
        return self.read(base + offset, size)

    @property
    def readable_path(self) -> Path:
        """A path by which this process can open it again, even after its name was removed; as long as this lives."""
        return Path(f"/proc/self/fd/{self._descriptor}")

    def sha256(self) -> str:
        """SHA-256 of all of it, in hexadecimal."""
        return sha256_of(self.readable_path)


class ShardStore(Protocol):
    """The shards of a data set by number; safe to use from several threads and after a fork."""

    def open(self, number: int) -> OpenShard:
        """Give access to a shard.

        Raises:
            UserError: it cannot be fetched.
            OSError: it cannot be opened.
        """
        ...

    def describe(self, number: int) -> str:
        """Where the shard lies, for messages."""
        ...

    def reading_ahead(
        self, batches: Iterable[Batch], shards_of: Callable[[Batch], Iterable[int]]
    ) -> Generator[Batch, None, None]:
        """Yield the batches, and meanwhile bring near the shards that the coming ones are to be read from."""
        ...


class LocalShards:
    """Shards in a local folder.

    Raises:
        UserError: one is absent, or has another size than its record says.
    """

    def __init__(self, directory: Path, records: Sequence[ShardRecord]) -> None:
        self._directory = directory
        self._records = records
        self._check_sizes()
        self.open = lru_cache(maxsize=OPEN_FILES)(self._open)

    def describe(self, number: int) -> str:
        """The path of a shard."""
        return str(self._path(number))

    def reading_ahead(
        self, batches: Iterable[Batch], shards_of: Callable[[Batch], Iterable[int]]
    ) -> Generator[Batch, None, None]:
        """Yield the batches; nothing is nearer than a local file."""
        yield from batches

    def _open(self, number: int) -> OpenShard:
        path = self._path(number)
        return OpenShard(os.open(path, os.O_RDONLY), path)

    def _path(self, number: int) -> Path:
        return self._directory / self._records[number].name

    def _check_sizes(self) -> None:
        with os.scandir(self._directory) as entries:  # faster than to ask for each shard
            sizes = {entry.name: entry.stat().st_size for entry in entries if entry.name.endswith(".tar")}
        for number, shard in enumerate(self._records):
            size = sizes.get(shard.name)
            if size != shard.bytes:
                state = "is missing" if size is None else f"has {size} bytes, the manifest says {shard.bytes}"
                raise UserError(
                    f"shard {self._path(number)} {state}; "
                    "copy it again, or pack again with tools/make_shards.py --overwrite"
                )
