"""Random erasing (Zhong et al., AAAI 2020): a rectangle of a clip hidden, the same in all frames.

Shape suffixes: P clips, T frames, H height, W width, C channels (red, green, blue).
"""

import numpy as np
import torch
from torch import Tensor

from dali_pipelines.rectangles import Rectangles
from scenebias.clips.masked_clip import choose_pixels


def erased(
    clip_PTHWC: Tensor, mask_PTHW: Tensor | None, region: Rectangles, colour_C: Tensor
) -> tuple[Tensor, Tensor | None]:
    """New clips with their rectangles of ``region`` in one colour, and masks that do not cover what is hidden.

    A rectangle that does not fit as it was drawn hides nothing.
    """
    rows, columns = clip_PTHWC.shape[2:4]
    row_H1, column_W = np.arange(rows)[:, None], np.arange(columns)
    top_P11, left_P11, height_P11, width_P11, drawn_P11 = (
        values[:, None, None]
        for values in (region.top_B, region.left_B, region.height_B, region.width_B, region.drawn_B)
    )
    inside_PHW = (row_H1 >= top_P11) & (row_H1 < top_P11 + height_P11) & drawn_P11
    inside_PHW = inside_PHW & (column_W >= left_P11) & (column_W < left_P11 + width_P11)
    inside_P1HW = torch.from_numpy(inside_PHW).to(clip_PTHWC.device, non_blocking=True)[:, None]
    return (
        choose_pixels(inside_P1HW, colour_C, clip_PTHWC),
        None if mask_PTHW is None else mask_PTHW & ~inside_P1HW,
    )
