"""The ways to compose a clip with its partner, each by itself.

Shape suffixes: P clips to compose, T frames, H height, W width, C channels (red, green, blue).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dali_pipelines import ClipBatch
from scenebias.clips.masked_clip import choose_pixels, mask_out_humans
from scenebias.clips.scene_swap import swap_background
from scenebias.compose.config import ComposeConfig, Composition
from scenebias.compose.draws import Draws
from scenebias.compose.foreground import moving_foreground


@dataclass(frozen=True)
class Blend:
    """Clips that were composed, on their device."""

    clip_PTHWC: Tensor
    """uint8."""
    mask_PTHW: Tensor | None
    """bool, every human that can be seen, of the clip or its partner; None: the data set has no masks."""
    has_mask_P: Tensor
    """bool, whether ``mask_PTHW`` tells of all of them."""
    action_share_P: Tensor
    """float32, weight of the clip's own action in the target; that of its partner's is the rest."""
    scene_share_P: Tensor
    """float32, weight of the clip's own scene in the scene label; that of its partner's is the rest."""
    composed_P: Tensor
    """bool; a clip that could not be composed is to be left as it is, whatever else stands here."""


Method = Callable[[ClipBatch, ClipBatch, ComposeConfig, Draws], Blend]
"""Composes P clips, the first argument, each with the partner in its place of the second."""


def background_swap(own: ClipBatch, partner: ClipBatch, config: ComposeConfig, draws: Draws) -> Blend:
    """The clip's human before its partner's background: m x + (1 - m) b, b made of x' by `fill_in_background`.

    The action swap of HAT (Chung et al., NeurIPS 2022), with a background that no network fills in. Label and mask are
    kept. A clip stays as it is where one of the two has no mask, where its own is empty or full everywhere, so that
    nothing or nothing else would be shown of it, and where its partner's is full, so that no background is known.
    """
    own_share_P, partner_share_P = _mask_share(own), _mask_share(partner)
    ones_P = torch.ones_like(own_share_P)
    return Blend(
        swap_background(own, partner),
        own.mask_BTHW,
        own.has_mask_B,
        action_share_P=ones_P,
        scene_share_P=0 * ones_P,
        composed_P=_both_have_masks(own, partner) & (own_share_P > 0) & (own_share_P < 1) & (partner_share_P < 1),
    )


def actor_cutmix(own: ClipBatch, partner: ClipBatch, config: ComposeConfig, draws: Draws) -> Blend:
    """ActorCutMix: the clip's human on its partner, whose own human is cut out: m x + (1 - m) (1 - m') x'.

    Zou et al., "Learning Representational Invariances for Data-Efficient Action Recognition" (2021). The hole has the
    mean colour of videos, which networks see as the zero of the formula. The own action has the weight 1 - (1 - ρ)^4,
    ρ the share of pixels in the mask of the clip; ρ of 0 or 1 leaves the clip as it is, as do missing masks. The scene
    is the partner's alone; the mask covers the human and the hole, whose outline still tells of the other.
    """
    assert own.mask_BTHW is not None, "a data set without masks is refused before training"
    assert partner.mask_BTHW is not None, "a data set without masks is refused before training"
    share_P = _mask_share(own)
    emptied_PTHWC = mask_out_humans(
        partner.clip_BTHWC, partner.mask_BTHW, "dataset_mean", sample_B=partner.sample_B, seed=0, epoch=0
    )
    return Blend(
        choose_pixels(own.mask_BTHW, own.clip_BTHWC, emptied_PTHWC),
        own.mask_BTHW | partner.mask_BTHW,
        _both_have_masks(own, partner),
        action_share_P=1 - (1 - share_P) ** 4,
        scene_share_P=torch.zeros_like(share_P),
        composed_P=_both_have_masks(own, partner) & (share_P > 0) & (share_P < 1),
    )


def fame(own: ClipBatch, partner: ClipBatch, config: ComposeConfig, draws: Draws) -> Blend:
    """FAME: the clip's foreground, found without a mask, on its partner as it is; the label is kept.

    Ding et al., CVPR 2022; see `moving_foreground`. The scene is the partner's: what lies around the foreground. A clip
    of a single frame, in which nothing can move, stays as it is.
    """
    clips, frames = own.clip_BTHWC.shape[:2]
    ones_P = torch.ones(clips, device=own.clip_BTHWC.device)
    if frames < 2:
        return Blend(own.clip_BTHWC, own.mask_BTHW, own.has_mask_B, ones_P, ones_P, ones_P == 0)
    foreground_P1HW = moving_foreground(own.clip_BTHWC, config.fame_share)[:, None]
    return Blend(
        choose_pixels(foreground_P1HW, own.clip_BTHWC, partner.clip_BTHWC),
        _join_masks(own, partner, lambda mask, other: torch.where(foreground_P1HW, mask, other)),
        _both_have_masks(own, partner),
        action_share_P=ones_P,
        scene_share_P=0 * ones_P,
        composed_P=ones_P > 0,
    )


def background_erasing(own: ClipBatch, partner: ClipBatch, config: ComposeConfig, draws: Draws) -> Blend:
    """Background erasing: (1 - λ) x + λ x_k, k a frame of the same clip, λ uniform from 0 to ``erasing_max``.

    Wang et al., "Removing the Background by Adding the Background", CVPR 2021. Label and scene are kept; the mask
    covers the human of frame k in every frame as well. The partner has no part in it.
    """
    still = _still(own, draws.frame(own.clip_BTHWC.shape[1]))
    share_P = _on_device(1 - draws.weight(config.erasing_max), own)
    ones_P = torch.ones_like(share_P)
    return Blend(
        _mix(own.clip_BTHWC, still.clip_BTHWC, share_P),
        _join_masks(own, still, torch.logical_or),
        own.has_mask_B,
        action_share_P=ones_P,
        scene_share_P=ones_P,
        composed_P=ones_P > 0,
    )


def still_mix(own: ClipBatch, partner: ClipBatch, config: ComposeConfig, draws: Draws) -> Blend:
    """StillMix: λ x + (1 - λ) x'_k, k one frame of the partner, λ of Beta(α, α); the label is kept.

    Li et al., "Mitigating and Evaluating Static Bias of Action Representations in the Background and the Foreground",
    ICCV 2023, in the variant whose frames are drawn at random. Both scenes show, and are mixed by λ.
    """
    still = _still(partner, draws.frame(partner.clip_BTHWC.shape[1]))
    share_P = _on_device(draws.beta(config.still_mix_concentration), own)
    return _mixed(own, still, share_P, action_share_P=torch.ones_like(share_P))


def mixup(own: ClipBatch, partner: ClipBatch, config: ComposeConfig, draws: Draws) -> Blend:
    """mixup: λ x + (1 - λ) x', action and scene alike, λ of Beta(α, α) (Zhang et al., ICLR 2018)."""
    share_P = _on_device(draws.beta(config.mixup_alpha), own)
    return _mixed(own, partner, share_P, action_share_P=share_P)


