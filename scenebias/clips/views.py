"""Ways to show a clip to a model: as it is, with its humans hidden, or with nothing but them.

Shape suffixes: B clips of a batch, T frames, H height, W width, C channels.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal

from torch import Tensor

from dali_pipelines import ClipBatch
from scenebias.clips.background import fill_in_background
from scenebias.clips.masked_clip import Fill, boxes_around, mask_out_humans

ClipChange = Callable[[ClipBatch], Tensor]
"""Makes the clip that the model sees, uint8 clip_BTHWC, from a batch (e.g. the humans masked out)."""

Cover = Literal["pixels", "boxes"]
COVERS: dict[Cover, str] = {"pixels": "pixels", "boxes": "box"}
"""What of a human is covered."""

HiddenFill = Fill | Literal["background"]
HIDDEN_FILLS: dict[HiddenFill, str] = {
    "frame_mean": "frame mean",
    "white": "white",
    "noise": "noise",
    "background": "background filled in",
}
"""What it is covered with: more than any one training shows, as a model may come to know the fill that it has seen."""


def as_it_is(batch: ClipBatch) -> Tensor:
    """The clips, uint8 (B, T, H, W, 3)."""
    return batch.clip_BTHWC


def hide_humans(batch: ClipBatch, cover: Cover = "pixels", fill: HiddenFill = "frame_mean", seed: int = 0) -> Tensor:
    """The clips with their humans covered, uint8 (B, T, H, W, 3); ``seed`` is that of random fills.

    The fill "background" is that of `fill_in_background`, and with ``cover`` "pixels" the "background only" clip of HAT
    (Chung et al., NeurIPS 2022), which fills in with a network; the others are of `fill_colours`.
    """
    assert batch.mask_BTHW is not None, "humans are hidden in clips with masks"
    mask_BTHW = batch.mask_BTHW if cover == "pixels" else boxes_around(batch.mask_BTHW)
    if fill == "background":
        return fill_in_background(batch.clip_BTHWC, mask_BTHW)
    return mask_out_humans(batch.clip_BTHWC, mask_BTHW, fill, sample_B=batch.sample_B, seed=seed, epoch=0)


def humans_only(batch: ClipBatch) -> Tensor:
    """The clips with all but their humans in the mean colour of videos, a grey: the "human only" clip of HAT."""
    assert batch.mask_BTHW is not None, "humans are cut out of clips with masks"
    mask_BTHW = ~batch.mask_BTHW
    return mask_out_humans(batch.clip_BTHWC, mask_BTHW, "dataset_mean", sample_B=batch.sample_B, seed=0, epoch=0)


def hidden_name(cover: Cover, fill: HiddenFill) -> str:
    """The name of a view whose humans are hidden."""
    return f"hidden_{cover}_{fill}"


def hidden_views(seed: int = 0) -> dict[str, ClipChange]:
    """All views whose humans are hidden, by their names; ``seed`` is that of the noise."""
    return {
        hidden_name(cover, fill): partial(hide_humans, cover=cover, fill=fill, seed=seed)
        for cover in COVERS
        for fill in HIDDEN_FILLS
    }
