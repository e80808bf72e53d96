"""RandAugment (Cubuk et al., NeurIPS 2020): operations drawn evenly, all of one magnitude.

The operations and what a magnitude means to them are those of ``torchvision.transforms.v2.RandAugment``. Here a clip
takes the place of a picture: all its frames are changed alike, and what an operation finds in the picture, such as its
histogram, it finds in all frames together. Those of geometry move the mask as well; what comes from beyond the frame
has a given colour.

Shape suffixes: P clips, T frames, H height, W width, C channels (red, green, blue).
"""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from scenebias.augment.colours import Adjustment, adjusted, brightness, contrast, saturation
from scenebias.augment.config import LARGEST_MAGNITUDE
from scenebias.augment.geometry import (
    Matrix,
    moved,
    sheared_along_x,
    sheared_along_y,
    shifted_along_x,
    shifted_along_y,
    turned,
)

_MOVEMENTS: Mapping[str, tuple[Callable[[float, int, int], Matrix], float]] = {
    "shear_x": (sheared_along_x, 0.3),
    "shear_y": (sheared_along_y, 0.3),
    "translate_x": (shifted_along_x, 150 / 331),
    "translate_y": (shifted_along_y, 150 / 331),
    "rotate": (turned, 30.0),
}
"""How a clip is moved, and by how much at the largest magnitude, either way."""
_FACTORS: Mapping[str, Adjustment] = {"brightness": brightness, "color": saturation, "contrast": contrast}
_LARGEST_FACTOR = 0.9
"""How far the factors of these and of sharpness are from 1 at the largest magnitude, either way."""


def _sharpness(clip_PTHWC: Tensor, share: float, sign: int) -> Tensor:
    frame_PTCHW = clip_PTHWC.permute(0, 1, 4, 2, 3)
    changed_PTCHW = transforms.adjust_sharpness(frame_PTCHW, 1 + sign * _LARGEST_FACTOR * share)
    return changed_PTCHW.permute(0, 1, 3, 4, 2)


def _as_strips(change: Callable[[Tensor, float], Tensor]) -> Callable[[Tensor, float, int], Tensor]:
    """``change`` of pictures (P, C, T * H, W): the frames of each clip under each other."""

    def changed(clip_PTHWC: Tensor, share: float, sign: int) -> Tensor:
        strip_PCHW = clip_PTHWC.flatten(1, 2).permute(0, 3, 1, 2)
        return change(strip_PCHW, share).permute(0, 2, 3, 1).view(clip_PTHWC.shape)

    return changed


_OF_ALL_ALIKE: Mapping[str, Callable[[Tensor, float, int], Tensor]] = {
    "sharpness": _sharpness,
    "posterize": _as_strips(lambda strip, share: transforms.posterize(strip, 8 - round(4 * share))),
    "solarize": _as_strips(lambda strip, share: transforms.solarize(strip, 255 * (1 - share))),
    "autocontrast": _as_strips(lambda strip, share: transforms.autocontrast(strip)),
    "equalize": _as_strips(lambda strip, share: transforms.equalize(strip)),
}
"""What changes its clips all alike, told the share of the largest magnitude, and a sign where it goes either way."""

OPERATIONS = ("identity", *_MOVEMENTS, *_FACTORS, *_OF_ALL_ALIKE)
"""What is drawn from."""


def rand_augmented(
    clip_PTHWC: Tensor,
    mask_PTHW: Tensor | None,
    operation_P: NDArray[np.int64],
    sign_P: NDArray[np.int64],
    magnitude: int,
    colour_C: Tensor,
) -> tuple[Tensor, Tensor | None]:
    """Change the clips and masks that are given, each by one operation, and return them.

    ``operation_P`` are places in `OPERATIONS`, ``sign_P`` is -1 or 1 for those that go either way; ``magnitude`` is 0
    to `LARGEST_MAGNITUDE`, ``colour_C`` uint8 (3,).
    """
    share = magnitude / LARGEST_MAGNITUDE

    def with_operations(*names: str) -> tuple[NDArray[np.int64], Tensor]:
        place_Q = np.flatnonzero(np.isin(operation_P, [OPERATIONS.index(name) for name in names]))
        return place_Q, torch.from_numpy(place_Q).to(clip_PTHWC.device, non_blocking=True)

    place_Q, index_Q = with_operations(*_MOVEMENTS)
    if len(place_Q):
        rows, columns = clip_PTHWC.shape[2:4]
        movements = [_MOVEMENTS[OPERATIONS[operation_P[place]]] for place in place_Q]
        matrix_Q23 = np.stack(
            [
                move(sign * share * largest, rows, columns)
                for (move, largest), sign in zip(movements, sign_P[place_Q].tolist(), strict=True)
            ]
        )
        mask_QTHW = None if mask_PTHW is None else mask_PTHW[index_Q]
        clip_PTHWC[index_Q], moved_QTHW = moved(clip_PTHWC[index_Q], mask_QTHW, matrix_Q23, colour_C)
        if mask_PTHW is not None and moved_QTHW is not None:
            mask_PTHW[index_Q] = moved_QTHW
    for name, adjust in _FACTORS.items():
        place_Q, index_Q = with_operations(name)
        if len(place_Q):
            factor_Q = torch.from_numpy((1 + _LARGEST_FACTOR * share * sign_P[place_Q]).astype(np.float32))
            factor_Q = factor_Q.to(clip_PTHWC.device, non_blocking=True)
            clip_PTHWC[index_Q] = adjusted(clip_PTHWC[index_Q], (adjust, factor_Q))
    for name, change in _OF_ALL_ALIKE.items():
        place_Q, _ = with_operations(name)
        for sign in (-1, 1):
            signed_Q = place_Q[sign_P[place_Q] == sign]
            if len(signed_Q):
                index_Q = torch.from_numpy(signed_Q).to(clip_PTHWC.device, non_blocking=True)
                clip_PTHWC[index_Q] = change(clip_PTHWC[index_Q], share, sign)
    return clip_PTHWC, mask_PTHW