def cutmix(own: ClipBatch, partner: ClipBatch, config: ComposeConfig, draws: Draws) -> Blend:
    """CutMix: a box of the partner in the clip, the same in all frames; action and scene are mixed by area.

    Yun et al., ICCV 2019, equations 1 and 2: sides of sqrt(1 - λ) of the frame's, rounded down, λ of Beta(α, α), around
    a pixel drawn evenly; what lies beyond the frame is cut off, and the shares are those of the areas that are left. A
    box of no area leaves the clip as it is.
    """
    rows, columns = own.clip_BTHWC.shape[2:4]
    side_P = np.sqrt(1 - draws.beta(config.cutmix_alpha))
    row_P, column_P = draws.pixel(rows, columns)
    inside_PH = _interval(row_P, (side_P * rows).astype(np.int64), rows)
    inside_PW = _interval(column_P, (side_P * columns).astype(np.int64), columns)
    area_P = inside_PH.sum(axis=1) * inside_PW.sum(axis=1)
    box_PHW = torch.from_numpy(inside_PH[:, :, None] & inside_PW[:, None, :])
    outside_P1HW = ~box_PHW[:, None].to(own.clip_BTHWC.device)
    share_P = _on_device(1 - area_P / (rows * columns), own)
    return Blend(
        choose_pixels(outside_P1HW, own.clip_BTHWC, partner.clip_BTHWC),
        _join_masks(own, partner, lambda mask, other: torch.where(outside_P1HW, mask, other)),
        _both_have_masks(own, partner),
        action_share_P=share_P,
        scene_share_P=share_P,
        composed_P=share_P < 1,
    )


