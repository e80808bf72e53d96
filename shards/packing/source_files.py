"""The files that a data set is made from, and how they are known again: by their content, whatever clocks say.

`inputs.npy` has two rows for every clip of the listing, one of its video and one of its masks, and a last one of the
scene labels. Where the sizes and times of a row's files are those that they were, so is the content; where they are
others, as after a copy, the files are read.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from shards.dataset import ShardDataset
from shards.decoding.archive_member import VideoPath
from shards.errors import UserError
from shards.system.atomic import atomic_write
from shards.system.checksums import sha256_of

INPUTS_NAME = "inputs.npy"
DIGEST_BYTES = 32
ROW_DTYPE = np.dtype([(name, f"V{DIGEST_BYTES}") for name in ("state", "content")])
"""SHA-256 of the sizes and times of a row's files, and of their contents."""
Rows = Iterable[Sequence[VideoPath]]
"""The files of every row."""


@dataclass(frozen=True)
class SourceFiles:
    """What the files of a request looked like at one moment."""

    checksum: str
    """SHA-256 of the plan and the sizes of all files: the same wherever they lie."""
    states: bytes
    """SHA-256 of the sizes and times of every row's files, one after another."""

    @classmethod
    def look_at(cls, rows: Rows, plan_checksum: str) -> Self:
        """Look at the files of all ``rows``; UserError where one is gone."""
        digest = hashlib.sha256(plan_checksum.encode())
        states = bytearray()
        for paths in rows:
            found = [state_of(path) for path in paths]
            digest.update(json.dumps([size for size, _ in found]).encode() + b"\n")
            states += _digest(found)
        return cls(digest.hexdigest(), bytes(states))

    def save(self, folder: Path, rows: Rows, known: Mapping[VideoPath, str]) -> None:
        """Write `inputs.npy`; those of the files whose SHA-256 is not ``known`` are read."""
        contents = b"".join(map(_Contents(known), rows))
        table = np.empty(len(self.states) // DIGEST_BYTES, dtype=ROW_DTYPE)
        table["state"], table["content"] = _digests(self.states), _digests(contents)
        with atomic_write(folder / INPUTS_NAME) as file:
            np.save(file, table)

    def are_those_of(self, dataset: ShardDataset, rows: Rows, videos: Mapping[str, VideoPath]) -> bool:
        """Whether ``dataset`` was made from files of the same content; ``videos`` lie there by the names of the clips.

        Of a data set of an earlier version, which has no `inputs.npy`, the videos alone are compared.
        """
        path = dataset.directory / INPUTS_NAME
        content_of = _Contents({})
        if not path.is_file():
            stored = stored_videos(dataset, videos)
            return all(content_of([video]) == _digest([sha256]) for video, sha256 in stored.items())
        try:
            table = np.load(path, allow_pickle=False)
        except (ValueError, EOFError):
            return False  # damaged
        states = _digests(self.states)
        if table.dtype != ROW_DTYPE or table.shape != states.shape:
            return False
        return all(
            row["state"] == state or row["content"].tobytes() == content_of(paths)
            for row, state, paths in zip(table, states, rows, strict=True)
        )


class _Contents:
    """Digests of the contents of files, each of which is read at most once."""

    def __init__(self, known: Mapping[VideoPath, str]) -> None:
        self._known = known
        self._read = cache(sha256_of)

    def __call__(self, paths: Sequence[VideoPath]) -> bytes:
        try:
            return _digest([self._known.get(path) or self._read(path) for path in paths])
        except OSError as error:
            raise _unreadable(error) from error


def state_of(path: VideoPath) -> tuple[int, int]:
    """Size in bytes of a file, and when its content was last changed (ns)."""
    try:
        status = path.stat()
    except OSError as error:
        raise _unreadable(error) from error
    return status.st_size, status.st_mtime_ns


def stored_videos(dataset: ShardDataset, videos: Mapping[str, VideoPath]) -> dict[VideoPath, str]:
    """SHA-256 of the videos, as the clips of ``dataset`` tell it."""
    infos = map(dataset.info, range(len(dataset)))
    return {videos[info.name]: info.source_sha256 for info in infos if info.name in videos}


def _digest(value: object) -> bytes:
    return hashlib.sha256(json.dumps(value).encode()).digest()


def _digests(joined: bytes) -> NDArray:
    return np.frombuffer(joined, dtype=f"V{DIGEST_BYTES}")


def _unreadable(error: OSError) -> UserError:
    return UserError(
        f"{error.filename}: cannot be read ({error.strerror}); mend that, and leave videos and annotations alone while"
        " they are packed"
    )
