"""Crop, resize and mirror on the CPU, with torch and numpy.

DALI's CPU resize is 11 times slower than torch's for channels-last uint8, so on a CPU the DALI graph ends with the
decoded frames and this takes over. It agrees with the graph's own resize to one level of 255.

Shape suffixes: T frames of a window, H and W of what is decoded of a frame, h and w of the stored mask, S side of the
output, C colours.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# F.interpolate and Tensor.flip, but into the given memory: a clip's 600 KB are not written twice.
_resize_into = torch.ops.aten._upsample_bilinear2d_aa.out
_flip_into = torch.ops.aten.flip.out


def crop_clip(frames_THWC: Tensor, roi_22: NDArray[np.int64], clip_TSSC: Tensor) -> None:
    """Cut ``roi_22`` out of every uint8 frame and resize it into ``clip_TSSC``, bilinear with antialiasing.

    ``roi_22``: start and end corner (vertical, horizontal) in pixels; a reversed horizontal range mirrors.
    """
    (top, left), (bottom, right) = roi_22.tolist()
    crop_THWC = frames_THWC[:, top:bottom, min(left, right) : max(left, right)]
    is_mirrored = right < left
    if crop_THWC.shape == clip_TSSC.shape:
        if is_mirrored:
            _flip_into(crop_THWC, [2], out=clip_TSSC)
        else:
            clip_TSSC.copy_(crop_THWC)
        return
    crop_TCHW = (crop_THWC.flip(2) if is_mirrored else crop_THWC).permute(0, 3, 1, 2)
    _resize_into(crop_TCHW, list(clip_TSSC.shape[1:3]), False, None, None, out=clip_TSSC.permute(0, 3, 1, 2))


def frame_means(frames_THWC: Tensor) -> Tensor:
    """The mean colour of each uint8 frame, rounded, uint8 (T, 3)."""
    rows, columns = frames_THWC.shape[1:3]
    # Whole numbers: the result is the same on every device, whatever the order of the sum; whole rows at a time are the
    # fastest on a CPU.
    sum_TC = frames_THWC.flatten(start_dim=2).sum(dim=1, dtype=torch.int32).unflatten(1, (columns, 3)).sum(dim=1)
    return ((sum_TC + rows * columns // 2) // (rows * columns)).to(torch.uint8)


def crop_mask(packed_Thw8: NDArray[np.uint8], roi_22: NDArray[np.float64], mask_TSS: NDArray[np.uint8]) -> None:
    """Cut ``roi_22``, in pixels of the mask, out of every bit-packed mask and resize it, nearest: 0 or 1."""
    rows, columns = _nearest(roi_22, mask_TSS.shape[1]).T
    first_row = rows[0]
    mask_Thw = np.unpackbits(packed_Thw8[:, first_row : rows[-1] + 1], axis=-1)
    # mode="clip" lets NumPy write into ``out`` without a buffer; no index is outside.
    np.take(mask_Thw.take(columns, axis=2), rows - first_row, axis=1, out=mask_TSS, mode="clip")


def _nearest(roi_22: NDArray[np.float64], size: int) -> NDArray[np.int64]:
    """The source (row, column) of each of the ``size`` output pixels: (S, 2)."""
    start_2, end_2 = roi_22
    centre_S1 = (np.arange(size) + 0.5)[:, None] / size
    return np.floor(start_2 + centre_S1 * (end_2 - start_2)).astype(np.int64)
