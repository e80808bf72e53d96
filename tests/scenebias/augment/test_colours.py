"""What must hold of changed colours: they are torchvision's, of a whole clip at once, each clip by its own number."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional as transforms

from scenebias.augment.colours import adjusted, brightness, contrast, hue, saturation

ADJUSTMENTS = {
    "brightness": (brightness, transforms.adjust_brightness),
    "contrast": (contrast, transforms.adjust_contrast),
    "saturation": (saturation, transforms.adjust_saturation),
    "hue": (hue, transforms.adjust_hue),
}


def random_clips(seed: int, clips: int) -> torch.Tensor:
    """Pixels with equal channels, dark and bright ones among them."""
    random = torch.Generator().manual_seed(seed)
    clip_PTHWC = torch.randint(0, 256, (clips, 3, 9, 8, 3), dtype=torch.uint8, generator=random)
    clip_PTHWC[:, :, 0] = clip_PTHWC[:, :, 0, :, :1]
    clip_PTHWC[:, :, 1] = 0
    clip_PTHWC[:, :, 2, :4] = 255
    clip_PTHWC[:, :, 3, :, 1] = clip_PTHWC[:, :, 3, :, 0]
    return clip_PTHWC


def strip_of(clip_THWC: torch.Tensor) -> torch.Tensor:
    """The frames under each other, float (C, T * H, W) of 0 to 1, as torchvision takes a picture."""
    return clip_THWC.flatten(0, 1).permute(2, 0, 1) / 255


@pytest.mark.parametrize("name", ADJUSTMENTS)
@given(seed=st.integers(0, 99), numbers=st.lists(st.floats(0, 1, width=32), min_size=1, max_size=4))
@settings(deadline=None, max_examples=40)
def test_each_clip_is_changed_as_torchvision_changes_a_picture(name: str, seed: int, numbers: list[float]) -> None:
    ours, theirs = ADJUSTMENTS[name]
    numbers = [number - 0.5 if name == "hue" else 2 * number for number in numbers]
    clip_PTHWC = random_clips(seed, len(numbers))
    before = clip_PTHWC.clone()
    changed_PTHWC = adjusted(clip_PTHWC, (ours, torch.tensor(numbers)))
    assert torch.equal(clip_PTHWC, before)
    assert changed_PTHWC.dtype == torch.uint8
    assert changed_PTHWC.is_contiguous()
    for clip_THWC, changed_THWC, number in zip(clip_PTHWC, changed_PTHWC, numbers, strict=True):
        wanted_CHW = 255 * theirs(strip_of(clip_THWC), number)
        assert (255 * strip_of(changed_THWC) - wanted_CHW).abs().max() < 0.51


@pytest.mark.parametrize(("name", "nothing"), [("brightness", 1), ("contrast", 1), ("saturation", 1), ("hue", 0)])
def test_a_number_that_changes_nothing_leaves_every_pixel(name: str, nothing: int) -> None:
    clip_PTHWC = random_clips(0, 2)
    assert torch.equal(adjusted(clip_PTHWC, (ADJUSTMENTS[name][0], torch.full((2,), float(nothing)))), clip_PTHWC)


def test_several_adjustments_follow_each_other_without_rounding_in_between() -> None:
    clip_PTHWC = random_clips(1, 1)
    changed = adjusted(clip_PTHWC, (brightness, torch.tensor([0.5])), (saturation, torch.tensor([0.3])))
    wanted = transforms.adjust_saturation(transforms.adjust_brightness(strip_of(clip_PTHWC[0]), 0.5), 0.3)
    assert (255 * strip_of(changed[0]) - 255 * wanted).abs().max() < 0.51
