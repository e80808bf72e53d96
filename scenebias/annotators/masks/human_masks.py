"""Ready-made human masks, read from the files in which they were published.

Shape suffixes: N frames, H rows, W columns of the decoded video.
"""

import re
import shlex
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.io import loadmat

from scenebias.annotators.clip_names import lookup_names, refuse_ambiguous_names
from scenebias.annotators.masks.box_masks import BOX_SCORE, BoxMasks
from scenebias.annotators.masks.mask_folder import MaskFolder
from scenebias.annotators.masks.packed_masks import PackedMasks
from scenebias.annotators.networks.options import MASK_NETWORKS
from scenebias.annotators.npy_header import read_npy_header
from shards.codecs.masks import packed_width, unpack_masks
from shards.errors import UserError, system_fault
from shards.packing.annotations import MaskSource
from shards.sources.listing import ClipEntry

JHMDB_FPS = 25.0
"""The frame rate of JHMDB's clips as they were published."""


class JhmdbMasks(MaskFolder):
    """JHMDB's puppet masks: MATLAB v5 files with ``part_mask``, uint8 0 or 1, (H, W, N).

    The original data set keeps them as ``<class>/<clip>/puppet_mask.mat``; both layouts are read. They were drawn on
    clips of ``JHMDB_FPS``: a clip that was transcoded to a higher rate has more frames than masks.
    """

    suffixes = (".mat", "/puppet_mask.mat")

    def look(self, paths: Sequence[Path], height: int, width: int) -> tuple[tuple[int, ...], Callable[[], NDArray]]:
        path = paths[0]
        try:
            with path.open("rb") as file:
                # To learn the shape alone would take as long: the file must be inflated for it.
                mask_HWN = loadmat(file, variable_names=["part_mask"])["part_mask"]
        except Exception as error:  # SciPy meets a damaged file with errors of a dozen types
            raise UserError(f"{path}: no MATLAB v5 file with 'part_mask' ({error}); fetch it again") from error
        # MATLAB drops a last axis of length 1.
        mask_NHW = np.moveaxis(np.atleast_3d(mask_HWN), 2, 0)
        return mask_NHW.shape, lambda: mask_NHW


class NumpyMasks(MaskFolder):
    """One NumPy file a clip: ``.npz`` with an array ``masks``, or ``.npy``.

    The array is bool or uint8 (N, H, W), non-zero on people, or its bits as ``np.packbits(masks, axis=-1)`` gives
    them: uint8 (N, H, ceil(W / 8)).
    """

    suffixes = (".npz", ".npy")

    def look(self, paths: Sequence[Path], height: int, width: int) -> tuple[tuple[int, ...], Callable[[], NDArray]]:
        path = paths[0]
        with _numpy_file(path) as file:
            shape, dtype = read_npy_header(file)
        if dtype.hasobject:
            raise UserError(f"{path}: its array holds pickled objects, which are never loaded; save it as bool")
        if dtype == np.uint8 and shape[2:] == (packed_width(width),) != (width,):
            return (*shape[:2], width), partial(self._read_packed, path, width)
        return shape, partial(self._read, path)

    def _read(self, path: Path) -> NDArray:
        with _numpy_file(path) as file:
            return np.lib.format.read_array(file, allow_pickle=False)

    def _read_packed(self, path: Path, width: int) -> NDArray[np.bool_]:
        return unpack_masks(self._read(path), width)


class PngMasks(MaskFolder):
    """One PNG picture a frame, ``<class>/<clip>/*.png``, in the order of the numbers in their names.

    Pictures are of 1-bit, grey or palette colours; a pixel whose value, or palette index, is not 0 is a person.
    """

    def find(self, entry: ClipEntry) -> Sequence[Path]:
        for name in lookup_names(entry.name):
            folder = self.folder / name
            if folder.is_dir():
                pictures = [path for path in folder.iterdir() if path.suffix.lower() == ".png"]
                return sorted((path for path in pictures if not path.name.startswith(".")), key=_natural_order)
        return ()

    def look(self, paths: Sequence[Path], height: int, width: int) -> tuple[tuple[int, ...], Callable[[], NDArray]]:
        with _picture(paths[0]) as image:
            shape = (len(paths), image.height, image.width)
        return shape, partial(self._read, paths, shape)

    def _read(self, paths: Sequence[Path], shape: tuple[int, int, int]) -> NDArray[np.bool_]:
        mask_NHW = np.empty(shape, dtype=np.bool_)
        _, height, width = shape
        for mask_HW, path in zip(mask_NHW, paths, strict=True):
            with _picture(path) as image:
                if image.size != (width, height):
                    raise UserError(
                        f"{path}: {image.width}x{image.height} pixels, but {paths[0].name} has {width}x{height}; "
                        "make all masks of a clip from its one video"
                    )
                mask_HW[:] = np.asarray(image) != 0
        return mask_NHW


