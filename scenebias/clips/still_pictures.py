"""SCUBA, SCUFO, ConflFG: people before a still picture, one frame of that repeated, and a still person put in.

As published by Li et al., "Mitigating and Evaluating Static Bias of Action Representations in the Background and the
Foreground", ICCV 2023 (arXiv 2211.12883), and in their code, lihaoxin05/StillMix, folder benchmark_synthesis.

Shape suffixes: B clips of a batch, T frames, H height, W width, C channels (red, green, blue); X, Y columns and rows.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from dali_pipelines import ClipBatch
from scenebias.clips.masked_clip import choose_pixels
from shards.errors import UserError, system_fault
from shards.randomness import randint, uniform

STRIPES = "stripes"
STRIPES_SIZE = 256
"""Height and width of a picture of stripes."""
PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")

Backdrop = Callable[[int], Image.Image]
"""The still picture, of any size, that goes behind the people of the clip of this number."""

# Keep these draws apart from others that share seed and sample.
_STRIPES_STREAM, _PICTURE_STREAM, _FRAME_STREAM, _PERSON_STREAM = 0x571A, 0x571B, 0x571C, 0x571D


def stripes(sample: int, *, seed: int) -> Image.Image:
    """Parallel sinusoidal stripes of one colour on its complement, a function of (seed, sample) alone.

    With u each time another number uniform in [0, 1), in pixels: a colour (u, u, u) of 0 to 1; stripes of 1 minus it
    around y = A sin(w x + t) + 128 + k d for all whole k, as far as h to both sides, with h = 5 + 15 u,
    d = (3 + 2 u) h, w = 2π / (4 + 1000 u), t = (200 u - 100) w and A = 10 + 100 u, where x and y run over a square of
    384 pixels; turned by 360 u degrees about its middle, of which the middle 256 pixels are kept. The authors' code
    draws the same but for its roundings.
    """
    draw = uniform(seed, sample, _STRIPES_STREAM, np.arange(9))
    colour_C = draw[:3]
    half_width = 5 + 15 * draw[3]
    distance = (3 + 2 * draw[4]) * half_width
    frequency = 2 * np.pi / (4 + 1000 * draw[5])
    phase = (200 * draw[6] - 100) * frequency
    amplitude, angle = 10 + 100 * draw[7], 2 * np.pi * draw[8]
    from_middle = np.arange(STRIPES_SIZE) - (STRIPES_SIZE - 1) / 2
    middle = (1.5 * STRIPES_SIZE - 1) / 2
    x_YX = middle + from_middle * np.cos(angle) - from_middle[:, None] * np.sin(angle)
    y_YX = middle + from_middle * np.sin(angle) + from_middle[:, None] * np.cos(angle)
    above_YX = y_YX - (amplitude * np.sin(frequency * x_YX + phase) + STRIPES_SIZE / 2)
    striped_YX = (above_YX + half_width) % distance < 2 * half_width
    picture_YXC = np.where(striped_YX[..., None], 1 - colour_C, colour_C)
    return Image.fromarray((255 * picture_YXC).astype(np.uint8))


def picture_of(pictures: Sequence[Path], sample: int, *, seed: int) -> Image.Image:
    """One of the ``pictures``, drawn by (seed, sample), in RGB; UserError where it cannot be read."""
    path = pictures[int(randint(len(pictures), seed, sample, _PICTURE_STREAM))]
    try:
        with Image.open(path) as picture:
            return picture.convert("RGB")
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        if fault := system_fault(error):
            raise UserError(f"{path}: cannot be read ({fault}); mend that, or remove it from the folder") from error
        raise UserError(f"{path}: cannot be read as a picture ({error}); remove it from the folder") from error


def backdrop_of(kind: str, *, seed: int) -> Backdrop:
    """What ``kind`` asks for: `STRIPES`, or the pictures in the folder of this name and in the folders in it.

    Raises UserError for a folder that is not there or has no pictures.
    """
    if kind == STRIPES:
        return partial(stripes, seed=seed)
    pictures = sorted(path for path in Path(kind).rglob("*") if path.suffix.lower() in PICTURE_SUFFIXES)
    if not pictures:
        raise UserError(
            f"{kind} is no folder of pictures ({', '.join(PICTURE_SUFFIXES)}); give one, or the word {STRIPES}"
        )
    return partial(picture_of, pictures, seed=seed)


def scuba(batch: ClipBatch, backdrop: Backdrop) -> Tensor:
    """The people of each clip before its still picture, uint8 (B, T, H, W, 3), the same in every frame.

    Where the mask is set, a pixel is the clip's own. The picture is stretched to the frame, as published.
    """
    assert batch.mask_BTHW is not None, "people are put before pictures in clips with masks"
    return choose_pixels(batch.mask_BTHW, batch.clip_BTHWC, _pictures(batch, backdrop))


def scufo(batch: ClipBatch, backdrop: Backdrop, *, seed: int) -> Tensor:
    """A random frame of each clip of `scuba`, repeated: nothing moves; drawn by (seed, sample, window)."""
    clip_BTHWC = scuba(batch, backdrop)
    clips, frames = clip_BTHWC.shape[:2]
    keys = (keys_B.cpu().numpy() for keys_B in (batch.sample_B, batch.window_B))
    frame_B = torch.from_numpy(randint(frames, seed, *keys, _FRAME_STREAM)).to(clip_BTHWC.device)
    still_BHWC = clip_BTHWC[torch.arange(clips, device=clip_BTHWC.device), frame_B]
    return still_BHWC[:, None].expand_as(clip_BTHWC).contiguous()


def conflicting_foreground(batch: ClipBatch, other: ClipBatch, backdrop: Backdrop, *, seed: int) -> Tensor:
    """ConflFG: each clip of `scuba` with a still person of the ``other`` clip, uint8 (B, T, H, W, 3).

    As in the paper (figure 1 c) it is cut out of a single frame and stands in all of them. Which frame, of those that
    show one, is drawn by (seed, sample, window). The paper does not tell where it stands: here where it stood, between
    the still picture and the moving people, none of whom it hides.
    """
    assert other.mask_BTHW is not None, "people are cut out of clips with masks"
    shown_BT = other.mask_BTHW.flatten(start_dim=2).any(dim=2)
    keys = (keys_B.cpu().numpy() for keys_B in (batch.sample_B, batch.window_B))
    number_B = randint(shown_BT.sum(dim=1).clamp(min=1).cpu().numpy(), seed, *keys, _PERSON_STREAM)
    nth_BT = shown_BT & (shown_BT.cumsum(dim=1) == torch.from_numpy(number_B + 1).to(shown_BT.device)[:, None])
    place_B = torch.arange(len(nth_BT), device=nth_BT.device), nth_BT.int().argmax(dim=1)
    person_B1HWC, mask_B1HW = other.clip_BTHWC[place_B][:, None], other.mask_BTHW[place_B][:, None]
    behind_B1HWC = choose_pixels(mask_B1HW, person_B1HWC, _pictures(batch, backdrop))
    assert batch.mask_BTHW is not None, "people are put before pictures in clips with masks"
    return choose_pixels(batch.mask_BTHW, batch.clip_BTHWC, behind_B1HWC)


def _pictures(batch: ClipBatch, backdrop: Backdrop) -> Tensor:
    """The still picture of each clip, stretched to its frame, uint8 (B, 1, H, W, 3)."""
    size = batch.clip_BTHWC.shape[3], batch.clip_BTHWC.shape[2]
    pictures = [np.asarray(backdrop(sample).resize(size)) for sample in batch.sample_B.tolist()]
    return torch.from_numpy(np.stack(pictures)).to(batch.clip_BTHWC.device)[:, None]
