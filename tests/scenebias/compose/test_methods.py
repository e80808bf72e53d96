"""Every way to compose, against loops over clips in float64.

Shape suffixes: B clips of a batch, T frames, H height, W width, C channels, S scenes, A actions.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from dali_pipelines import ClipBatch
from scenebias.clips.background import fill_in_background
from scenebias.compose.batch import compose
from scenebias.compose.config import COMPOSITIONS, ComposeConfig
from scenebias.compose.draws import BOX_COLUMN_STREAM, BOX_ROW_STREAM, FRAME_STREAM, WEIGHT_STREAM
from scenebias.compose.foreground import moving_foreground
from scenebias.models.action_model import MEAN_C
from shards.randomness import randint, uniform
from tests.scenebias.compose.batches import ACTIONS, random_batch

CONFIG = ComposeConfig(mixup_alpha=0.7, cutmix_alpha=0.8, still_mix_concentration=3.0, fame_share=0.4, erasing_max=0.6)
SEED, EPOCH = 11, 4


@dataclass
class Wanted:
    """A composed clip: its pixels before they are rounded, its mask, weights of its own action and scene."""

    clip_THWC: np.ndarray
    mask_THW: np.ndarray
    has_mask: bool
    action_share: float
    scene_share: float


def draw(sample: int, stream: int) -> float:
    return float(uniform(SEED, EPOCH, sample, stream))


def swapped(own: SimpleNamespace, partner: SimpleNamespace) -> Wanted | None:
    if not own.has_mask or not partner.has_mask or not own.mask.any() or own.mask.all() or partner.mask.all():
        return None
    filled_BTHWC = fill_in_background(torch.from_numpy(partner.clip)[None], torch.from_numpy(partner.mask)[None])
    clip_THWC = filled_BTHWC[0].numpy()
    clip_THWC[own.mask] = own.clip[own.mask]
    return Wanted(clip_THWC, own.mask, True, 1, 0)


def acted(own: SimpleNamespace, partner: SimpleNamespace) -> Wanted | None:
    if not own.has_mask or not partner.has_mask or not own.mask.any() or own.mask.all():
        return None
    clip_THWC = partner.clip.copy()
    clip_THWC[partner.mask] = np.round(255 * np.array(MEAN_C))
    clip_THWC[own.mask] = own.clip[own.mask]
    return Wanted(clip_THWC, own.mask | partner.mask, True, 1 - (1 - own.mask.mean()) ** 4, 0)


def famed(own: SimpleNamespace, partner: SimpleNamespace) -> Wanted | None:
    if len(own.clip) < 2:
        return None
    inside_HW = moving_foreground(torch.from_numpy(own.clip)[None], CONFIG.fame_share)[0].numpy()
    clip_THWC, mask_THW = partner.clip.copy(), partner.mask.copy()
    clip_THWC[:, inside_HW] = own.clip[:, inside_HW]
    mask_THW[:, inside_HW] = own.mask[:, inside_HW]
    return Wanted(clip_THWC, mask_THW, own.has_mask and partner.has_mask, 1, 0)


def erased(own: SimpleNamespace, partner: SimpleNamespace) -> Wanted:
    frame = int(randint(len(own.clip), SEED, EPOCH, own.sample, FRAME_STREAM))
    weight = CONFIG.erasing_max * draw(own.sample, WEIGHT_STREAM)
    clip_THWC = (1 - weight) * own.clip + weight * own.clip[frame]
    return Wanted(clip_THWC, own.mask | own.mask[frame], own.has_mask, 1, 1)


def mixed_with(shown: str, alpha: float, keeps_label: bool) -> Callable[..., Wanted]:
    def mixed(own: SimpleNamespace, partner: SimpleNamespace) -> Wanted:
        frame = int(randint(len(own.clip), SEED, EPOCH, own.sample, FRAME_STREAM))
        frames = slice(None) if shown == "clip" else slice(frame, frame + 1)
        weight = float(stats.beta(alpha, alpha).ppf(draw(own.sample, WEIGHT_STREAM)))
        return Wanted(
            weight * own.clip + (1 - weight) * partner.clip[frames],
            own.mask | partner.mask[frames],
            own.has_mask and partner.has_mask,
            1 if keeps_label else weight,
            weight,
        )

    return mixed


def cut(own: SimpleNamespace, partner: SimpleNamespace) -> Wanted | None:
    rows, columns = own.clip.shape[1:3]
    weight = float(stats.beta(CONFIG.cutmix_alpha, CONFIG.cutmix_alpha).ppf(draw(own.sample, WEIGHT_STREAM)))
    height, width = int(rows * np.sqrt(1 - weight)), int(columns * np.sqrt(1 - weight))
    top = int(rows * draw(own.sample, BOX_ROW_STREAM)) - height // 2
    left = int(columns * draw(own.sample, BOX_COLUMN_STREAM)) - width // 2
    clip_THWC, mask_THW, pasted = own.clip.copy(), own.mask.copy(), 0
    for row in range(max(0, top), min(rows, top + height)):
        for column in range(max(0, left), min(columns, left + width)):
            clip_THWC[:, row, column] = partner.clip[:, row, column]
            mask_THW[:, row, column] = partner.mask[:, row, column]
            pasted += 1
    if not pasted:
        return None
    share = 1 - pasted / (rows * columns)
    return Wanted(clip_THWC, mask_THW, own.has_mask and partner.has_mask, share, share)


REFERENCES: dict[str, Callable[..., Wanted | None]] = {
    "background_swap": swapped,
    "actor_cutmix": acted,
    "fame": famed,
    "background_erasing": erased,
    "still_mix": mixed_with("frame", CONFIG.still_mix_concentration, keeps_label=True),
    "mixup": mixed_with("clip", CONFIG.mixup_alpha, keeps_label=False),
    "cutmix": cut,
}


def clip_of(batch: ClipBatch, place: int) -> SimpleNamespace:
    clip = batch.clip_BTHWC[place].numpy()
    return SimpleNamespace(
        clip=clip,
        mask=np.zeros(clip.shape[:3], dtype=bool) if batch.mask_BTHW is None else batch.mask_BTHW[place].numpy(),
        has_mask=bool(batch.has_mask_B[place]),
        sample=int(batch.sample_B[place]),
    )


def assert_is_composed_as_wanted(batch: ClipBatch, config: ComposeConfig, reference: Callable) -> int:
    """All of the six clips, in pairs; returns how many are composed."""
    composed = compose(batch, config, action_count=ACTIONS, seed=SEED, epoch=EPOCH)
    one_hot_BA = np.eye(ACTIONS)[batch.label_B]
    for place in range(len(batch.label_B)):
        partner = place ^ 1
        own = clip_of(batch, place)
        wanted = reference(own, clip_of(batch, partner))
        assert bool(composed.composed_B[place]) == (wanted is not None)
        if wanted is None:
            wanted = Wanted(own.clip, own.mask, own.has_mask, 1, 1)
        assert np.abs(composed.clip_BTHWC[place].numpy() - wanted.clip_THWC.astype(float)).max() <= 0.5001
        assert bool(composed.has_mask_B[place]) == wanted.has_mask
        if batch.mask_BTHW is not None:
            np.testing.assert_array_equal(composed.mask_BTHW[place], wanted.mask_THW & wanted.has_mask)
        for share, found_BX, label_BX in (
            (wanted.action_share, composed.target_BA, one_hot_BA),
            (wanted.scene_share, composed.scene_BS, batch.scene_BS),
        ):
            if label_BX is not None:
                expected = share * np.asarray(label_BX[place]) + (1 - share) * np.asarray(label_BX[partner])
                np.testing.assert_allclose(found_BX[place], expected, rtol=0, atol=3e-7)
    return int(composed.composed_B.sum())


@pytest.mark.parametrize("name", COMPOSITIONS)
@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**31),
    shape=st.tuples(st.integers(1, 4), st.integers(2, 13), st.integers(2, 13)),
    scenes=st.booleans(),
)
def test_clips_masks_and_labels_are_those_of_loops(name: str, seed: int, shape: tuple, scenes: bool) -> None:
    batch = random_batch(seed, shape=shape, scenes=scenes)
    config = replace(CONFIG, compose=(name,), compose_probability=(1.0,))
    assert_is_composed_as_wanted(batch, config, REFERENCES[name])


@pytest.mark.parametrize("name", COMPOSITIONS)
def test_clips_with_ordinary_masks_are_composed(name: str) -> None:
    config = replace(CONFIG, compose=(name,), compose_probability=(1.0,))
    batch = random_batch(0, plain_masks=True)
    assert assert_is_composed_as_wanted(batch, config, REFERENCES[name]) == 6
    composed = compose(batch, config, action_count=ACTIONS, seed=SEED, epoch=EPOCH)
    assert (composed.clip_BTHWC != batch.clip_BTHWC).flatten(1).any(dim=1).all()
    assert composed.has_mask_B.all()


@pytest.mark.parametrize("name", [name for name in COMPOSITIONS if not ComposeConfig(compose=(name,)).needs_masks])
def test_data_without_masks_will_do_where_no_masks_are_needed(name: str) -> None:
    config = replace(CONFIG, compose=(name,), compose_probability=(1.0,))
    batch = random_batch(1, masks=False)
    assert assert_is_composed_as_wanted(batch, config, REFERENCES[name]) >= 5
    assert compose(batch, config, action_count=ACTIONS, seed=SEED, epoch=EPOCH).mask_BTHW is None


@pytest.mark.parametrize("name", ["background_swap", "actor_cutmix"])
def test_where_either_clip_has_no_mask_both_stay_as_they_are(name: str) -> None:
    batch = random_batch(2, plain_masks=True)
    batch.has_mask_B[1] = False
    batch.mask_BTHW[1] = False
    config = replace(CONFIG, compose=(name,), compose_probability=(1.0,))
    composed = compose(batch, config, action_count=ACTIONS, seed=SEED, epoch=EPOCH)
    assert composed.composed_B.tolist() == [False, False, True, True, True, True]
    assert torch.equal(composed.clip_BTHWC[:2], batch.clip_BTHWC[:2])


@pytest.mark.parametrize("name", ["background_swap", "actor_cutmix"])
@pytest.mark.parametrize("value", [False, True])
def test_a_human_nowhere_or_everywhere_is_not_put_elsewhere(name: str, value: bool) -> None:
    batch = random_batch(3, plain_masks=True)
    batch.mask_BTHW[2] = value
    config = replace(CONFIG, compose=(name,), compose_probability=(1.0,))
    composed = compose(batch, config, action_count=ACTIONS, seed=SEED, epoch=EPOCH)
    assert not composed.composed_B[2]
    assert torch.equal(composed.clip_BTHWC[2], batch.clip_BTHWC[2])
    # Its partner finds no background where the human is everywhere; ActorCutMix leaves a hole there all the same.
    assert composed.composed_B[3] == (name == "actor_cutmix" or not value)
