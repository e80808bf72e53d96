"""The background behind people, filled in: from the frames that show it, and from its surroundings where none does.

Shape suffixes: B clips, T frames, H height, W width, C channels; N pictures; X pixels of a line.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

GREY = 127.5
"""What a clip becomes that is covered everywhere and always."""

_MARGIN_SHARE = 1 / 32
"""How far masks are widened, as a share of the frame's height: the edges of people are soft, and masks are coarse."""


def widen_masks(mask_NHW: Tensor, margin: int) -> Tensor:
    """The bool masks, grown by ``margin`` pixels to all sides."""
    for dim in (1, 2):  # shifts of bools take a tenth of the time of a maximum over windows
        narrow_NHW, mask_NHW = mask_NHW, mask_NHW.clone()
        for shift in range(1, min(margin, mask_NHW.shape[dim] - 1) + 1):
            kept = mask_NHW.shape[dim] - shift
            mask_NHW.narrow(dim, shift, kept).logical_or_(narrow_NHW.narrow(dim, 0, kept))
            mask_NHW.narrow(dim, 0, kept).logical_or_(narrow_NHW.narrow(dim, shift, kept))
    return mask_NHW


def diffuse(value_NCHW: Tensor, known_N1HW: Tensor) -> Tensor:
    """Values spread smoothly from the known pixels to all others; the known ones stay as they are.

    Pull-push: averages of known pixels are carried down to ever coarser pictures and back up into the holes
    (Gortler et al., "The Lumigraph", SIGGRAPH 1996, section 3.4, with binary weights). A picture of which nothing is
    known becomes 0.
    """
    value_NCHW = value_NCHW * known_N1HW
    if max(value_NCHW.shape[-2:]) == 1:
        return value_NCHW
    coarse_share_N1HW = F.avg_pool2d(known_N1HW.to(value_NCHW.dtype), 2, ceil_mode=True)
    coarse_NCHW = F.avg_pool2d(value_NCHW, 2, ceil_mode=True) / coarse_share_N1HW.clamp(min=1e-6)
    coarse_NCHW = diffuse(coarse_NCHW, coarse_share_N1HW > 0)
    spread_NCHW = F.interpolate(coarse_NCHW, value_NCHW.shape[-2:], mode="bilinear")
    return torch.where(known_N1HW, value_NCHW, spread_NCHW)


def fill_in_background(clip_BTHWC: Tensor, mask_BTHW: Tensor) -> Tensor:
    """A new uint8 clip (B, T, H, W, 3) whose people give way to what is behind them; no network has a part in it.

    The bool masks, slightly widened, are filled with each pixel's median over the frames that show it, or, where none
    does, with what `diffuse` makes of the medians around. The difference between a frame and these medians is diffused
    from the rim of the hole and added, so that moving cameras and changing light leave no seam (the membrane of Perez
    et al., "Poisson image editing", SIGGRAPH 2003). Pixels that no widened mask covers stay as they are.
    """
    margin = max(1, round(mask_BTHW.shape[2] * _MARGIN_SHARE))
    filled_BTHWC = clip_BTHWC.clone()
    rows_B2, columns_B2 = (_reach(mask_BTHW.any(dim=1).any(dim=dim), 3 * margin) for dim in (2, 1))
    # One by one and no more of each than it takes: nearly all of the time goes by the number of pixels.
    for filled_THWC, mask_THW, (top, bottom), (left, right) in zip(
        filled_BTHWC, mask_BTHW, rows_B2, columns_B2, strict=True
    ):
        if top < bottom:
            rows, columns = slice(top, bottom), slice(left, right)
            known_THW = ~widen_masks(mask_THW[:, rows, columns], margin)
            filled_THWC[:, rows, columns] = _fill_holes(filled_THWC[:, rows, columns], known_THW)
    return filled_BTHWC


def _reach(any_BX: Tensor, margin: int) -> list[list[int]]:
    """From the first to behind the last that is set, and ``margin`` more on both sides; (0, 0) where none is.

    Of all clips at once: what is known of a GPU's tensors on the host, it has waited for.
    """
    count = any_BX.shape[1]
    place_X = torch.arange(count, device=any_BX.device)
    first_B = torch.where(any_BX, place_X, count).amin(dim=1)
    end_B = torch.where(any_BX, place_X, -1).amax(dim=1) + 1
    reach_B2 = torch.stack([first_B - margin, end_B + margin], dim=1).clamp(0, count)
    return (reach_B2 * any_BX.any(dim=1, keepdim=True)).tolist()


def _fill_holes(clip_THWC: Tensor, known_THW: Tensor) -> Tensor:
    """The clip, uint8, with all pixels filled in that are not known."""
    clip_TCHW, known_T1HW = clip_THWC.permute(0, 3, 1, 2).float(), known_THW[:, None]
    median_CHW = clip_TCHW.masked_fill(~known_T1HW, torch.nan).nanmedian(dim=0).values
    plate_1CHW = GREY + diffuse((median_CHW - GREY).nan_to_num()[None], known_T1HW.any(dim=0, keepdim=True))
    filled_TCHW = plate_1CHW + diffuse(clip_TCHW - plate_1CHW, known_T1HW)
    return filled_TCHW.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