def open_mask_source(
    folder: Path, entries: Sequence[ClipEntry], mask_fps: float | None = None, box_score: float = BOX_SCORE
) -> MaskSource:
    """Return the reader that understands the files of ``folder``, judged by which of its names fit ``entries``.

    ``mask_fps`` is that of ``MaskFolder``; for JHMDB's own files it is ``JHMDB_FPS`` unless given. ``box_score`` is
    that of ``BoxMasks``.

    Raises:
        UserError: no such folder, or nothing in it belongs to any of the clips.
    """
    if folder.suffix == ".npy" and folder.is_file():
        raise UserError(
            f"--masks {folder}: one pickled dictionary with the detections of all clips, as SDN keeps them; convert it "
            f"once by: python -m scenebias.annotators.sdn_detections {shlex.quote(str(folder))} FOLDER; then give "
            "--masks FOLDER"
        )
    if not folder.is_dir():
        raise UserError(
            f"--masks {folder}: no such folder, and no network; give the folder of masks, a network"
            f" ({', '.join(MASK_NETWORKS)}), or 'none' to pack without"
        )
    sources: tuple[MaskFolder | PackedMasks, ...] = (
        JhmdbMasks(folder, mask_fps or JHMDB_FPS),
        NumpyMasks(folder, mask_fps),
        PngMasks(folder, mask_fps),
        BoxMasks(folder, mask_fps, box_score),
    )
    if PackedMasks.are_in(folder):
        sources = (PackedMasks(folder),)
    for source in sources:
        if any(map(source.has_masks, entries)):
            refuse_ambiguous_names(f"--masks {folder}", entries, source.has_masks)
            return source
    wanted = f", such as {entries[0].name}" if entries else ""
    raise UserError(
        f"--masks {folder}: no masks for any of the {len(entries)} clips{wanted}; they must be called like the videos: "
        "<class>/<clip>.mat, .npz, .npy, or .json (boxes), or <class>/<clip>/*.png; "
        "or give a data set that was packed from these videos"
    )


@contextmanager
def _numpy_file(path: Path) -> Iterator[IO[bytes]]:
    """The ``.npy`` file that ``path`` is, or that it holds as ``masks``; failures inside come out as UserError."""
    try:
        if path.suffix == ".npy":
            with path.open("rb") as file:
                yield file
        else:
            with zipfile.ZipFile(path) as archive, archive.open("masks.npy") as member:
                yield member
    # ZipFile: RuntimeError for an encrypted file, NotImplementedError for an unknown compression.
    except (OSError, EOFError, KeyError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        if fault := system_fault(error):
            raise UserError(f"{path}: cannot be read ({fault}); mend that") from error
        raise UserError(f"{path}: no NumPy file with an array 'masks' ({error}); write it again") from error


@contextmanager
def _picture(path: Path) -> Iterator[Image.Image]:
    """An opened PNG picture of a kind that can be a mask; failures inside come out as UserError."""
    try:
        with Image.open(path, formats=["PNG"]) as image:
            if image.mode not in ("1", "L", "P", "I", "I;16"):
                raise UserError(
                    f"{path}: a picture in {image.mode}, which does not tell what is a person; "
                    "save masks as grey or palette pictures, 0 where there is nobody"
                )
            yield image
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if fault := system_fault(error):
            raise UserError(f"{path}: cannot be read ({fault}); mend that") from error
        raise UserError(f"{path}: no PNG picture ({error}); write it again") from error


def _natural_order(path: Path) -> tuple[list[str | int], str]:
    """Order names by their text and the values of their numbers: ``9.png`` before ``10.png``."""
    parts = re.split(r"(\d+)", path.stem)
    return [int(part) if place % 2 else part for place, part in enumerate(parts)], path.name
