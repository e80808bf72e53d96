"""What a view shows, and that it changes nothing else.

Shape suffixes: B clips, T frames, H rows, W columns, C channels.
"""

import pytest
import torch

from dali_pipelines import ClipBatch
from scenebias.clips.background import fill_in_background
from scenebias.clips.masked_clip import boxes_around
from scenebias.clips.views import (
    COVERS,
    HIDDEN_FILLS,
    Cover,
    HiddenFill,
    as_it_is,
    hidden_views,
    hide_humans,
    humans_only,
)
from scenebias.models.action_model import MEAN_C


@pytest.fixture
def batch() -> ClipBatch:
    random = torch.Generator().manual_seed(0)
    clip_BTHWC = torch.randint(0, 256, (2, 4, 24, 24, 3), dtype=torch.uint8, generator=random)
    mask_BTHW = torch.zeros(2, 4, 24, 24, dtype=torch.bool)
    mask_BTHW[:, :, 4:18, 10] = True
    mask_BTHW[:, :, 9, 6:15] = True
    number_B = torch.tensor([7, 9])
    return ClipBatch(clip_BTHWC, mask_BTHW, number_B > 0, None, number_B, number_B, 0 * number_B)


@pytest.mark.parametrize("cover", list(COVERS))
@pytest.mark.parametrize("fill", [fill for fill in HIDDEN_FILLS if fill != "background"])
def test_a_hidden_human_leaves_the_rest_as_it_was(batch: ClipBatch, cover: Cover, fill: HiddenFill) -> None:
    assert batch.mask_BTHW is not None
    covered_BTHW = batch.mask_BTHW if cover == "pixels" else boxes_around(batch.mask_BTHW)
    before_BTHWC = batch.clip_BTHWC.clone()
    hidden_BTHWC = hide_humans(batch, cover, fill)
    assert torch.equal(hidden_BTHWC[~covered_BTHW], before_BTHWC[~covered_BTHW])
    assert (hidden_BTHWC[covered_BTHW] != before_BTHWC[covered_BTHW]).float().mean() > 0.9
    assert torch.equal(batch.clip_BTHWC, before_BTHWC)


def test_the_background_is_filled_in_behind_what_is_covered(batch: ClipBatch) -> None:
    assert batch.mask_BTHW is not None
    by_pixels_BTHWC = fill_in_background(batch.clip_BTHWC, batch.mask_BTHW)
    by_boxes_BTHWC = fill_in_background(batch.clip_BTHWC, boxes_around(batch.mask_BTHW))
    assert torch.equal(hide_humans(batch, "pixels", "background"), by_pixels_BTHWC)
    assert torch.equal(hide_humans(batch, "boxes", "background"), by_boxes_BTHWC)
    assert not torch.equal(by_pixels_BTHWC, by_boxes_BTHWC)


def test_humans_only_leaves_them_on_grey(batch: ClipBatch) -> None:
    shown_BTHWC = humans_only(batch)
    mask_BTHW = batch.mask_BTHW
    assert mask_BTHW is not None
    assert torch.equal(shown_BTHWC[mask_BTHW], batch.clip_BTHWC[mask_BTHW])
    assert (shown_BTHWC[~mask_BTHW] == torch.tensor([round(255 * mean) for mean in MEAN_C])).all()


def test_noise_depends_on_the_seed_and_on_the_clip(batch: ClipBatch) -> None:
    one, again, other = (hide_humans(batch, "boxes", "noise", seed) for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_every_hidden_view_is_what_its_name_says(batch: ClipBatch) -> None:
    views = hidden_views()
    assert len(views) == len(COVERS) * len(HIDDEN_FILLS) == 8
    assert torch.equal(views["hidden_boxes_white"](batch), hide_humans(batch, "boxes", "white"))
    assert torch.equal(views["hidden_pixels_background"](batch), hide_humans(batch, "pixels", "background"))
    assert as_it_is(batch) is batch.clip_BTHWC
