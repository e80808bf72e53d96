"""Crop, resize and mirror on the CPU, with torch and numpy.

DALI's CPU resize is 11 times slower than torch's for channels-last uint8, so on a CPU the DALI graph ends with the
decoded frames and this takes over. It agrees with the graph's own resize to one level of 255, but for the rim: there
DALI's filter reaches half a stored pixel past the crop, where torch's repeats the crop's edge.

Shape suffixes: T frames of a window, H and W of the stored frame, h and w of the stored mask, S side of the output,
C colours.
"""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F


def crop_clip(frames_THWC: Tensor, roi_22: NDArray[np.int64], size: int) -> Tensor:
    """Cut ``roi_22`` out of every uint8 frame and resize it, bilinear with antialiasing: uint8 (T, S, S, C).

    ``roi_22``: start and end corner (vertical, horizontal) in pixels; a reversed horizontal range mirrors.
    """
    (top, left), (bottom, right) = roi_22.tolist()
    crop_THWC = frames_THWC[:, top:bottom, min(left, right) : max(left, right)]
    if right < left:
        crop_THWC = crop_THWC.flip(2)
    resized = F.interpolate(crop_THWC.permute(0, 3, 1, 2), size=(size, size), mode="bilinear", antialias=True)
    return resized.permute(0, 2, 3, 1)


def crop_mask(packed_Thw8: NDArray[np.uint8], roi_22: NDArray[np.float64], size: int) -> NDArray[np.uint8]:
    """Cut ``roi_22``, in pixels of the mask, out of every bit-packed mask and resize it, nearest: 0 or 1, (T, S, S)."""
    mask_Thw = np.unpackbits(packed_Thw8, axis=-1)
    rows, columns = _nearest(roi_22, size).T
    return mask_Thw.take(columns, axis=2).take(rows, axis=1)


def _nearest(roi_22: NDArray[np.float64], size: int) -> NDArray[np.int64]:
    """The source (row, column) of each of the ``size`` output pixels: (S, 2)."""
    start_2, end_2 = roi_22
    centre_S1 = (np.arange(size) + 0.5)[:, None] / size
    return np.floor(start_2 + centre_S1 * (end_2 - start_2)).astype(np.int64)
