"""The foreground that is found without a mask, against loops over pixels, and on clips where it is known.

Shape suffixes: P clips, T frames, H height, W width, C channels.
"""

import colorsys
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scenebias.compose.foreground import moving_foreground


def mirrored(place: int, size: int) -> int:
    return -place if place < 0 else 2 * (size - 1) - place if place >= size else place


def blurred(value_HW: np.ndarray) -> np.ndarray:
    rows, columns = value_HW.shape
    size = int(0.1 * rows) // 2 * 2 + 1
    radius, sigma = size // 2, size / 3
    weight = np.array([math.exp(-(k**2) / (2 * sigma**2)) for k in range(-radius, radius + 1)])
    weight /= weight.sum()
    result_HW = np.zeros((rows, columns))
    for y in range(rows):
        for x in range(columns):
            for i in range(size):
                for j in range(size):
                    from_y, from_x = mirrored(y + i - radius, rows), mirrored(x + j - radius, columns)
                    result_HW[y, x] += weight[i] * weight[j] * value_HW[from_y, from_x]
    return result_HW


def likelihood(clip_THWC: np.ndarray) -> np.ndarray:
    """How likely each pixel is foreground, in float64, pixel by pixel."""
    rows, columns = clip_THWC.shape[1:3]
    clip_THWC = clip_THWC.astype(float)
    change_HW = blurred(np.abs(np.diff(clip_THWC, axis=0)).sum(axis=(0, 3)))
    bins = np.zeros((rows, columns), dtype=int)
    for y in range(rows):
        for x in range(columns):
            hue, saturation, value = colorsys.rgb_to_hsv(*clip_THWC[:, y, x].mean(axis=0) / 255)
            angle = 2 * math.pi * hue
            axes = ((saturation * math.cos(angle) + 1) / 2, (saturation * math.sin(angle) + 1) / 2, value)
            # Halves, as of a hue of 270 degrees, are known from the noise of their last digits.
            a, b, c = (round(round(9 * axis, 9)) for axis in axes)
            bins[y, x] = a + 10 * b + 100 * c
    order = np.argsort(-change_HW.ravel(), kind="stable")
    pixels = rows * columns
    moving, still = np.zeros(1000), np.ones(1000)
    for pixel in order[: int(0.5 * pixels)]:
        moving[bins.ravel()[pixel]] += 1
    for pixel in order[pixels - int(0.1 * pixels) :]:
        still[bins.ravel()[pixel]] += 1
    moving, still = moving / max(moving.sum(), 1), still / still.sum()
    return blurred((moving / (moving + still))[bins])


@settings(max_examples=15)
@given(
    seed=st.integers(0, 2**31),
    frames=st.integers(2, 4),
    rows=st.integers(3, 24),
    columns=st.integers(3, 24),
    share=st.sampled_from([0.2, 0.5, 0.7]),
)
def test_the_foreground_is_that_of_loops_over_pixels(
    seed: int, frames: int, rows: int, columns: int, share: float
) -> None:
    clip_PTHWC = np.random.default_rng(seed).integers(0, 256, (2, frames, rows, columns, 3), dtype=np.uint8)
    found_PHW = moving_foreground(torch.from_numpy(clip_PTHWC), share).numpy()
    for clip_THWC, found_HW in zip(clip_PTHWC, found_PHW, strict=True):
        assert found_HW.sum() == int(share * (rows * columns))
        likely_HW = likelihood(clip_THWC)
        # Float32 may rank pixels otherwise that are alike.
        assert likely_HW[found_HW].min(initial=1) >= likely_HW[~found_HW].max(initial=0) - 1e-5


def test_a_square_that_moves_before_a_still_background_is_the_foreground() -> None:
    random = np.random.default_rng(0)
    background_HWC = random.integers(90, 140, (64, 64, 3), dtype=np.uint8)
    clip_PTHWC = np.repeat(background_HWC[None, None], 8, axis=1)
    square_HW = np.zeros((64, 64), dtype=bool)
    for frame in range(8):
        clip_PTHWC[0, frame, 20:44, 12 + 2 * frame : 36 + 2 * frame] = (230, 20, 20)
        square_HW[20:44, 12 + 2 * frame : 36 + 2 * frame] = True
    share = square_HW.mean()
    found_HW = moving_foreground(torch.from_numpy(clip_PTHWC), share)[0].numpy()
    assert (found_HW & square_HW).sum() / square_HW.sum() > 0.9


def test_of_pixels_that_are_all_alike_the_first_are_taken() -> None:
    found_PHW = moving_foreground(torch.full((2, 3, 40, 40, 3), 77, dtype=torch.uint8), 0.25)
    assert found_PHW[:, :10].all()
    assert not found_PHW[:, 10:].any()


@pytest.mark.parametrize("kind", ["noise", "still", "plain"])
def test_a_clip_has_the_same_foreground_in_any_batch_to_the_bit(kind: str) -> None:
    """Also where all pixels are alike."""
    random = torch.Generator().manual_seed(1)
    clip_PTHWC = torch.randint(0, 256, (5, 4, 48, 48, 3), dtype=torch.uint8, generator=random)
    if kind != "noise":
        clip_PTHWC = clip_PTHWC[:, :1].expand(-1, 4, -1, -1, -1)
    if kind == "plain":
        clip_PTHWC = torch.zeros_like(clip_PTHWC)
    whole_PHW = moving_foreground(clip_PTHWC, 0.5)
    assert (whole_PHW.sum(dim=(1, 2)) == 48 * 24).all()
    for place in range(5):
        assert torch.equal(moving_foreground(clip_PTHWC[place, None], 0.5)[0], whole_PHW[place])
    assert torch.equal(moving_foreground(clip_PTHWC[[3, 1]], 0.5), whole_PHW[[3, 1]])
