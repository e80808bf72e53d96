"""What may be asked of augmentation, and what follows from it."""

import pytest
import tyro

from scenebias.augment.config import NOT_AUGMENTED, AugmentConfig


def test_by_default_nothing_is_changed() -> None:
    assert AugmentConfig() == NOT_AUGMENTED
    assert not NOT_AUGMENTED.changes_clips
    assert not NOT_AUGMENTED.changes_colours


@pytest.mark.parametrize(
    ("options", "changes_colours"),
    [
        ({"rand_augment": 2}, True),
        ({"jitter_brightness": 0.4}, True),
        ({"jitter_contrast": 0.4}, True),
        ({"jitter_saturation": 0.4}, True),
        ({"jitter_hue": 0.1}, True),
        ({"grey_probability": 0.2}, True),
        ({"erasing_probability": 0.25}, False),
    ],
)
def test_each_is_known_to_change_clips_and_whether_it_changes_colours(options: dict, changes_colours: bool) -> None:
    config = AugmentConfig(**options)
    assert config.changes_clips
    assert config.changes_colours == changes_colours


def test_what_never_happens_changes_nothing() -> None:
    assert not AugmentConfig(jitter_hue=0.1, jitter_probability=0.0).changes_clips


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rand_augment": -1}, r"rand_augment must be in \[0, 14\], got -1"),
        ({"rand_augment": 15}, "rand_augment"),
        ({"rand_augment_magnitude": 31}, r"rand_augment_magnitude must be in \[0, 30\], got 31"),
        ({"jitter_brightness": -0.1}, r"jitter_brightness must be in \[0, 10\], got -0.1"),
        ({"jitter_contrast": float("inf")}, r"jitter_contrast must be in \[0, 10\], got inf"),
        ({"jitter_saturation": float("nan")}, "jitter_saturation"),
        ({"jitter_hue": 0.6}, r"jitter_hue must be in \[0, 0.5\], got 0.6"),
        ({"jitter_probability": 1.1}, r"jitter_probability must be in \[0, 1\], got 1.1"),
        ({"grey_probability": -1.0}, "grey_probability"),
        ({"erasing_probability": float("nan")}, "erasing_probability"),
        ({"erasing_area": (0.0, 0.3)}, r"erasing_area must be two numbers in \(0, 1\], the smaller one first"),
        ({"erasing_area": (0.3, 0.2)}, "erasing_area"),
        ({"erasing_aspect": (3.0, 0.3)}, "erasing_aspect must be two numbers from 0.01 to 100, the smaller one first"),
    ],
)
def test_mistakes_are_named_with_what_is_allowed(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AugmentConfig(**options)


def test_a_command_line_says_it() -> None:
    words = ["--jitter-hue", "0.1", "--erasing-probability", "0.25", "--erasing-area", "0.1", "0.2"]
    wanted = AugmentConfig(jitter_hue=0.1, erasing_probability=0.25, erasing_area=(0.1, 0.2))
    assert tyro.cli(AugmentConfig, args=words) == wanted
