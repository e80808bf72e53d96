"""What must hold of RandAugment: its operations are torchvision's, and the mask goes where the pixels go."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import v2 as transforms

from scenebias.augment.config import LARGEST_MAGNITUDE
from scenebias.augment.geometry import moved, sheared_along_x, shifted_along_y, turned
from scenebias.augment.rand_augment import OPERATIONS, rand_augmented
from tests.scenebias.compose.batches import random_batch

COLOUR_C = torch.tensor([110, 100, 95], dtype=torch.uint8)
BLACK_C = torch.zeros(3, dtype=torch.uint8)
THEIRS = {
    "identity": "Identity",
    "shear_x": "ShearX",
    "shear_y": "ShearY",
    "translate_x": "TranslateX",
    "translate_y": "TranslateY",
    "rotate": "Rotate",
    "brightness": "Brightness",
    "color": "Color",
    "contrast": "Contrast",
    "sharpness": "Sharpness",
    "posterize": "Posterize",
    "solarize": "Solarize",
    "autocontrast": "AutoContrast",
    "equalize": "Equalize",
}
MOVEMENTS = OPERATIONS[1:6]


def test_the_operations_are_torchvisions() -> None:
    assert [THEIRS[name] for name in OPERATIONS] == list(transforms.RandAugment._AUGMENTATION_SPACE)


def by_torchvision(
    pictures_NCHW: torch.Tensor, name: str, magnitude: int, sign: int, interpolation: str = "nearest"
) -> torch.Tensor:
    """What torchvision makes of pictures by this operation; what comes from beyond them is black."""
    theirs = transforms.RandAugment(magnitude=magnitude)
    magnitudes, signed = theirs._AUGMENTATION_SPACE[THEIRS[name]]
    values = magnitudes(theirs.num_magnitude_bins, *pictures_NCHW.shape[-2:])
    value = 0.0 if values is None else float(values[magnitude]) * (sign if signed else 1)
    return theirs._apply_image_or_video_transform(pictures_NCHW, THEIRS[name], value, interpolation, theirs._fill)


@pytest.mark.parametrize("name", OPERATIONS)
@given(seed=st.integers(0, 99), magnitude=st.integers(0, LARGEST_MAGNITUDE), sign=st.sampled_from([-1, 1]))
@settings(deadline=None, max_examples=15)
def test_an_operation_changes_a_clip_and_its_mask_as_torchvision_changes_a_picture(name, seed, magnitude, sign) -> None:
    batch = random_batch(seed, 2, shape=(3, 14, 17), plain_masks=True)
    if name == "solarize":  # a level at the threshold itself is on either side, as rounding decides
        batch.clip_BTHWC[batch.clip_BTHWC == round(255 * (1 - magnitude / LARGEST_MAGNITUDE))] += 1
    operation_P = np.array([OPERATIONS.index(name), 0])
    clip, mask = rand_augmented(
        batch.clip_BTHWC.clone(), batch.mask_BTHW.clone(), operation_P, np.full(2, sign), magnitude, BLACK_C
    )
    assert torch.equal(clip[1], batch.clip_BTHWC[1])
    assert torch.equal(mask[1], batch.mask_BTHW[1])
    frames_TCHW = batch.clip_BTHWC[0].permute(0, 3, 1, 2)
    if name in (*MOVEMENTS, "sharpness"):  # frame by frame: nothing of a frame gets into the next
        wanted_TCHW = by_torchvision(frames_TCHW, name, magnitude, sign, "bilinear")
    else:  # of the whole clip
        strip_CHW = batch.clip_BTHWC[0].flatten(0, 1).permute(2, 0, 1)
        if name in ("brightness", "color", "contrast"):  # of integers torchvision rounds more than once
            wanted_CHW = 255 * by_torchvision(strip_CHW / 255, name, magnitude, sign)
        else:
            wanted_CHW = by_torchvision(strip_CHW, name, magnitude, sign)
        wanted_TCHW = wanted_CHW.unflatten(1, (3, 14)).permute(1, 0, 2, 3)
    assert (clip[0].permute(0, 3, 1, 2).float() - wanted_TCHW.float()).abs().max() <= 1
    if name not in MOVEMENTS:
        assert torch.equal(mask[0], batch.mask_BTHW[0])
    else:
        wanted_THW = by_torchvision(batch.mask_BTHW[0][:, None].float(), name, magnitude, sign)[:, 0] > 0.5
        # A place between two pixels is either's, and rounding decides.
        assert (mask[0] != wanted_THW).float().mean() < 0.02


@pytest.mark.parametrize("name", MOVEMENTS)
@given(magnitude=st.integers(0, LARGEST_MAGNITUDE), sign=st.sampled_from([-1, 1]), turns=st.integers(1, 4))
@settings(deadline=None, max_examples=20)
def test_a_mask_drawn_into_the_pixels_stays_on_them(name: str, magnitude: int, sign: int, turns: int) -> None:
    """Through every movement, and several of them: where a pixel is all human or all background, the mask says so."""
    row_H1, column_W = torch.arange(40)[:, None], torch.arange(36)
    mask_PTHW = ((row_H1 - 19) ** 2 / 2 + (column_W - 20) ** 2 < 90).expand(2, 3, 40, 36).clone()
    clip_PTHWC = mask_PTHW[..., None].expand(2, 3, 40, 36, 3) * torch.tensor(255, dtype=torch.uint8)
    operation_P = np.array([OPERATIONS.index(name)] * 2)
    for _ in range(turns):
        clip_PTHWC, mask_PTHW = rand_augmented(
            clip_PTHWC, mask_PTHW, operation_P, np.array([sign, -sign]), magnitude, BLACK_C
        )
    level_PTHW = clip_PTHWC[..., 0].int()
    if turns == 1:
        assert mask_PTHW[level_PTHW == 255].all()
        assert not mask_PTHW[level_PTHW == 0].any()
    assert ((level_PTHW > 127) != mask_PTHW).float().mean() < 0.015 * turns


def test_a_movement_is_the_same_for_all_frames_and_its_own_for_each_clip() -> None:
    batch = random_batch(0, 3, shape=(1, 12, 10), plain_masks=True)
    still = batch.clip_BTHWC.expand(3, 4, 12, 10, 3), batch.mask_BTHW.expand(3, 4, 12, 10)
    matrix_P23 = np.stack([turned(20, 12, 10), sheared_along_x(-0.2, 12, 10), shifted_along_y(0.25, 12, 10)])
    clip, mask = moved(*still, matrix_P23, COLOUR_C)
    assert (clip == clip[:, :1]).all()
    assert (mask == mask[:, :1]).all()
    assert torch.equal(clip[2, 0, 3:], batch.clip_BTHWC[2, 0, :-3])
    assert (clip[2, 0, :3] == COLOUR_C).all()
    assert torch.equal(mask[2, 0, 3:], batch.mask_BTHW[2, 0, :-3])
    assert not mask[2, 0, :3].any()
    for place in range(3):
        alone, _ = moved(still[0][place : place + 1], None, matrix_P23[place : place + 1], COLOUR_C)
        assert torch.equal(alone[0], clip[place])


@pytest.mark.parametrize("name", MOVEMENTS)
def test_what_has_the_colour_from_beyond_the_frame_keeps_it_to_its_edge(name: str) -> None:
    clip_PTHWC = COLOUR_C.expand(1, 2, 15, 12, 3).clone()
    mask_PTHW = torch.ones(1, 2, 15, 12, dtype=torch.bool)
    clip, mask = rand_augmented(
        clip_PTHWC, mask_PTHW, np.array([OPERATIONS.index(name)]), np.array([1]), LARGEST_MAGNITUDE, COLOUR_C
    )
    assert (clip == COLOUR_C).all()
    assert not mask.all()
