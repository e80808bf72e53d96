"""What all folders of ready-made human masks share.

A mask array is bool (N, H, W): one mask a frame of the clip, at the size of the decoded video, True on people.
"""

import errno
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from scenebias.annotators.clip_names import lookup_names
from shards.errors import UserError
from shards.sources.listing import ClipEntry


@dataclass(frozen=True)
class MaskFolder(ABC):
    """A folder with one file of masks a clip, ``<class>/<clip><suffix>``. A clip without a file has no masks."""

    folder: Path
    mask_fps: float | None = None
    """Frame rate at which the masks were drawn, for videos that repeat frames to reach a higher one: frame k of a video
    at f frames a second then has mask ``floor(k * mask_fps / f + 1/2)``, right to one frame. None: one mask a frame."""
    suffixes: ClassVar[tuple[str, ...]] = ()

    def settings(self) -> dict[str, str | float | None]:
        """What decides which masks are read from the files."""
        return {"format": type(self).__name__, "mask_fps": self.mask_fps}

    def files(self, entry: ClipEntry) -> Sequence[Path]:
        """The files that hold the masks of ``entry``; empty where there are none, a UserError where none may look."""
        try:
            return self.find(entry)
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                return ()
            raise UserError(f"--masks {error.filename}: cannot be read ({error.strerror}); allow it") from error

    def has_masks(self, entry: ClipEntry) -> bool:
        """Whether there are masks of ``entry``."""
        return bool(self.files(entry))

    def find(self, entry: ClipEntry) -> Sequence[Path]:
        """Look for the files that hold the masks of ``entry``."""
        for name in lookup_names(entry.name):
            for suffix in self.suffixes:
                path = self.folder / f"{name}{suffix}"
                if path.is_file():
                    return (path,)
        return ()

    def load(self, entry: ClipEntry, frame_count: int, height: int, width: int, fps: float) -> NDArray[np.bool_] | None:
        """Return the masks of ``entry`` as bool (frame_count, height, width), or None where it has none.

        Raises:
            UserError: a file cannot be read, or its masks are not as many or as large as the video's frames.
        """
        paths = self.files(entry)
        if not paths:
            return None
        shape, read = self.look(paths, height, width)
        mask_of_frame = np.arange(frame_count)
        if self.mask_fps and shape[:1] != (frame_count,):
            mask_of_frame = np.floor(mask_of_frame * self.mask_fps / fps + 0.5).astype(np.int64)
        if shape != (mask_of_frame[-1] + 1, height, width):
            found = "x".join(map(str, shape))
            raise UserError(
                f"{name_of(paths).relative_to(self.folder)}: masks of shape {found} for {frame_count} frames of "
                f"{height}x{width}; make the masks from this very video, remove them to pack the clip without masks, "
                "or, where the video repeats frames to reach a higher rate, give the rate of the masks as --mask-fps"
            )
        mask_NHW = read()
        if mask_NHW.dtype not in (np.bool_, np.uint8):
            raise UserError(f"{name_of(paths)}: masks must be bool or uint8, found {mask_NHW.dtype}; convert them")
        mask_NHW = mask_NHW != 0
        return mask_NHW if len(mask_NHW) == frame_count else mask_NHW[mask_of_frame]

    @abstractmethod
    def look(self, paths: Sequence[Path], height: int, width: int) -> tuple[tuple[int, ...], Callable[[], NDArray]]:
        """Return the shape of the masks in ``paths``, and a function that reads them, bool or uint8, of that shape.

        Where the files allow it, masks of a wrong shape are thus refused before they fill the memory. ``height`` and
        ``width`` are those of the video, for files that do not tell.

        Raises:
            UserError: a file cannot be read; so does the function.
        """


def name_of(paths: Sequence[Path]) -> Path:
    """What a sentence calls the files of a clip: the file, or the folder that holds several."""
    return paths[0] if len(paths) == 1 else paths[0].parent
