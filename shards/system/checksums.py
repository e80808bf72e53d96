"""Checksums of files, which are never read as a whole."""

import hashlib
import io
import zlib
from pathlib import Path
from typing import Literal, Protocol

BLOCK_BYTES = 1 << 20


class Readable(Protocol):
    """A path, or something else that can be opened and read."""

    def open(self, mode: Literal["rb"]) -> io.BufferedReader: ...


def sha256_of(path: Readable) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def crc32_of_range(path: Path, start: int, end: int) -> int:
    """CRC-32 of bytes ``start <= n < end`` of a file, or of those of them that it has."""
    checksum = 0
    with path.open("rb") as file:
        file.seek(start)
        for position in range(start, end, BLOCK_BYTES):
            checksum = zlib.crc32(file.read(min(BLOCK_BYTES, end - position)), checksum)
    return checksum
