"""What may be asked of composing, and what follows from it."""

import pytest
import tyro

from scenebias.compose.config import COMPOSED_SHARE, COMPOSITIONS, ComposeConfig


@pytest.mark.parametrize("count", range(1, len(COMPOSITIONS) + 1))
def test_without_probabilities_all_ways_alike_compose_half_of_the_clips(count: int) -> None:
    probabilities = ComposeConfig(compose=COMPOSITIONS[:count]).probabilities
    assert len(probabilities) == count
    assert len(set(probabilities)) == 1
    assert sum(probabilities) == pytest.approx(COMPOSED_SHARE)


def test_by_default_nothing_is_composed_and_nothing_needed() -> None:
    config = ComposeConfig()
    assert (config.compose, config.probabilities, config.needs_masks, config.group_size) == ((), (), False, 1)


@pytest.mark.parametrize(
    ("compose", "needs_masks", "group_size"),
    [
        (("background_swap",), True, 2),
        (("actor_cutmix",), True, 2),
        (("fame",), False, 2),
        (("background_erasing",), False, 1),
        (("still_mix",), False, 2),
        (("mixup",), False, 2),
        (("cutmix",), False, 2),
        (("background_erasing", "mixup"), False, 2),
        (("mixup", "background_swap"), True, 2),
    ],
)
def test_a_way_says_whether_it_needs_masks_and_partners(compose: tuple, needs_masks: bool, group_size: int) -> None:
    config = ComposeConfig(compose=compose)
    assert (config.needs_masks, config.group_size) == (needs_masks, group_size)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"compose": ("paste",)}, "compose must be of background_swap, .*, not 'paste'"),
        ({"compose": ("mixup", "mixup")}, "compose must name each way once, got mixup, mixup"),
        ({"compose_probability": (0.5,)}, r"compose_probability must be one number for each of compose \(0\), got 1"),
        ({"compose": ("mixup",), "compose_probability": (0.5, 0.1)}, "compose_probability must be one number"),
        ({"compose": ("mixup",), "compose_probability": (1.1,)}, "compose_probability must be numbers from 0 on"),
        ({"compose": ("mixup", "fame"), "compose_probability": (0.6, 0.5)}, "a sum of at most 1"),
        ({"compose": ("mixup", "fame"), "compose_probability": (-0.1, 0.5)}, "compose_probability"),
        ({"compose": ("mixup",), "compose_probability": (float("nan"),)}, "compose_probability"),
        ({"fame_share": 0.0}, "fame_share must be above 0 and below 1, got 0.0"),
        ({"fame_share": 1.0}, "fame_share"),
        ({"erasing_max": 1.5}, "erasing_max must be above 0 and below 1, got 1.5"),
        ({"mixup_alpha": 0.0}, "mixup_alpha must be at least 0.01, got 0.0"),
        ({"cutmix_alpha": -1.0}, "cutmix_alpha must be at least"),
        ({"still_mix_concentration": float("inf")}, "still_mix_concentration must be at most 1000000, got inf"),
        ({"mixup_alpha": float("nan")}, "mixup_alpha"),
    ],
)
def test_mistakes_are_named_with_what_is_allowed(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ComposeConfig(**options)


def test_probabilities_may_sum_to_one_as_far_as_decimals_go() -> None:
    assert ComposeConfig(compose=COMPOSITIONS, compose_probability=(1 / 7,) * 7).probabilities == (1 / 7,) * 7
    assert ComposeConfig(compose=("mixup", "fame", "cutmix"), compose_probability=(0.7, 0.2, 0.1)).needs_masks is False


def test_a_command_line_says_it() -> None:
    words = ["--compose", "background_swap", "mixup", "--compose-probability", "0.4", "0.1", "--mixup-alpha", "1"]
    wanted = ComposeConfig(compose=("background_swap", "mixup"), compose_probability=(0.4, 0.1), mixup_alpha=1.0)
    assert tyro.cli(ComposeConfig, args=words) == wanted
