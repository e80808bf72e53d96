"""Ready-made human masks, read from the files in which they were published.

A mask array is bool (N, H, W): one mask a frame of the clip, at the size of the decoded video, True on people.
"""

import zipfile
import zlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from scipy.io import loadmat

from shards.errors import UserError
from shards.masks import packed_width
from shards.packing import MaskSource
from shards.sources.listing import ClipEntry

JHMDB_FPS = 25.0
"""The frame rate of JHMDB's clips as they were published."""


@dataclass(frozen=True)
class MaskFolder(ABC):
    """A folder with one file of masks a clip, ``<class>/<clip><suffix>``. A clip without a file has no masks."""

    folder: Path
    mask_fps: float | None = None
    """Frame rate at which the masks were drawn, for videos that repeat frames to reach a higher one: frame k of a video
    at f frames a second then has mask ``floor(k * mask_fps / f + 1/2)``, right to one frame. None: one mask a frame."""
    suffixes: ClassVar[tuple[str, ...]]

    def settings(self) -> dict[str, str | float | None]:
        """What decides which masks are read from the files."""
        return {"format": type(self).__name__, "mask_fps": self.mask_fps}

    def path(self, entry: ClipEntry) -> Path | None:
        """The file that holds the masks of ``entry``, or None where there is none."""
        candidates = (self.folder / f"{entry.name}{suffix}" for suffix in self.suffixes)
        return next((path for path in candidates if path.is_file()), None)

    def load(self, entry: ClipEntry, frame_count: int, height: int, width: int, fps: float) -> np.ndarray | None:
        """Return the masks of ``entry`` as bool (frame_count, height, width), or None where it has none.

        Raises:
            UserError: the file cannot be read, or its masks are not as many or as large as the video's frames.
        """
        path = self.path(entry)
        if path is None:
            return None
        mask_NHW = self.read(path, width)
        if mask_NHW.dtype not in (np.bool_, np.uint8) or mask_NHW.ndim != 3:
            raise UserError(
                f"{path}: masks must be bool or uint8 and have 3 axes, found {mask_NHW.dtype} {mask_NHW.shape}; "
                "convert them"
            )
        if self.mask_fps and len(mask_NHW) != frame_count:
            mask_of_frame = np.floor(np.arange(frame_count) * self.mask_fps / fps + 0.5).astype(np.int64)
            if len(mask_NHW) == mask_of_frame[-1] + 1:
                mask_NHW = mask_NHW[mask_of_frame]
        if mask_NHW.shape != (frame_count, height, width):
            shape = "x".join(map(str, mask_NHW.shape))
            raise UserError(
                f"{path}: masks of shape {shape} for {entry.path} with {frame_count} frames of {height}x{width}; "
                "make the masks from this very video, remove the file to pack the clip without masks, or, where the "
                "video repeats frames to reach a higher rate, give the rate of the masks as --mask-fps"
            )
        return mask_NHW != 0

    @abstractmethod
    def read(self, path: Path, width: int) -> np.ndarray:
        """Return the (N, H, W) array in ``path``; ``width`` is W where the file does not tell."""


class JhmdbMasks(MaskFolder):
    """JHMDB's puppet masks: MATLAB v5 files with ``part_mask``, uint8 0 or 1, (H, W, N).

    The original data set keeps them as ``<class>/<clip>/puppet_mask.mat``; both layouts are read. They were drawn on
    clips of ``JHMDB_FPS``: a clip that was transcoded to a higher rate has more frames than masks.
    """

    suffixes = (".mat", "/puppet_mask.mat")

    def read(self, path: Path, width: int) -> np.ndarray:
        try:
            with path.open("rb") as file:
                mask_HWN = loadmat(file, variable_names=["part_mask"])["part_mask"]
        except Exception as error:  # SciPy meets a damaged file with errors of a dozen types
            raise UserError(f"{path}: no MATLAB v5 file with 'part_mask' ({error}); fetch it again") from error
        # MATLAB drops a last axis of length 1.
        return np.moveaxis(np.atleast_3d(mask_HWN), 2, 0)


class NumpyMasks(MaskFolder):
    """One NumPy file a clip: ``.npz`` with an array ``masks``, or ``.npy``.

    The array is bool or uint8 (N, H, W), non-zero on people, or its bits as ``np.packbits(masks, axis=-1)`` gives
    them: uint8 (N, H, ceil(W / 8)).
    """

    suffixes = (".npz", ".npy")

    def read(self, path: Path, width: int) -> np.ndarray:
        try:
            with path.open("rb") as file:
                content = np.load(file, allow_pickle=False)
                mask_NHW = content if isinstance(content, np.ndarray) else content["masks"]
        except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error) as error:
            raise UserError(f"{path}: no NumPy file with an array 'masks' ({error}); write it again") from error
        packed = mask_NHW.dtype == np.uint8 and mask_NHW.shape[2:] == (packed_width(width),) != (width,)
        return np.unpackbits(mask_NHW, axis=-1, count=width) if packed else mask_NHW


def open_mask_source(folder: Path, entries: tuple[ClipEntry, ...], mask_fps: float | None = None) -> MaskSource:
    """Return the reader that understands the files of ``folder``, judged by which of its names fit ``entries``.

    ``mask_fps`` is that of ``MaskFolder``; for JHMDB's own files it is ``JHMDB_FPS`` unless given.

    Raises:
        UserError: no such folder, or nothing in it belongs to any of the clips.
    """
    if not folder.is_dir():
        raise UserError(f"--masks {folder}: no such folder; give the folder of masks, or 'none' to pack without")
    for source in (JhmdbMasks(folder, mask_fps or JHMDB_FPS), NumpyMasks(folder, mask_fps)):
        if any(source.path(entry) for entry in entries):
            return source
    raise UserError(
        f"--masks {folder}: no mask file for any of the {len(entries)} clips; files must be called "
        "<class>/<clip>.mat, .npz or .npy like the videos"
    )
