"""The encoded parts of a clip on their way from a worker to its shard: in memory, or in a file where they are many."""

from collections.abc import Sequence
from functools import partial
from hashlib import sha256
from itertools import accumulate, pairwise
from pathlib import Path
from types import TracebackType
from typing import Self

from shards.codecs.parts import LazyParts
from shards.errors import UserError

IN_MEMORY_BYTES = 16 * 2**20
"""What the parts of a clip may weigh in memory; about 3,500 frames of film strips of the usual height."""


class PartSpool:
    """Takes the parts of one clip; as a context manager it removes its file on an error.

    Args:
        folder: Where to put what is too much for the memory; None: keep everything.
        name: What the clip is called, which no other clip of the folder is.
    """

    def __init__(self, folder: Path | None, name: str) -> None:
        self._path = None if folder is None else folder / sha256(name.encode()).hexdigest()[:32]
        self._waiting: list[bytes] = []
        self._sizes: list[int] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None and self.file is not None:
            self.file.unlink(missing_ok=True)

    @property
    def file(self) -> Path | None:
        """Where the parts lie; None where they are in memory."""
        return self._path if self._sizes else None

    def add(self, part: bytes) -> None:
        """Take the next part; a UserError where there is no room for it."""
        self._waiting.append(part)
        if sum(map(len, self._waiting)) > IN_MEMORY_BYTES:
            self._flush()

    def parts(self) -> Sequence[bytes]:
        """All parts; those in a file are read from it whenever they are asked for."""
        if self.file is None:
            return tuple(self._waiting)
        self._flush()
        bounds = pairwise(accumulate(self._sizes, initial=0))
        return LazyParts([partial(_read_range, self.file, start, end - start) for start, end in bounds])

    def _flush(self) -> None:
        if self._path is None:
            return
        try:
            with self._path.open("ab" if self._sizes else "wb") as file:
                for part in self._waiting:
                    file.write(part)
                    self._sizes.append(len(part))
        except OSError as error:
            self._path.unlink(missing_ok=True)
            # No OSError: that would be one of the video.
            raise UserError(
                f"{self._path}: cannot be written ({error.strerror}); mend that and give the same command to go on"
            ) from error
        self._waiting.clear()


def _read_range(path: Path, start: int, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return file.read(size)
