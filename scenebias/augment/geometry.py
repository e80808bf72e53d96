"""Clips moved with their masks: sheared, shifted or turned, all frames alike.

A movement is a matrix (2, 3) that tells of each place of the new frame which place of the old one it shows, both (x, y)
in pixels from the frame's centre, x to the right and y down; as in torchvision.

Shape suffixes: P clips, T frames, H height, W width, C channels (red, green, blue).
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

Matrix = NDArray[np.float64]


def sheared_along_x(slope: float, rows: int, columns: int) -> Matrix:
    """Every row shifted in proportion to its distance from the frame's top."""
    return np.array([[1.0, slope, slope * rows / 2], [0.0, 1.0, 0.0]])


def sheared_along_y(slope: float, rows: int, columns: int) -> Matrix:
    """Every column shifted in proportion to its distance from the frame's left."""
    return np.array([[1.0, 0.0, 0.0], [slope, 1.0, slope * columns / 2]])


def shifted_along_x(share: float, rows: int, columns: int) -> Matrix:
    """All shifted to the right by this share of the width, in whole pixels."""
    return np.array([[1.0, 0.0, -float(int(share * columns))], [0.0, 1.0, 0.0]])


def shifted_along_y(share: float, rows: int, columns: int) -> Matrix:
    """All shifted down by this share of the height, in whole pixels."""
    return np.array([[1.0, 0.0, 0.0], [0.0, 1.0, -float(int(share * rows))]])


def turned(degrees: float, rows: int, columns: int) -> Matrix:
    """All turned around the centre, against the clock."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0]])


def moved(
    clip_PTHWC: Tensor, mask_PTHW: Tensor | None, matrix_P23: Matrix, colour_C: Tensor
) -> tuple[Tensor, Tensor | None]:
    """New clips, bilinear, and masks, nearest, each moved by its own matrix.

    What comes from beyond the frame has the uint8 colour ``colour_C``, and is in no mask.
    """
    clips, frames, rows, columns, channels = clip_PTHWC.shape
    # PyTorch counts from -1 to 1 along each side.
    unit_33 = np.array([[1, rows / columns, 2 / columns], [columns / rows, 1, 2 / rows]])
    theta_P23 = torch.from_numpy((matrix_P23 * unit_33).astype(np.float32))
    theta_P23 = theta_P23.to(clip_PTHWC.device, non_blocking=True)
    grid_PHW2 = affine_grid(theta_P23, [clips, 1, rows, columns], align_corners=False)
    # The frames are channels of one picture, so that where to look is found once for all of them.
    plane_PTCHW = clip_PTHWC.permute(0, 1, 4, 2, 3).to(torch.float32, memory_format=torch.contiguous_format)
    colour_C11 = colour_C.float()[:, None, None]
    plane_PFHW = plane_PTCHW.sub_(colour_C11).flatten(1, 2)  # what is beyond the frame is sampled as 0
    plane_PFHW = grid_sample(plane_PFHW, grid_PHW2, mode="bilinear", padding_mode="zeros", align_corners=False)
    plane_PTCHW = plane_PFHW.unflatten(1, (frames, channels)).add_(colour_C11).round_()
    new_PTHWC = torch.empty_like(clip_PTHWC, memory_format=torch.contiguous_format)
    new_PTHWC.permute(0, 1, 4, 2, 3).copy_(plane_PTCHW)
    if mask_PTHW is None:
        return new_PTHWC, None
    sampled_PTHW = grid_sample(mask_PTHW.float(), grid_PHW2, mode="nearest", padding_mode="zeros", align_corners=False)
    return new_PTHWC, sampled_PTHW > 0.5
