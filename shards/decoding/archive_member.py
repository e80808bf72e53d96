"""Videos in uncompressed tar archives, which are ranges of the archive's bytes, and how FFmpeg opens any video."""

import io
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO

import av
from av.container import InputContainer

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


@dataclass(frozen=True, slots=True)
class ArchiveMember:
    """A file in an archive, with those methods of `Path` that reading a video takes. It travels to worker processes."""

    archive: Path
    """The archive."""
    inner_path: str
    """What the archive calls the file."""
    start_byte: int
    """Where its content begins in the archive."""
    size_bytes: int
    """How long it is."""

    def __str__(self) -> str:
        """As if the archive were a folder."""
        return f"{self.archive}/{self.inner_path}"

    @property
    def name(self) -> str:
        """The last part of its path."""
        return PurePosixPath(self.inner_path).name

    @property
    def number(self) -> int:
        """Within this process, what the number of the file system is to a file."""
        return hash((self.archive, self.start_byte))

    def stat(self) -> os.stat_result:
        """That of the archive, but for the size; an OSError where there is none."""
        status = self.archive.stat()
        fields = list(status)
        fields[6] = self.size_bytes
        names = ("st_atime_ns", "st_mtime_ns", "st_ctime_ns")
        return os.stat_result(fields, {name: getattr(status, name) for name in names})

    def open(self, mode: str = "rb") -> io.BufferedReader:
        """Open it for reading; an OSError where the archive cannot be opened."""
        assert mode == "rb", "members are only read"
        return io.BufferedReader(_Range(self, self.archive.open("rb", buffering=0)))


VideoPath = Path | ArchiveMember
"""Where a video is."""


def are_one_file(first: VideoPath, second: VideoPath) -> bool:
    """Whether two names lead to the same bytes on the disk; an OSError where one leads nowhere."""
    starts = [path.start_byte if isinstance(path, ArchiveMember) else -1 for path in (first, second)]
    return starts[0] == starts[1] and os.path.samestat(first.stat(), second.stat())


@contextmanager
def open_container(path: VideoPath, options: Mapping[str, str] = {}) -> Iterator[InputContainer]:
    """Open a video with FFmpeg's ``options``; an OSError or an FFmpegError where that fails."""
    with ExitStack() as stack:
        source: str | BinaryIO = f"file:{path}"  # a colon in its name makes no protocol
        if isinstance(path, ArchiveMember):
            source = stack.enter_context(path.open())
        container = av.open(
            source,
            "r",
            options=dict(options),
            metadata_errors="replace",  # names and titles in old AVI files are often in no known encoding
        )
        with container:
            yield container


class _Range(io.RawIOBase):
    """The bytes of a member. A position beyond its end is at its end, and bytes that the archive lacks are its end."""

    def __init__(self, member: ArchiveMember, archive: io.FileIO) -> None:
        self.name = member.inner_path  # FFmpeg looks at the suffix too, as it does of a file
        self._member = member
        self._archive = archive
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._member.size_bytes}
        if whence not in base:  # FFmpeg asks for the size in a way of its own, then by going to the end
            raise ValueError(f"whence must be 0, 1 or 2, got {whence}")
        self._position = max(0, base[whence] + offset)
        return self._position

    def readinto(self, buffer: "WriteableBuffer") -> int:
        view = memoryview(buffer).cast("B")
        length = max(0, min(len(view), self._member.size_bytes - self._position))
        found = os.preadv(self._archive.fileno(), [view[:length]], self._member.start_byte + self._position)
        self._position += found
        return found

    def close(self) -> None:
        if not self.closed:
            self._archive.close()
        super().close()
