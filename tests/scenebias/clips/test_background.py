"""What is behind people comes back where a clip tells it.

Shape suffixes: B clips, T frames, H rows, W columns, C channels; N pictures.
"""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scenebias.clips.background import diffuse, fill_in_background, widen_masks


def walking_mask(frames: int = 8, size: int = 32) -> torch.Tensor:
    """A box that walks across the picture, so that every pixel is seen in some frame."""
    mask_BTHW = torch.zeros(1, frames, size, size, dtype=torch.bool)
    for frame in range(frames):
        mask_BTHW[0, frame, 8:24, 3 * frame : 3 * frame + 5] = True
    return mask_BTHW


def random_picture(seed: int, size: int = 32) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (1, 1, size, size, 3), dtype=np.uint8))


def test_a_still_background_comes_back_exactly_where_any_frame_shows_it() -> None:
    background_BTHWC = random_picture(0).expand(1, 8, 32, 32, 3)
    mask_BTHW = walking_mask()
    clip_BTHWC = torch.where(mask_BTHW[..., None], torch.tensor([255, 0, 0], dtype=torch.uint8), background_BTHWC)
    assert torch.equal(fill_in_background(clip_BTHWC, mask_BTHW), background_BTHWC)


def test_a_background_that_is_never_seen_takes_the_colour_around_it() -> None:
    clip_BTHWC = torch.full((2, 4, 32, 32, 3), 90, dtype=torch.uint8)
    mask_BTHW = torch.zeros(2, 4, 32, 32, dtype=torch.bool)
    mask_BTHW[:, :, 10:20, 5:25] = True
    wanted_BTHWC = clip_BTHWC.clone()
    clip_BTHWC[mask_BTHW] = 255
    assert torch.equal(fill_in_background(clip_BTHWC, mask_BTHW), wanted_BTHWC)


def test_what_is_filled_in_is_as_bright_as_its_frame() -> None:
    level_T = torch.tensor([100, 100, 100, 180, 100, 100, 40, 100], dtype=torch.uint8)
    wanted_BTHWC = level_T[None, :, None, None, None].expand(1, 8, 32, 32, 3)
    mask_BTHW = walking_mask()
    clip_BTHWC = wanted_BTHWC.masked_fill(mask_BTHW[..., None], 0)
    assert torch.equal(fill_in_background(clip_BTHWC, mask_BTHW), wanted_BTHWC)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(4, 21), st.integers(4, 21))
def test_what_no_widened_mask_covers_stays_as_it_is(seed: int, rows: int, columns: int) -> None:
    random = torch.Generator().manual_seed(seed)
    clip_BTHWC = torch.randint(0, 256, (2, 3, rows, columns, 3), dtype=torch.uint8, generator=random)
    mask_BTHW = torch.rand(2, 3, rows, columns, generator=random) < 0.05
    before_BTHWC = clip_BTHWC.clone()
    filled_BTHWC = fill_in_background(clip_BTHWC, mask_BTHW)
    seen_BTHW = ~widen_masks(mask_BTHW.flatten(0, 1), 1).view_as(mask_BTHW)
    assert torch.equal(filled_BTHWC[seen_BTHW], clip_BTHWC[seen_BTHW])
    assert torch.equal(clip_BTHWC, before_BTHWC)
    alone_BTHWC = torch.cat([fill_in_background(clip_BTHWC[i : i + 1], mask_BTHW[i : i + 1]) for i in range(2)])
    assert torch.equal(filled_BTHWC, alone_BTHWC)


def test_a_clip_covered_everywhere_becomes_grey() -> None:
    clip_BTHWC = torch.randint(0, 256, (1, 3, 16, 16, 3), dtype=torch.uint8)
    filled_BTHWC = fill_in_background(clip_BTHWC, torch.ones(1, 3, 16, 16, dtype=torch.bool))
    assert (filled_BTHWC == 128).all()


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 19), st.integers(1, 19), st.floats(0.02, 0.9))
def test_diffusion_keeps_known_values_and_stays_between_them(seed: int, rows: int, columns: int, share: float) -> None:
    random = torch.Generator().manual_seed(seed)
    value_NCHW = torch.rand(3, 2, rows, columns, generator=random, dtype=torch.float64)
    known_N1HW = torch.rand(3, 1, rows, columns, generator=random) < share
    spread_NCHW = diffuse(value_NCHW, known_N1HW)
    for picture in range(3):
        known_HW = known_N1HW[picture, 0]
        for value_HW, spread_HW in zip(value_NCHW[picture], spread_NCHW[picture], strict=True):
            if not known_HW.any():
                assert not spread_HW.any()
                continue
            assert torch.equal(spread_HW[known_HW], value_HW[known_HW])
            assert value_HW[known_HW].min() - 1e-9 <= spread_HW.min()
            assert spread_HW.max() <= value_HW[known_HW].max() + 1e-9


@pytest.mark.parametrize("margin", [1, 3])
def test_masks_are_widened_by_the_margin_to_all_sides(margin: int) -> None:
    mask_NHW = torch.zeros(2, 15, 15, dtype=torch.bool)
    mask_NHW[1, 7, 5] = True
    wanted_NHW = torch.zeros_like(mask_NHW)
    wanted_NHW[1, 7 - margin : 8 + margin, 5 - margin : 6 + margin] = True
    assert torch.equal(widen_masks(mask_NHW, margin), wanted_NHW)
