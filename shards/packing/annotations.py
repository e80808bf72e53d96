"""What packing asks of annotators: who says where the people are, and what the scene is.

Ready-made annotations are *sources*: they are looked up by clip, and masks are read in the worker processes. Computed
ones are *networks*: they are fed with the frames of many clips in a row, in the process that writes, on its device.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from shards.sources.listing import ClipEntry


class Annotator(Protocol):
    """What every source and network can say of itself."""

    def settings(self) -> dict[str, Any]:
        """All that decides its annotations but the files it reads, as JSON values; kept in the manifest."""
        ...


class MaskSource(Annotator, Protocol):
    """Ready-made human masks. It travels to the worker processes, so it must be small and picklable."""

    def files(self, entry: ClipEntry) -> Sequence[Path]:
        """The files that hold the masks of ``entry``; empty where there are none."""
        ...

    def load(self, entry: ClipEntry, frame_count: int, height: int, width: int, fps: float) -> NDArray[np.bool_] | None:
        """Return (frame_count, height, width), or None where there is none; a UserError where they misfit."""
        ...


class SceneSource(Annotator, Protocol):
    """Ready-made soft scene labels."""

    def files(self) -> Sequence[Path]:
        """The files that hold the labels."""
        ...

    def __contains__(self, entry: ClipEntry) -> bool:
        """Whether there is a label for ``entry``."""
        ...

    def vector(self, entry: ClipEntry) -> NDArray[np.floating]:
        """Return (SCENE_COUNT,), which sums to 1; called only where there is one."""
        ...


class MaskNetwork(Annotator, Protocol):
    """A network that finds people. ``settings`` holds a checksum of its weights."""

    every: int
    """It is fed with frames 0, every, 2 * every, ... of each clip; the frames between keep the mask before them."""

    def masks(self, frames: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.bool_]]:
        """For each RGB frame (H, W, 3), in order, yield (H, W), true on people; batched across frames and clips."""
        ...


class SceneNetwork(Annotator, Protocol):
    """A network that recognises scenes. ``settings`` holds a checksum of its weights."""

    every: int
    """It is fed with frames 0, every, 2 * every, ... of each clip; a clip's label is the mean over them."""

    def probabilities(self, frames: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.float32]]:
        """For each RGB frame (H, W, 3), in order, yield (SCENE_COUNT,), which sums to 1; batched likewise."""
        ...