METHODS: dict[Composition, Method] = {
    "background_swap": background_swap,
    "actor_cutmix": actor_cutmix,
    "fame": fame,
    "background_erasing": background_erasing,
    "still_mix": still_mix,
    "mixup": mixup,
    "cutmix": cutmix,
}


def _mixed(own: ClipBatch, shown: ClipBatch, share_P: Tensor, *, action_share_P: Tensor) -> Blend:
    return Blend(
        _mix(own.clip_BTHWC, shown.clip_BTHWC, share_P),
        _join_masks(own, shown, torch.logical_or),
        _both_have_masks(own, shown),
        action_share_P=action_share_P,
        scene_share_P=share_P,
        composed_P=torch.ones_like(share_P, dtype=torch.bool),
    )


def _mix(own_PTHWC: Tensor, shown_PTHWC: Tensor, share_P: Tensor) -> Tensor:
    """``share_P`` of the one and the rest of the other, rounded to uint8."""
    mixed_PTHWC = torch.lerp(shown_PTHWC.float(), own_PTHWC.float(), share_P[:, None, None, None, None])
    return mixed_PTHWC.round_().to(torch.uint8)


def _still(batch: ClipBatch, frame_P: NDArray[np.int64]) -> ClipBatch:
    """One frame of each clip and of its mask: T is 1."""
    place_P = torch.arange(len(frame_P), device=batch.clip_BTHWC.device)
    index_P = torch.from_numpy(frame_P).to(batch.clip_BTHWC.device)
    mask_P1HW = None if batch.mask_BTHW is None else batch.mask_BTHW[place_P, index_P][:, None]
    return replace(batch, clip_BTHWC=batch.clip_BTHWC[place_P, index_P][:, None], mask_BTHW=mask_P1HW)


def _interval(centre_P: NDArray[np.int64], length_P: NDArray[np.int64], size: int) -> NDArray[np.bool_]:
    """Which of ``size`` places lie in so long an interval around the centre, bool (P, ``size``)."""
    start_P1 = (centre_P - length_P // 2)[:, None]
    place = np.arange(size)
    return (place >= start_P1) & (place < start_P1 + length_P[:, None])


def _mask_share(batch: ClipBatch) -> Tensor:
    """Share of the pixels of each clip in its mask, float32 (P,): exactly 0 or 1 where it is empty or full."""
    assert batch.mask_BTHW is not None, "a data set without masks is refused before training"
    return batch.mask_BTHW.flatten(start_dim=1).sum(dim=1) / batch.mask_BTHW[0].numel()


def _both_have_masks(own: ClipBatch, partner: ClipBatch) -> Tensor:
    return own.has_mask_B & partner.has_mask_B


def _join_masks(own: ClipBatch, shown: ClipBatch, join: Callable[[Tensor, Tensor], Tensor]) -> Tensor | None:
    if own.mask_BTHW is None or shown.mask_BTHW is None:
        return None
    return join(own.mask_BTHW, shown.mask_BTHW)


def _on_device(value_P: NDArray[np.float64], batch: ClipBatch) -> Tensor:
    return torch.from_numpy(value_P.astype(np.float32)).to(batch.clip_BTHWC.device, non_blocking=True)
