"""A clip's frames lie in parts, one after another, each complete in itself: film strips, or video segments."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


class DamagedPartError(ValueError):
    """The bytes are not a whole part; the text says why."""


@dataclass(frozen=True)
class PartHeader:
    """What the bytes of a part say of it."""

    frame_count: int
    height: int
    """Rows of a frame."""
    width: int
    header_bytes: int = 0
    """Bytes to read before any frame can be found; 0 where a part can only be read as a whole."""


@dataclass(frozen=True)
class StoredPart:
    """A part whose bytes are fetched as needed: ``read(start, size)`` returns exactly that range of its ``size``."""

    frame_count: int
    frame_height: int
    header_bytes: int
    size: int
    crc32: int
    read: Callable[[int, int], bytes]


@dataclass(frozen=True, eq=False)
class CodedFrames:
    """Some frames of a clip, still coded.

    Attributes:
        data: One JPEG with exactly these frames, or a whole video segment.
        frames: int64 (F,), which frames of ``data`` they are, in any order and with any repetition.
        rows: Which rows of the stored frames ``data`` holds: the wanted ones, and those around them that the codec
            cannot cut off.
    """

    data: bytes
    frames: NDArray[np.int64]
    rows: range


def locate_frames(
    frame_counts: Sequence[int], frame_indices: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Tell for frames of a clip, (T,), in which part each of them lies, and which frame of that part it is.

    Raises:
        ValueError: no index, or one outside the clip.
    """
    indices = np.asarray(frame_indices)
    if not indices.size or indices.min() < 0 or indices.max() >= sum(frame_counts):
        raise ValueError(f"frame indices must be in range({sum(frame_counts)}) and not empty, got {frame_indices}")
    if len(frame_counts) == 1:
        return np.zeros_like(indices), indices
    starts = np.cumsum([0, *frame_counts])
    part_numbers = np.searchsorted(starts, indices, side="right") - 1
    return part_numbers, indices - starts[part_numbers]
