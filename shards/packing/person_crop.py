"""Where the people of a clip are: the square that ``--focus person`` cuts from every frame of it.

Positions are pixels of the decoded frame as masks have them: turned upright, not yet stretched by the pixel aspect
ratio. What is a square on the screen may be none in these pixels. Boxes begin and end at even rows and columns, as the
samples of 4:2:0 colour do.

Array suffixes: N frames, H rows, W columns; L of either.
"""

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from shards.format.sample import Crop

STRAY_SHARE = 0.002
"""The share of a clip's mask pixels that may lie beyond each side of the people's extent: specks, not people."""
LEAST_SHARE = Fraction(1, 8)
"""The side of the smallest square over that of the largest: closer, a few pixels would fill the picture."""


def person_crop(mask_NHW: NDArray[np.bool_] | None, height: int, width: int, aspect: Fraction, margin: float) -> Crop:
    """One square for a whole clip, around the people in ``mask_NHW``; without any, the largest in the centre.

    Its side is ``margin`` times the larger side of the people's *extent*: the rectangle that holds them in all frames
    but for `STRAY_SHARE` of the mask's pixels beyond each side, its sides moved outwards to even pixels. It is at most
    the shorter side of the frame, and at least `LEAST_SHARE` of that. Its centre is that of the extent, shifted where
    the square would leave the frame. So it holds all of an extent that fits into a square at all.

    ``height``, ``width`` and ``aspect`` are those of `VideoInfo`.
    """
    pixel_aspect = aspect * height / width
    # Sides are in rows; exact fractions, so that no rounding lets a square leave the frame.
    side = largest = min(Fraction(_even_room(height)), _even_room(width) * pixel_aspect)
    rows, columns = (0, height), (0, width)
    on_person = mask_NHW is not None and bool(mask_NHW.any())
    if mask_NHW is not None and on_person:
        rows, columns = _extent(mask_NHW.sum(axis=(0, 2))), _extent(mask_NHW.sum(axis=(0, 1)))
        extent = max(Fraction(rows[1] - rows[0]), (columns[1] - columns[0]) * pixel_aspect)
        side = min(max(Fraction(margin) * extent, LEAST_SHARE * largest), largest)
    top, crop_height = _span(rows, side, height)
    left, crop_width = _span(columns, side / pixel_aspect, width)
    return Crop(left, top, crop_width, crop_height, on_person)


def _extent(count_L: NDArray[np.int64]) -> tuple[int, int]:
    """The first line with people and the one after the last, at even numbers, of lines with so many mask pixels."""
    stray = STRAY_SHARE * count_L.sum()
    first = int(np.searchsorted(np.cumsum(count_L), stray, side="right"))
    end = len(count_L) - int(np.searchsorted(np.cumsum(count_L[::-1]), stray, side="right"))
    return first - first % 2, end + end % 2


def _span(extent: tuple[int, int], length: Fraction, room: int) -> tuple[int, int]:
    """Where a stretch begins that has about this length and the centre of ``extent``, and how long it is."""
    even_length = min(max(2, 2 * round(length / 2)), _even_room(room))
    start = 2 * ((sum(extent) - even_length) // 4)
    return min(max(start, 0), _even_room(room) - even_length), even_length


def _even_room(room: int) -> int:
    """Lines that boxes may hold; the last of an odd number is left out."""
    return max(1, room // 2 * 2)
