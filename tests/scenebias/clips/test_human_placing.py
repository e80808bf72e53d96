"""Humans are moved to where HAT moves them.

Shape suffixes: B clips, T frames, H rows, W columns, C channels.
"""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from dali_pipelines import ClipBatch
from scenebias.clips.human_placing import centroids, moved, place_humans


def batch_of(clip_BTHWC: torch.Tensor, mask_BTHW: torch.Tensor) -> ClipBatch:
    numbers_B = torch.arange(len(clip_BTHWC))
    return ClipBatch(clip_BTHWC, mask_BTHW, numbers_B >= 0, None, numbers_B, numbers_B, numbers_B)


def walking(row: int, column: int, frames: int = 4) -> torch.Tensor:
    """Masks (1, T, 20, 30) of a box of 4 x 6 that starts in this corner and goes a column to the right each frame."""
    mask_BTHW = torch.zeros(1, frames, 20, 30, dtype=torch.bool)
    for frame in range(frames):
        mask_BTHW[0, frame, row : row + 4, column + frame : column + frame + 6] = True
    return mask_BTHW


@given(seed=st.integers(0, 2**32 - 1), share=st.floats(0.05, 1))
def test_centroids_are_scipy_s(seed: int, share: float) -> None:
    mask_BHW = np.random.default_rng(seed).random((3, 9, 13)) < share
    mask_BHW[:, 4, 5] = True
    found_B2 = centroids(torch.from_numpy(mask_BHW)).numpy()
    np.testing.assert_allclose(found_B2, [ndimage.center_of_mass(mask_HW) for mask_HW in mask_BHW], rtol=1e-12)


def test_the_centroid_of_nobody_is_the_middle() -> None:
    assert centroids(torch.zeros(1, 9, 14, dtype=torch.bool)).tolist() == [[4.5, 7.0]]


@given(rows=st.integers(-12, 12), columns=st.integers(-12, 12))
def test_every_pixel_that_stays_inside_is_moved(rows: int, columns: int) -> None:
    value_THWC = torch.arange(2 * 7 * 9 * 3).view(2, 7, 9, 3) + 1
    moved_THWC = moved(value_THWC, rows, columns)
    for y in range(7):
        for x in range(9):
            inside = 0 <= y - rows < 7 and 0 <= x - columns < 9
            wanted_TC = value_THWC[:, y - rows, x - columns] if inside else torch.zeros(2, 3, dtype=torch.int64)
            assert torch.equal(moved_THWC[:, y, x], wanted_TC)


def test_a_human_is_put_where_the_other_one_starts_and_walks_on_from_there() -> None:
    clip_BTHWC = torch.zeros(1, 4, 20, 30, 3, dtype=torch.uint8)
    own_BTHW = walking(2, 3)
    clip_BTHWC[own_BTHW] = torch.tensor([10, 20, 30], dtype=torch.uint8)
    other_BTHW = walking(11, 15).flip(1)  # starts three columns further right, and goes left
    placed = place_humans(batch_of(clip_BTHWC, own_BTHW), batch_of(torch.zeros_like(clip_BTHWC), other_BTHW))
    wanted_BTHW = walking(11, 18)
    assert placed.mask_BTHW is not None
    assert torch.equal(placed.mask_BTHW, wanted_BTHW)
    assert torch.equal(centroids(placed.mask_BTHW[:, 0]), centroids(other_BTHW[:, 0]))
    assert (placed.clip_BTHWC[wanted_BTHW] == torch.tensor([10, 20, 30])).all()
    assert not placed.clip_BTHWC[~wanted_BTHW].any()


def test_steps_are_rounded_towards_zero_and_each_clip_makes_its_own() -> None:
    """Centroids half a pixel apart."""
    narrow, wide = torch.zeros(1, 2, 8, 8, dtype=torch.bool), torch.zeros(1, 2, 8, 8, dtype=torch.bool)
    narrow[:, :, 2:4, 2:4], wide[:, :, 3:5, 1:6] = True, True
    clip_BTHWC = torch.zeros(2, 2, 8, 8, 3, dtype=torch.uint8)
    human = batch_of(clip_BTHWC, torch.cat([narrow, wide]))
    placed = place_humans(human, batch_of(clip_BTHWC, torch.cat([wide, narrow])))
    assert placed.mask_BTHW is not None
    assert torch.equal(placed.mask_BTHW[0], narrow[0].roll(1, dims=1))  # by (1, 0.5)
    assert torch.equal(placed.mask_BTHW[1], wide[0].roll(-1, dims=1))  # by (-1, -0.5)
