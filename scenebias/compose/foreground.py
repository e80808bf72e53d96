"""The foreground of a clip, found without a mask: what moves, and what has the colours of what moves.

Ding et al., "Motion-Aware Contrastive Video Representation Learning via Foreground-Background Merging" (FAME),
CVPR 2022. Every sum is one of whole numbers or goes pixel by pixel, and ties go to the first pixel: a clip has the same
foreground in any batch.

Shape suffixes: P clips, T frames, H height, W width, C channels (red, green, blue); X pixels of a picture.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

MOVING_SHARE, STILL_SHARE = 0.5, 0.1
"""Shares of the pixels, those that change most and least, whose colours are taken for the foreground's and not."""
BINS = 10
"""Of the colour histograms, along each of three axes."""


def moving_foreground(clip_PTHWC: Tensor, share: float) -> Tensor:
    """The ``share`` of the pixels that are most likely foreground, the same in all frames, bool (P, H, W).

    Seeds are the pixels whose blurred difference from frame to frame is greatest and least; the colours of the clip's
    mean frame are counted in both, and the pixels ranked by the blurred share that the foreground has in their colour.
    ``clip_PTHWC``: uint8, two frames or more. The number of pixels is rounded down.
    """
    clips, _, rows, columns, _ = clip_PTHWC.shape
    pixels = rows * columns
    ranked_PX = _descending(_blur(_change(clip_PTHWC)))
    colour_PX = _colour_bins(clip_PTHWC).flatten(start_dim=1)

    def histogram(place_PX: Tensor, start: int) -> Tensor:
        count_PK = torch.full((clips, BINS**3), start, device=place_PX.device)
        count_PK.scatter_add_(1, colour_PX.gather(1, place_PX), torch.ones_like(place_PX))
        return count_PK / count_PK.sum(dim=1, keepdim=True).clamp(min=1)

    moving_PK = histogram(ranked_PX[:, : int(MOVING_SHARE * pixels)], 0)
    still_PK = histogram(ranked_PX[:, pixels - int(STILL_SHARE * pixels) :], 1)  # so that no colour is in neither
    likely_PX = (moving_PK / (moving_PK + still_PK)).gather(1, colour_PX)
    likely_PHW = _blur(likely_PX.view(clips, rows, columns))
    foreground_PX = torch.zeros(clips, pixels, dtype=torch.bool, device=clip_PTHWC.device)
    foreground_PX.scatter_(1, _descending(likely_PHW)[:, : int(share * pixels)], True)
    return foreground_PX.view(clips, rows, columns)


def _descending(value_PHW: Tensor) -> Tensor:
    """The pixels in the order of their values, the greatest first, int64 (P, X)."""
    return value_PHW.flatten(start_dim=1).sort(dim=1, descending=True, stable=True).indices


def _change(clip_PTHWC: Tensor) -> Tensor:
    """The sum of each pixel's differences from frame to frame, over frames and channels, float32 (P, H, W)."""
    clip_PTHWC = clip_PTHWC.to(torch.int16)
    return (clip_PTHWC[:, 1:] - clip_PTHWC[:, :-1]).abs().sum(dim=(1, 4), dtype=torch.int32).float()


def _blur(value_PHW: Tensor) -> Tensor:
    """A Gaussian blur over a tenth of the height, with standard deviation a third of that; mirrored at the rim."""
    radius = int(0.1 * value_PHW.shape[1]) // 2
    sigma = (2 * radius + 1) / 3
    weights = [math.exp(-(offset**2) / (2 * sigma**2)) for offset in range(-radius, radius + 1)]
    for dim in (1, 2):
        size = value_PHW.shape[dim]
        margin = (0, 0, radius, radius) if dim == 1 else (radius, radius, 0, 0)
        padded_PHW = F.pad(value_PHW, margin, mode="reflect")
        value_PHW = torch.zeros_like(value_PHW)
        for place, weight in enumerate(weights):
            value_PHW += padded_PHW.narrow(dim, place, size) * (weight / sum(weights))
    return value_PHW


def _colour_bins(clip_PTHWC: Tensor) -> Tensor:
    """The bin of each pixel's mean colour, int64 (P, H, W): hue and saturation as a point of the disc, and value.

    The code released with the paper multiplies the hue, an angle already, by 2π once more.
    """
    mean_PHWC = clip_PTHWC.sum(dim=1, dtype=torch.int32) / (255 * clip_PTHWC.shape[1])
    red, green, blue = mean_PHWC.unbind(dim=-1)
    value = mean_PHWC.amax(dim=-1)
    chroma = value - mean_PHWC.amin(dim=-1)
    sixth = torch.where(
        value == red,
        (green - blue) / chroma,
        torch.where(value == green, 2 + (blue - red) / chroma, 4 + (red - green) / chroma),
    )
    hue = torch.where(chroma > 0, sixth * (math.pi / 3), 0)
    saturation = torch.where(value > 0, chroma / value, 0)
    axes = ((saturation * hue.cos() + 1) / 2, (saturation * hue.sin() + 1) / 2, value)
    x, y, z = ((axis * (BINS - 1)).round().long() for axis in axes)
    return x + BINS * (y + BINS * z)
