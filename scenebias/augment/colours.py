"""Colours of clips changed, each clip by a number of its own: what colour jitter and RandAugment do to them.

The formulas are those of ``torchvision.transforms.v2.functional``, whose operators have one number for a whole batch. A
clip is to them one picture, its frames under each other: what depends on the picture, such as the mean in `contrast`,
is the same for all its frames.

Shape suffixes: P clips, C channels (red, green, blue), N pixels of all frames of a clip. Planes are float32 (P, C, N),
0 to 255; every function returns new ones, or those that it was given, changed.
"""

from collections.abc import Callable

import torch
from torch import Tensor

GREY_C = (0.2989, 0.587, 0.114)
"""Weights of the colours in a grey level (ITU-R BT.601, as in torchvision)."""
Adjustment = Callable[[Tensor, Tensor], Tensor]
"""Changes planes (P, C, N), each clip by its number (P,)."""


def adjusted(clip_PTHWC: Tensor, *adjustments: tuple[Adjustment, Tensor]) -> Tensor:
    """A new uint8 clip with every adjustment made in turn, each clip by its own number."""
    pixel_PNC = clip_PTHWC.flatten(1, 3)
    plane_PCN = pixel_PNC.transpose(1, 2).to(torch.float32, memory_format=torch.contiguous_format)
    for adjust, number_P in adjustments:
        plane_PCN = adjust(plane_PCN, number_P)
    new_PNC = torch.empty_like(pixel_PNC)
    new_PNC.transpose(1, 2).copy_(plane_PCN.round_())
    return new_PNC.view(clip_PTHWC.shape)


def brightness(plane_PCN: Tensor, factor_P: Tensor) -> Tensor:
    """Every value times the factor."""
    return plane_PCN.mul_(factor_P[:, None, None]).clamp_(0, 255)


def contrast(plane_PCN: Tensor, factor_P: Tensor) -> Tensor:
    """Every value's distance from the mean grey level of the clip, times the factor."""
    mean_P11 = grey_levels(plane_PCN).mean(dim=1)[:, None, None]
    return plane_PCN.sub_(mean_P11).mul_(factor_P[:, None, None]).add_(mean_P11).clamp_(0, 255)


def saturation(plane_PCN: Tensor, factor_P: Tensor) -> Tensor:
    """Every value's distance from its pixel's grey level, times the factor."""
    grey_P1N = grey_levels(plane_PCN)[:, None]
    return plane_PCN.sub_(grey_P1N).mul_(factor_P[:, None, None]).add_(grey_P1N).clamp_(0, 255)


def hue(plane_PCN: Tensor, turn_P: Tensor) -> Tensor:
    """Every hue turned by this share of the circle, with the value and the saturation of HSV kept."""
    least_PN, most_PN = torch.aminmax(plane_PCN, dim=1)
    chroma_PN = most_PN - least_PN
    red_PN, green_PN, blue_PN = plane_PCN.unbind(dim=1)
    # The hue in sixths of the circle: from red, from green or from blue, whichever is the most.
    divisor_PN = chroma_PN.clamp(min=1e-6)
    sixth_PN = torch.where(
        most_PN == red_PN,
        (green_PN - blue_PN) / divisor_PN,
        torch.where(most_PN == green_PN, 2 + (blue_PN - red_PN) / divisor_PN, 4 + (red_PN - green_PN) / divisor_PN),
    ).add_(6 * turn_P[:, None])
    turned_PCN = torch.empty_like(plane_PCN)
    for channel, offset in enumerate((5, 3, 1)):
        distance_PN = (sixth_PN + offset).remainder_(6)
        share_PN = torch.minimum(distance_PN, 4 - distance_PN).clamp_(0, 1)
        torch.addcmul(most_PN, chroma_PN, share_PN, value=-1, out=turned_PCN[:, channel])
    return turned_PCN


def grey_levels(plane_PCN: Tensor) -> Tensor:
    """The grey level of every pixel, (P, N)."""
    red_PN, green_PN, blue_PN = plane_PCN.unbind(dim=1)
    return red_PN.mul(GREY_C[0]).add_(green_PN, alpha=GREY_C[1]).add_(blue_PN, alpha=GREY_C[2])
