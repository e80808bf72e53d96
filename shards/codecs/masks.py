"""Human masks, one bit a pixel: packed along x, most significant bit first, each row padded to whole bytes.

Shape suffixes: N frames, H rows, W columns.
"""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def packed_width(width: int) -> int:
    """Bytes that a row of ``width`` bits takes."""
    return -(-width // 8)


def pack_masks(mask_NHW: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Pack bool (N, H, W) into uint8 (N, H, ceil(W / 8))."""
    return np.packbits(mask_NHW, axis=-1)


def unpack_masks(packed: NDArray[np.uint8], width: int) -> NDArray[np.bool_]:
    """Unpack uint8 (..., ceil(W / 8)) into bool (..., W)."""
    return np.unpackbits(packed, axis=-1, count=width).view(np.bool_)


def resize_masks(mask_NHW: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Resize masks to ``size`` = (height, width): a pixel is set where half or more of its area was set."""
    height, width = size
    if mask_NHW.shape[1:] == size:
        return mask_NHW
    resized = np.empty((len(mask_NHW), height, width), dtype=bool)
    for frame, mask in enumerate(mask_NHW):
        image = Image.fromarray(mask.astype(np.uint8) * 255).resize((width, height), Image.Resampling.BOX)
        resized[frame] = np.asarray(image) >= 128
    return resized


def npy_bytes(array: NDArray) -> bytes:
    """Serialise an array as .npy, version 1.0, C order: its values are the last ``array.nbytes`` bytes."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
    return buffer.getvalue()


def npy_array(data: bytes) -> NDArray:
    """Read what ``npy_bytes`` wrote; raises ValueError on anything else."""
    return np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
