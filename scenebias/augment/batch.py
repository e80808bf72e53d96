"""Clips of a training batch augmented, on the batch's device.

Shape suffixes: B clips of a batch, P some of them, T frames, H height, W width, C channels (red, green, blue).
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from dali_pipelines import ClipBatch
from scenebias.augment.colours import Adjustment, adjusted, brightness, contrast, hue, saturation
from scenebias.augment.config import AugmentConfig
from scenebias.augment.draws import (
    BRIGHTNESS_STREAM,
    CONTRAST_STREAM,
    ERASING_STREAM,
    GREY_STREAM,
    HUE_STREAM,
    JITTER_STREAM,
    OPERATION_STREAM,
    SATURATION_STREAM,
    SIGN_STREAM,
    Draws,
)
from scenebias.augment.erasing import erased
from scenebias.augment.rand_augment import OPERATIONS, rand_augmented
from scenebias.models.action_model import MEAN_C

VALUES_AT_ONCE = {"cpu": 2**22, "cuda": 2**25}
"""Of clips that are changed together, where one clip does not have more; eight times as many floats are held meanwhile.
In a CPU's caches fewer are faster."""

Change = Callable[[Tensor, Tensor | None, Draws], tuple[Tensor, Tensor | None]]
"""Makes of clips uint8 (P, T, H, W, 3), of masks bool (P, T, H, W), or None, and of their draws new ones, or those that
it was given, changed."""


def augment(batch: ClipBatch, config: AugmentConfig, *, seed: int, epoch: int) -> ClipBatch:
    """Change clips of ``batch``, and their masks with them, as ``config`` says.

    What becomes of a clip depends on (seed, epoch, sample), on how often it came before in the batch, and on itself
    alone; all its frames are changed alike. In this order: RandAugment, colour jitter, grey, erasing. The tensors of
    ``batch`` are not changed.
    """
    if not config.changes_clips:
        return batch
    draws = Draws(seed, epoch, batch.showing_B.cpu().numpy())
    augmented = _Augmented(batch, draws)
    everyone_B = np.arange(len(draws.sample_P))
    for turn in range(config.rand_augment):
        augmented.change(everyone_B, partial(_rand_augmented, config, turn))
    if config.jitters:
        chosen_P = draws.chosen(config.jitter_probability, JITTER_STREAM)
        augmented.change(chosen_P, lambda clip, mask, drawn: (_jittered(clip, config, drawn), mask))
    augmented.change(draws.chosen(config.grey_probability, GREY_STREAM), _grey)
    augmented.change(
        draws.chosen(config.erasing_probability, ERASING_STREAM),
        lambda clip, mask, drawn: _erased(clip, mask, config, drawn),
    )
    return augmented.batch


class _Augmented:
    """A copy of a batch's clips and masks, changed piece by piece."""

    def __init__(self, batch: ClipBatch, draws: Draws) -> None:
        mask_BTHW = batch.mask_BTHW
        self.batch = replace(
            batch, clip_BTHWC=batch.clip_BTHWC.clone(), mask_BTHW=None if mask_BTHW is None else mask_BTHW.clone()
        )
        self._draws = draws

    def change(self, place_P: NDArray[np.int64], change: Change) -> None:
        """Change the clips in these places."""
        clip_BTHWC, mask_BTHW = self.batch.clip_BTHWC, self.batch.mask_BTHW
        for piece_P in _pieces(place_P, clip_BTHWC):
            index_P = torch.from_numpy(piece_P).to(clip_BTHWC.device, non_blocking=True)
            before = None if mask_BTHW is None else mask_BTHW[index_P]
            clip_BTHWC[index_P], mask_PTHW = change(clip_BTHWC[index_P], before, self._draws[piece_P])
            if mask_BTHW is not None and mask_PTHW is not None:
                mask_BTHW[index_P] = mask_PTHW


def _pieces(place_P: NDArray[np.int64], clip_BTHWC: Tensor) -> Iterator[NDArray[np.int64]]:
    clips = max(1, VALUES_AT_ONCE[clip_BTHWC.device.type] // clip_BTHWC[0].numel())
    for first in range(0, len(place_P), clips):
        yield place_P[first : first + clips]


def _rand_augmented(
    config: AugmentConfig, turn: int, clip_PTHWC: Tensor, mask_PTHW: Tensor | None, draws: Draws
) -> tuple[Tensor, Tensor | None]:
    return rand_augmented(
        clip_PTHWC,
        mask_PTHW,
        draws.one_of(len(OPERATIONS), OPERATION_STREAM, turn),
        2 * draws.one_of(2, SIGN_STREAM, turn) - 1,
        config.rand_augment_magnitude,
        mean_colour(clip_PTHWC),
    )


def _jittered(clip_PTHWC: Tensor, config: AugmentConfig, draws: Draws) -> Tensor:
    """As ``torchvision.transforms.v2.ColorJitter``, always in this order, which that shuffles."""
    factors: tuple[tuple[Adjustment, float, int], ...] = (
        (brightness, config.jitter_brightness, BRIGHTNESS_STREAM),
        (contrast, config.jitter_contrast, CONTRAST_STREAM),
        (saturation, config.jitter_saturation, SATURATION_STREAM),
    )
    adjustments = [
        (adjust, on_device(draws.factor(strength, stream), clip_PTHWC))
        for adjust, strength, stream in factors
        if strength
    ]
    if config.jitter_hue:
        turn_P = draws.between(-config.jitter_hue, config.jitter_hue, HUE_STREAM)
        adjustments.append((hue, on_device(turn_P, clip_PTHWC)))
    return adjusted(clip_PTHWC, *adjustments)


def _grey(clip_PTHWC: Tensor, mask_PTHW: Tensor | None, draws: Draws) -> tuple[Tensor, Tensor | None]:
    del draws
    clip_PTCHW = clip_PTHWC.permute(0, 1, 4, 2, 3)
    grey_PTCHW = transforms.rgb_to_grayscale(clip_PTCHW, num_output_channels=3)
    return grey_PTCHW.permute(0, 1, 3, 4, 2), mask_PTHW


def _erased(
    clip_PTHWC: Tensor, mask_PTHW: Tensor | None, config: AugmentConfig, draws: Draws
) -> tuple[Tensor, Tensor | None]:
    rows, columns = clip_PTHWC.shape[2:4]
    region = draws.rectangle(config.erasing_area, config.erasing_aspect, rows, columns)
    return erased(clip_PTHWC, mask_PTHW, region, mean_colour(clip_PTHWC))


def mean_colour(clip_PTHWC: Tensor) -> Tensor:
    """The mean colour of videos, which models see as zero, uint8 (3,) on the clip's device."""
    colour_C = torch.tensor([round(255 * mean) for mean in MEAN_C], dtype=torch.uint8)
    return colour_C.to(clip_PTHWC.device, non_blocking=True)


def on_device(value_P: NDArray[np.float64], clip_PTHWC: Tensor) -> Tensor:
    """A number for each clip, float32 on the clips' device."""
    return torch.from_numpy(value_P.astype(np.float32)).to(clip_PTHWC.device, non_blocking=True)
