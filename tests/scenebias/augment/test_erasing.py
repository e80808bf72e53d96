"""What must hold of random erasing."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional as transforms

from dali_pipelines.rectangles import Rectangles
from scenebias.augment.erasing import erased
from tests.scenebias.compose.batches import random_batch

COLOUR_C = torch.tensor([10, 20, 30], dtype=torch.uint8)


@given(seed=st.integers(0, 99), place=st.tuples(*[st.integers(0, 9)] * 4), drawn=st.booleans())
@settings(deadline=None)
def test_a_rectangle_of_all_frames_is_hidden_and_the_mask_goes_with_the_pixels(seed, place, drawn) -> None:
    batch = random_batch(seed, 2, plain_masks=True)
    top, left, height, width = place
    region = Rectangles(*(np.array([0, value]) for value in place), np.array([True, drawn]))
    clip, mask = erased(batch.clip_BTHWC, batch.mask_BTHW, region, COLOUR_C)
    assert torch.equal(clip[0], batch.clip_BTHWC[0])  # no rows and no columns
    assert torch.equal(mask[0], batch.mask_BTHW[0])
    frames_TCHW, masks_THW = batch.clip_BTHWC[1].permute(0, 3, 1, 2), batch.mask_BTHW[1]
    if drawn:
        height, width = min(height, 12 - top), min(width, 10 - left)
        frames_TCHW = transforms.erase(frames_TCHW, top, left, height, width, COLOUR_C[:, None, None])
        masks_THW = transforms.erase(masks_THW[:, None], top, left, height, width, torch.tensor([False]))[:, 0]
    assert torch.equal(clip[1].permute(0, 3, 1, 2), frames_TCHW)
    assert torch.equal(mask[1], masks_THW)


def test_clips_without_masks_are_erased_as_well() -> None:
    batch = random_batch(0, 2, masks=False)
    region = Rectangles(*(np.array([3, 3]) for _ in range(4)), np.array([True, True]))
    clip, mask = erased(batch.clip_BTHWC, None, region, COLOUR_C)
    assert mask is None
    assert (clip[:, :, 3:6, 3:6] == COLOUR_C).all()
