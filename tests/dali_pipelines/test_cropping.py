"""What must hold of cropping on the CPU."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from dali_pipelines.cropping import crop_clip, crop_mask
from shards.codecs.masks import pack_masks

SIZE = 12


@st.composite
def squares(draw):
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    side = draw(st.sampled_from([SIZE, *range(1, 41)]).filter(lambda side: side <= min(height, width)))
    top, left = draw(st.integers(0, height - side)), draw(st.integers(0, width - side))
    columns = [left, left + side]
    if draw(st.booleans()):
        columns.reverse()
    return (height, width), np.array([[top, columns[0]], [top + side, columns[1]]])


@given(squares(), st.integers(0, 9))
@settings(deadline=None)
def test_a_clip_is_resized_as_torch_does_it_and_then_mirrored(case, seed):
    (height, width), roi_22 = case
    frames_THWC = torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (3, height, width, 3), np.uint8))
    clip_TSSC = torch.zeros((3, SIZE, SIZE, 3), dtype=torch.uint8)
    crop_clip(frames_THWC, roi_22, clip_TSSC)
    (top, left), (bottom, right) = roi_22.tolist()
    crop_TCHW = frames_THWC[:, top:bottom, min(left, right) : max(left, right)].permute(0, 3, 1, 2)
    expected = F.interpolate(crop_TCHW.float(), size=(SIZE, SIZE), mode="bilinear", antialias=True).permute(0, 2, 3, 1)
    if right < left:
        expected = expected.flip(2)
    assert (clip_TSSC - expected).abs().max() < 1.01


@given(squares(), st.integers(0, 9))
@settings(deadline=None)
def test_a_mask_takes_the_nearest_pixel(case, seed):
    (height, width), roi_22 = case
    masks = np.random.default_rng(seed).random((3, height, width)) < 0.5
    mask_TSS = np.empty((3, SIZE, SIZE), np.uint8)
    crop_mask(pack_masks(masks), roi_22.astype(np.float64), mask_TSS)
    (top, left), (bottom, right) = roi_22.tolist()
    for y in range(SIZE):
        for x in range(SIZE):
            row = int(np.floor(top + (y + 0.5) / SIZE * (bottom - top)))
            column = int(np.floor(left + (x + 0.5) / SIZE * (right - left)))
            assert (mask_TSS[:, y, x] == masks[:, row, column]).all()
