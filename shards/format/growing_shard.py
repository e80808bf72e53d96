"""One shard in the making: a tar file that grows sample by sample, and may be continued after any whole sample."""

import io
import os
import tarfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from shards.format.index import Member, ShardIndex
from shards.format.manifest import ShardRecord
from shards.system.atomic import sync_folder
from shards.system.checksums import crc32_of_range, sha256_of

KEY_DIGITS = 9


def shard_name(number: int) -> str:
    """The file name of a shard."""
    return f"shard-{number:06d}.tar"


class GrowingShard:
    """A tar file under a temporary name; as a context manager it closes the file and keeps it.

    The same samples give the same bytes, however often the file was continued.

    Args:
        path: The file; made unless ``kept_bytes`` is given.
        kept_bytes: Continue the file after so many of its bytes, which must hold whole samples, and cut the rest off.
    """

    def __init__(self, path: Path, kept_bytes: int = 0) -> None:
        self.path = path
        self._file = path.open("r+b" if kept_bytes else "w+b")
        self._file.truncate(kept_bytes)
        self._index = ShardIndex.read(path) if kept_bytes else ShardIndex()
        self._file.seek(kept_bytes)
        self._tar = tarfile.TarFile(fileobj=self._file, mode="w", format=tarfile.USTAR_FORMAT)
        self._synced_bytes = kept_bytes

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()

    @property
    def samples(self) -> int:
        """Samples in the file."""
        return len(self._index.samples)

    def append(self, number: int, components: Mapping[str, bytes]) -> None:
        """Add a sample, whose key is its ``number`` with leading zeros; its components are loaded one at a time."""
        key = f"{number:0{KEY_DIGITS}d}"
        members = []
        for name, data in components.items():
            entry = tarfile.TarInfo(f"{key}.{name}")  # time, owner and mode are constants: same samples, same bytes
            entry.size = len(data)
            offset = self._file.tell() + tarfile.BLOCKSIZE
            members.append(Member(name, offset, len(data), partial(components.__getitem__, name)))
            self._tar.addfile(entry, io.BytesIO(data))
        self._index.add(key, members)

    def sync(self) -> tuple[int, int]:
        """Make all samples so far durable: the size of the file, and the CRC-32 of what was added since the last time.

        A file cut to that size can be continued.
        """
        self._file.flush()
        os.fsync(self._file.fileno())
        size = self._file.tell()
        crc32 = crc32_of_range(self.path, self._synced_bytes, size)
        self._synced_bytes = size
        return size, crc32

    def finish(self, final: Path) -> ShardRecord:
        """Complete the file, rename it to ``final`` and write its indexes beside it."""
        self._tar.close()
        self.sync()
        self._file.close()
        self.path.replace(final)
        sync_folder(final.parent)
        # The tar file comes first: without its indexes it is whole, and they can be rebuilt from it.
        self._index.save(final)
        return ShardRecord(
            name=final.name,
            bytes=final.stat().st_size,
            samples=self.samples,
            masks=self._index.count_with("masks"),
            scenes=self._index.count_with("scene"),
            sha256=sha256_of(final),
            segments=self._index.count_with("segments"),
            boxes=self._index.count_with("boxes"),
        )

    def discard(self) -> None:
        """Close the file and remove it."""
        self._file.close()
        self.path.unlink(missing_ok=True)
