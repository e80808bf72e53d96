"""A clip's frames lie in parts, one after another, each complete in itself: film strips, or video segments."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
from numpy.typing import NDArray


class DamagedPartError(ValueError):
    """The bytes are not a whole part; the text says why."""


@dataclass(frozen=True)
class PartHeader:
    """What the bytes of a part say of it."""

    frame_count: int
    """Frames in the part."""
    height: int
    """Rows of a frame."""
    width: int
    """Columns of a frame."""
    header_bytes: int = 0
    """Bytes to read before any frame can be found; 0 where a part can only be read as a whole."""


@dataclass(frozen=True)
class StoredPart:
    """A part whose bytes are fetched as needed."""

    frame_count: int
    """Frames in the part."""
    frame_height: int
    """Rows of a frame."""
    header_bytes: int
    """Bytes to read before any frame can be found; 0 where a part can only be read as a whole."""
    size: int
    """Bytes of the part."""
    crc32: int
    """CRC-32 of all of it."""
    read: Callable[[int, int], bytes]
    """``read(start, size)`` returns exactly that range of its bytes."""


class LazyParts(Sequence[bytes]):
    """The bytes of the parts of a clip, each loaded whenever it is asked for: a long clip need not fit into the memory.

    Args:
        loads: What returns the bytes of each part.
    """

    def __init__(self, loads: Sequence[Callable[[], bytes]]) -> None:
        self._loads = loads

    def __len__(self) -> int:
        return len(self._loads)

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[bytes]: ...
    def __getitem__(self, index: int | slice) -> bytes | Sequence[bytes]:
        return LazyParts(self._loads[index]) if isinstance(index, slice) else self._loads[index]()

    def __eq__(self, other: object) -> bool:
        """Whether ``other`` is a sequence of the same bytes."""
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(one == another for one, another in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True, eq=False)
class CodedFrames:
    """Some frames of a clip, still coded."""

    data: bytes
    """One JPEG with exactly these frames, or a whole video segment."""
    frames: NDArray[np.int64]
    """int64 (F,), which frames of ``data`` they are, in any order and with any repetition."""
    rows: range
    """Which rows of the stored frames ``data`` holds: the wanted ones, and those around them that the codec cannot cut
    off."""


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
