"""Clips of a training batch composed with each other, on the batch's device.

Shape suffixes: B clips of a batch, P those that one method composes, T frames, H height, W width, C channels, S scenes,
A actions.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dali_pipelines import ClipBatch
from scenebias.compose.config import WITHOUT_PARTNER, ComposeConfig
from scenebias.compose.draws import Draws
from scenebias.compose.methods import METHODS, Blend
from shards.order import partners


@dataclass(frozen=True, kw_only=True)
class ComposedBatch(ClipBatch):
    """A batch of which some clips are composed; ``label_B``, ``sample_B`` and the like are the clips' own.

    ``mask_BTHW`` covers all humans that are shown, those of partners as well; ``has_mask_B`` says that it does, and is
    false where the humans of one of the two are not known (the mask is then all false).

    ``scene_BS`` is the label of the background that is shown: the clip's own where it is not composed and with
    background_erasing; the partner's with background_swap, actor_cutmix and fame; the mean of both, with the weights of
    their pixels, with still_mix, mixup and cutmix. Of a clip that has no label this takes a row of zeros: so a row may
    sum to less than 1.
    """

    target_BA: Tensor
    """float32, probabilities of the actions: what is to be learned instead of ``label_B``."""
    composed_B: Tensor
    """bool, which clips are composed."""


def compose(batch: ClipBatch, config: ComposeConfig, *, action_count: int, seed: int, epoch: int) -> ComposedBatch:
    """Compose clips of ``batch`` as ``config`` says, with the partners that `shards.order.partners` gives.

    ``batch`` is the whole of what a rank takes in a step, from a loader with ``config.group_size``. What becomes of a
    clip depends on (seed, epoch, sample), on how often it came before, on itself and on its partner alone.
    A clip without a partner stays as it is, and so does one whose partner is the same clip, as may happen where a
    damaged one was replaced; what the methods ask of masks is told in `scenebias.compose.methods`. The tensors of
    ``batch`` are not changed; those of which nothing changes are shared.
    """
    sample_B = batch.sample_B.cpu().numpy()
    partner_B = partners(len(sample_B), config.group_size)
    showing_B = batch.showing_B.cpu().numpy()
    choice_B = Draws(seed, epoch, showing_B).choice(config.probabilities)
    composed = ComposedBatch(
        **vars(batch),
        target_BA=torch.eye(action_count, device=batch.label_B.device)[batch.label_B],
        composed_B=torch.zeros_like(batch.label_B, dtype=torch.bool),
    )
    changed: dict[str, Tensor] = {}
    for choice, name in enumerate(config.compose):
        chosen_B = choice_B == choice
        if name not in WITHOUT_PARTNER:
            chosen_B &= sample_B[partner_B] != sample_B
        place_P = np.flatnonzero(chosen_B)
        if not len(place_P):
            continue
        own, partner = _take(composed, place_P), _take(composed, partner_B[place_P])
        blend = METHODS[name](own, partner, config, Draws(seed, epoch, showing_B[place_P]))
        index_P = torch.from_numpy(place_P).to(batch.label_B.device)
        for field, value in _blended(own, partner, blend).items():
            before = getattr(own, field)
            is_composed = blend.composed_P.view(-1, *[1] * (before.ndim - 1))
            if field not in changed:
                changed[field] = getattr(composed, field).clone()
            changed[field][index_P] = torch.where(is_composed, value, before)
    return ComposedBatch(**vars(composed) | changed)


def _blended(own: ComposedBatch, partner: ComposedBatch, blend: Blend) -> dict[str, Tensor]:
    """The fields of the clips that change, had all of them been composed."""
    action_share_P1, scene_share_P1 = blend.action_share_P[:, None], blend.scene_share_P[:, None]
    fields = {
        "clip_BTHWC": blend.clip_PTHWC,
        "has_mask_B": blend.has_mask_P,
        "target_BA": action_share_P1 * own.target_BA + (1 - action_share_P1) * partner.target_BA,
        "composed_B": blend.composed_P,
    }
    if blend.mask_PTHW is not None:
        fields["mask_BTHW"] = blend.mask_PTHW & blend.has_mask_P[:, None, None, None]
    if own.scene_BS is not None and partner.scene_BS is not None:
        fields["scene_BS"] = scene_share_P1 * own.scene_BS + (1 - scene_share_P1) * partner.scene_BS
    return fields


def _take(batch: ComposedBatch, place_P: NDArray[np.int64]) -> ComposedBatch:
    """The clips in these places of the batch."""
    index_P = torch.from_numpy(place_P).to(batch.label_B.device)
    taken = {name: value[index_P] for name, value in vars(batch).items() if torch.is_tensor(value)}
    return ComposedBatch(**vars(batch) | taken)
