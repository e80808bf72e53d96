"""A clip as a reader gets it: all of it decoded, or selected frames still coded."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from shards.codecs.masks import unpack_masks
from shards.codecs.parts import CodedFrames


class Clip(NamedTuple):
    """One whole clip, decoded. N frames, H rows and W columns differ from clip to clip."""

    frames: NDArray[np.uint8]
    """(N, H, W, 3), RGB."""
    masks: NDArray[np.bool_]
    """(N, h, w), true on people, at the size in which they are stored; (N, 0, 0) where the clip has no masks."""
    label: int
    """Index of the action class."""
    scene: NDArray[np.float32]
    """(365,), probabilities of the Places365 categories; (0,) where the clip has no scene label."""
    name: str
    """"class/clip" without extension, as the data set calls it."""


@dataclass(frozen=True, eq=False)
class StoredClip:
    """Selected frames of one clip, still coded."""

    parts: tuple[CodedFrames, ...]
    """One JPEG, or the video segments that hold the frames: one after another, their frames are the selected ones in
    order."""
    masks: NDArray[np.uint8] | None
    """(T, h, ceil(w / 8)), packed, or None where the clip has none."""


def masks_of_clip(packed: NDArray[np.uint8] | None, width: int, frame_count: int) -> NDArray[np.bool_]:
    """The masks of a `Clip` from packed ones, (N, h, ceil(w / 8))."""
    return np.zeros((frame_count, 0, 0), bool) if packed is None else unpack_masks(packed, width)


def scene_of_clip(stored: NDArray[np.float16] | None) -> NDArray[np.float32]:
    """The scene label of a `Clip` from the stored one."""
    return np.zeros(0, np.float32) if stored is None else stored.astype(np.float32)
