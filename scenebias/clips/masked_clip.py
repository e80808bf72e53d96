"""The clip without its people: a model that recognises it all the same has looked at the scene.

Shape suffixes: B clips, T frames, H height, W width, C channels (red, green, blue).
"""

from typing import Literal, TypeVar, get_args

import numpy as np
import torch
from torch import Tensor

from dali_pipelines.cropping import frame_means
from scenebias.models.action_model import MEAN_C
from shards.randomness import hash_uint64, randint

Fill = Literal["frame_mean", "dataset_mean", "white", "random", "noise"]
FILLS: tuple[Fill, ...] = get_args(Fill)
Share = TypeVar("Share", Tensor, np.ndarray)

MIN_PERSON_SHARE = 0.7
"""A mask is effective if it shows a person in at least this share of the frames (Choi et al., NeurIPS 2019)."""

# Keep these draws apart from those of the augmentation, which share seed, epoch and sample.
_COLOUR_STREAM = 0xF111
_NOISE_STREAM = 0xF112


def random_colours(sample_B: Tensor, *, seed: int, epoch: int) -> Tensor:
    """One colour a clip, uint8 (B, 3), on the device of ``sample_B``.

    A function of (seed, epoch, sample) alone: the same on any rank, in any batch, after any resume.
    """
    sample_B1 = sample_B.cpu().numpy()[:, None]
    colour_BC = randint(256, seed, epoch, sample_B1, _COLOUR_STREAM, np.arange(3))
    return torch.from_numpy(colour_BC.astype(np.uint8)).to(sample_B.device)


def random_noise(clip_BTHWC: Tensor, *, sample_B: Tensor, seed: int, epoch: int) -> Tensor:
    """Noise of the shape of ``clip_BTHWC``, every value uniform in 0 to 255 by itself, uint8, on the clip's device.

    A function of (seed, epoch, sample) alone, on one kind of device: the same on any rank, in any batch.
    """
    device = clip_BTHWC.device
    byte_count = clip_BTHWC[0].numel()
    word_BN = torch.empty(len(clip_BTHWC), -(-byte_count // 8), dtype=torch.int64, device=device)
    generator = torch.Generator(device)
    # Words of 8 values each, as drawing a value at a time takes four times as long.
    for word_N, key in zip(word_BN, hash_uint64(seed, epoch, sample_B.cpu().numpy(), _NOISE_STREAM), strict=True):
        word_N.random_(-(2**63), None, generator=generator.manual_seed(int(key) >> 1))
    return word_BN.view(torch.uint8)[:, :byte_count].view(clip_BTHWC.shape)


def fill_colours(clip_BTHWC: Tensor, fill: Fill, *, sample_B: Tensor, seed: int, epoch: int) -> Tensor:
    """The colours that hide the people, uint8, broadcastable to (B, T, H, W, 3).

    - ``frame_mean``: the mean of what the clip shows of the frame, people included (Choi et al., NeurIPS 2019);
    - ``dataset_mean``: the mean that models subtract by default, which they see as zero;
    - ``white``: (255, 255, 255);
    - ``random``: one colour a clip and epoch, so that a model cannot learn to recognise the fill;
    - ``noise``: another random colour for each pixel, clip and epoch.
    """
    device = clip_BTHWC.device
    if fill == "frame_mean":
        # Clip by clip, as the sum copies what it adds up to 32 bits: on a CPU four times as fast in the cache.
        return torch.stack([frame_means(clip_THWC) for clip_THWC in clip_BTHWC])[:, :, None, None]
    if fill == "dataset_mean":
        return torch.tensor([round(255 * mean) for mean in MEAN_C], dtype=torch.uint8, device=device)
    if fill == "white":
        return torch.full((3,), 255, dtype=torch.uint8, device=device)
    if fill == "random":
        return random_colours(sample_B, seed=seed, epoch=epoch).to(device)[:, None, None, None, :]
    if fill == "noise":
        return random_noise(clip_BTHWC, sample_B=sample_B, seed=seed, epoch=epoch)
    raise ValueError(f"fill must be one of {', '.join(FILLS)}, not {fill!r}")


def choose_pixels(mask_BTHW: Tensor, inside_BTHWC: Tensor, outside_BTHWC: Tensor) -> Tensor:
    """A new uint8 clip (B, T, H, W, 3): the one where the bool mask is set, the other elsewhere.

    All three may have what broadcasts to these shapes.
    """
    shape = torch.broadcast_shapes((*mask_BTHW.shape, 3), inside_BTHWC.shape, outside_BTHWC.shape)
    chosen_BTHWC = outside_BTHWC.new_empty(shape)
    for channel in range(3):  # on a CPU three times as fast as a mask broadcast along the channels
        torch.where(mask_BTHW, inside_BTHWC[..., channel], outside_BTHWC[..., channel], out=chosen_BTHWC[..., channel])
    return chosen_BTHWC


def mask_out_humans(
    clip_BTHWC: Tensor, mask_BTHW: Tensor, fill: Fill, *, sample_B: Tensor, seed: int, epoch: int
) -> Tensor:
    """A new uint8 clip (B, T, H, W, 3) with the fill wherever the bool mask is set; the clip itself stays as it is.

    ``sample_B`` (int64 sample numbers), ``seed`` and ``epoch`` decide the colours of the fills ``random`` and
    ``noise``.
    """
    colour = fill_colours(clip_BTHWC, fill, sample_B=sample_B, seed=seed, epoch=epoch)
    return choose_pixels(mask_BTHW, colour, clip_BTHWC)


def person_share(mask_BTHW: Tensor) -> Tensor:
    """Share of the frames of each clip in which the mask shows a person, float32 (B,), 0 to 1."""
    return mask_BTHW.flatten(start_dim=2).any(dim=2).float().mean(dim=1)


def is_effective(person_share: Share, min_person_share: float) -> Share:
    """Whether so large a share of frames with a person is at least ``min_person_share``, one by one, bool."""
    # The tolerance is for shares such as 0.7, which float32 holds a little below or above its decimal value.
    return person_share >= min_person_share - 1e-6


def effective_masks(mask_BTHW: Tensor, min_person_share: float) -> Tensor:
    """Which clips show a person in at least ``min_person_share`` of their frames, bool (B,).

    The masked version of any other clip still shows the action, so nothing is to be learned from being unsure of it.
    """
    return is_effective(person_share(mask_BTHW), min_person_share)


def boxes_around(mask_BTHW: Tensor) -> Tensor:
    """The bool masks grown, frame by frame, to the smallest box that holds them; an empty mask stays empty."""

    def between(any_BTHW: Tensor, dimension: int) -> Tensor:
        """From the first to the last that is set."""
        reached = any_BTHW.cumsum(dimension) > 0
        left = any_BTHW.flip(dimension).cumsum(dimension).flip(dimension) > 0
        return reached & left

    return between(mask_BTHW.any(dim=3, keepdim=True), 2) & between(mask_BTHW.any(dim=2, keepdim=True), 3)
