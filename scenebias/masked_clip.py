"""The clip without its people: a model that recognises it all the same has looked at the scene.

Shape suffixes: B clips, T frames, H height, W width, C channels (red, green, blue).
"""

from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from scenebias.model import MEAN_C
from shards.randomness import randint

Fill = Literal["frame_mean", "dataset_mean", "white", "random"]
FILLS: tuple[Fill, ...] = get_args(Fill)

# Keeps these draws apart from those of the augmentation, which share seed, epoch and sample.
_COLOUR_STREAM = 0xF111


def random_colours(sample_B: Tensor, *, seed: int, epoch: int) -> Tensor:
    """One colour a clip, uint8 (B, 3), on the device of ``sample_B``.

    A function of (seed, epoch, sample) alone: the same on any rank, in any batch, after any resume.
    """
    sample_B1 = sample_B.cpu().numpy()[:, None]
    colour_BC = randint(256, seed, epoch, sample_B1, _COLOUR_STREAM, np.arange(3))
    return torch.from_numpy(colour_BC.astype(np.uint8)).to(sample_B.device)


def fill_colours(clip_BTHWC: Tensor, fill: Fill, *, sample_B: Tensor, seed: int, epoch: int) -> Tensor:
    """The colour that hides the people in each frame, uint8, broadcastable to (B, T, 1, 1, 3).

    - ``frame_mean``: the mean of the whole frame, people included (Choi et al., NeurIPS 2019);
    - ``dataset_mean``: the mean that the model subtracts, which it sees as zero;
    - ``white``: (255, 255, 255);
    - ``random``: one colour a clip and epoch, so that a model cannot learn to recognise the fill.
    """
    device = clip_BTHWC.device
    if fill == "frame_mean":
        pixel_count = clip_BTHWC.shape[2] * clip_BTHWC.shape[3]
        # Whole numbers: the result is the same on every device, whatever the order of the sum.
        sum_BT11C = clip_BTHWC.sum(dim=(2, 3), keepdim=True, dtype=torch.int32)
        return ((sum_BT11C + pixel_count // 2) // pixel_count).to(torch.uint8)
    if fill == "dataset_mean":
        return torch.tensor([round(255 * mean) for mean in MEAN_C], dtype=torch.uint8, device=device)
    if fill == "white":
        return torch.full((3,), 255, dtype=torch.uint8, device=device)
    if fill == "random":
        return random_colours(sample_B, seed=seed, epoch=epoch).to(device)[:, None, None, None, :]
    raise ValueError(f"fill must be one of {', '.join(FILLS)}, not {fill!r}")


def mask_out_humans(
    clip_BTHWC: Tensor, mask_BTHW: Tensor, fill: Fill, *, sample_B: Tensor, seed: int, epoch: int
) -> Tensor:
    """A new uint8 clip (B, T, H, W, 3) with the fill wherever the bool mask is set; the clip itself stays as it is.

    ``sample_B`` (int64 sample numbers), ``seed`` and ``epoch`` decide the colours of the fill ``random``.
    """
    colour = fill_colours(clip_BTHWC, fill, sample_B=sample_B, seed=seed, epoch=epoch)
    return torch.where(mask_BTHW[..., None], colour, clip_BTHWC)


def person_share(mask_BTHW: Tensor) -> Tensor:
    """Share of the frames of each clip in which the mask shows a person, float32 (B,), 0 to 1."""
    return mask_BTHW.flatten(start_dim=2).any(dim=2).float().mean(dim=1)


def effective_masks(mask_BTHW: Tensor, min_person_share: float) -> Tensor:
    """Which clips show a person in at least ``min_person_share`` of their frames, bool (B,).

    The masked version of any other clip still shows the action, so nothing is to be learned from being unsure of it.
    """
    # The tolerance is for shares such as 0.7, which float32 holds a little below or above its decimal value.
    return person_share(mask_BTHW) >= min_person_share - 1e-6
