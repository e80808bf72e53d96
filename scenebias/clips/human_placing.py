"""HAT's action swap puts the human where the other clip's human was (Chung et al., NeurIPS 2022).

As in the code of HAT, princetonvisualai/HAT, mmaction2/mmaction/datasets/actionswap_dataset.py.

Shape suffixes: B clips of a batch, T frames, H height, W width, C channels.
"""

from dataclasses import replace

import torch
from torch import Tensor

from dali_pipelines import ClipBatch


def centroids(mask_BHW: Tensor) -> Tensor:
    """Mean row and column of what each bool mask covers, in pixels, float64 (B, 2); the frame's middle where nothing.

    The middle of H rows is H / 2.
    """
    lengths = mask_BHW.shape[1:]
    count_B = mask_BHW.sum(dim=(1, 2)).double()
    means = []
    for length, other in zip(lengths, (2, 1), strict=True):
        sum_B = mask_BHW.sum(dim=other).double() @ torch.arange(length, device=mask_BHW.device).double()
        means.append(torch.where(count_B > 0, sum_B / count_B.clamp(min=1), length / 2))
    return torch.stack(means, dim=1)


def moved(value_THWX: Tensor, rows: int, columns: int) -> Tensor:
    """Frames (T, H, W, ...) moved down by ``rows`` and right by ``columns``; what comes in from outside is 0."""
    (to_rows, from_rows), (to_columns, from_columns) = (
        _kept(step, length) for step, length in zip((rows, columns), value_THWX.shape[1:3], strict=True)
    )
    result_THWX = torch.zeros_like(value_THWX)
    result_THWX[:, to_rows, to_columns] = value_THWX[:, from_rows, from_columns]
    return result_THWX


def _kept(step: int, length: int) -> tuple[slice, slice]:
    """Where of ``length`` places the values come to lie that a ``step`` leaves inside, and where they were."""
    count = max(0, length - abs(step))
    to, start = max(0, step), max(0, -step)
    return slice(to, to + count), slice(start, start + count)


def place_humans(human: ClipBatch, background: ClipBatch) -> ClipBatch:
    """The batch ``human``, each clip and its mask moved so that its human stands where the other clip's does.

    All frames move by the same whole pixels, those between the centroids of the masks of the two clips' first frames,
    rounded towards 0. What leaves the frame is lost.
    """
    assert human.mask_BTHW is not None, "humans are placed in clips with masks"
    assert background.mask_BTHW is not None, "humans are placed in clips with masks"
    from_B2, to_B2 = centroids(human.mask_BTHW[:, 0]), centroids(background.mask_BTHW[:, 0])
    steps = (to_B2 - from_B2).trunc().long().tolist()
    clip_BTHWC, mask_BTHW = (
        torch.stack([moved(value, *step) for value, step in zip(values, steps, strict=True)])
        for values in (human.clip_BTHWC, human.mask_BTHW)
    )
    return replace(human, clip_BTHWC=clip_BTHWC, mask_BTHW=mask_BTHW)
