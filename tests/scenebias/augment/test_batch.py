"""What must hold of augmented batches."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from dali_pipelines import ClipBatch, ClipConfig, TrainLoader
from scenebias.augment.batch import augment, mean_colour
from scenebias.augment.config import NOT_AUGMENTED, AugmentConfig
from scenebias.augment.draws import BRIGHTNESS_STREAM, HUE_STREAM, OPERATION_STREAM, Draws
from scenebias.compose.batch import ComposedBatch, compose
from scenebias.compose.config import COMPOSITIONS, ComposeConfig
from shards.dataset import ShardDataset
from tests.scenebias.compose.batches import ACTIONS, random_batch

SEED = 11
CLIP = ClipConfig(frames=4, size=24, crop_area=(0.2, 1.0), stride_range=(1, 3))
EACH = {
    "rand_augment": AugmentConfig(rand_augment=2, rand_augment_magnitude=15),
    "jitter": AugmentConfig(jitter_brightness=0.4, jitter_contrast=0.4, jitter_saturation=0.4, jitter_hue=0.1),
    "grey": AugmentConfig(grey_probability=0.6),
    "erasing": AugmentConfig(erasing_probability=0.7),
}
ALL = AugmentConfig(
    rand_augment=2,
    jitter_brightness=0.4,
    jitter_contrast=0.4,
    jitter_saturation=0.4,
    jitter_hue=0.1,
    jitter_probability=0.8,
    grey_probability=0.2,
    erasing_probability=0.4,
)
COMPOSE = ComposeConfig(compose=COMPOSITIONS, compose_probability=(0.12,) * 7)


def augmented(batch: ClipBatch, config: AugmentConfig = ALL, epoch: int = 0) -> ClipBatch:
    return augment(batch, config, seed=SEED, epoch=epoch)


def tensors_of(batch: ClipBatch) -> dict[str, torch.Tensor]:
    return {name: value for name, value in vars(batch).items() if torch.is_tensor(value)}


def assert_equal(one: ClipBatch, *shares: ClipBatch) -> None:
    """``shares``, one after another, are ``one``, to the bit."""
    for name, value in tensors_of(one).items():
        assert torch.equal(value, torch.cat([getattr(share, name) for share in shares])), name


def changed_of(before: ClipBatch, after: ClipBatch) -> torch.Tensor:
    """Which clips are not as they were, bool (B,)."""
    return (before.clip_BTHWC != after.clip_BTHWC).flatten(1).any(dim=1)


def load(dataset: Path, epoch: int, start_step: int = 0, **options) -> list[ComposedBatch]:
    """The batches of an epoch as training takes them: augmented, then composed."""
    loader = TrainLoader(
        ShardDataset.open(dataset),
        CLIP,
        **{"global_batch_size": 6, "seed": SEED, "group_size": 2, "rank": 0, "world_size": 1} | options,
    )
    return [
        compose(augmented(batch, epoch=epoch), COMPOSE, action_count=ACTIONS, seed=SEED, epoch=epoch)
        for batch in loader.epoch(epoch, start_step)
    ]


@pytest.fixture(scope="module")
def undisturbed(tiny_dataset: Path):
    """The batches of an epoch, made once by one process."""
    return cache(lambda epoch, repeats: load(tiny_dataset, epoch, global_batch_size=6 * repeats, repeats=repeats))


@settings(max_examples=16, deadline=None)
@given(
    epoch=st.integers(0, 1), start=st.integers(0, 4), world_size=st.integers(1, 3), repeats=st.sampled_from([1, 1, 2])
)
def test_the_same_clips_at_any_world_size_and_after_a_resume_from_any_step(
    tiny_dataset, undisturbed, epoch, start, world_size, repeats
) -> None:
    wanted = undisturbed(epoch, repeats)
    start = min(start, len(wanted))
    batch_size = 6 * repeats
    ranks = [
        load(
            tiny_dataset, epoch, start, global_batch_size=batch_size, repeats=repeats, rank=rank, world_size=world_size
        )
        for rank in range(world_size)
    ]
    for whole, *shares in zip(wanted[start:], *ranks, strict=True):
        assert_equal(whole, *shares)


def test_of_a_real_loader_s_clips_most_are_augmented(tiny_dataset) -> None:
    """So that the test above tells something."""
    loader = TrainLoader(ShardDataset.open(tiny_dataset), CLIP, global_batch_size=6, seed=SEED)
    changed_B = torch.cat([changed_of(batch, augmented(batch)) for batch in loader.epoch(0)])
    assert changed_B.double().mean() > 0.7


def test_a_clip_that_comes_twice_is_augmented_and_composed_anew() -> None:
    batch = random_batch(0, 1, plain_masks=True)
    twice = ClipBatch(**{name: value.repeat_interleave(40, 0) for name, value in tensors_of(batch).items()})
    told = replace(twice, repeat_B=torch.arange(40))
    assert len(augmented(twice).clip_BTHWC.unique(dim=0)) == 1
    assert len(augmented(told).clip_BTHWC.unique(dim=0)) > 20
    assert torch.equal(augmented(told).clip_BTHWC[0], augmented(batch).clip_BTHWC[0])
    erasing = ComposeConfig(compose=("background_erasing",), compose_probability=(0.5,))
    composed_B = compose(told, erasing, action_count=ACTIONS, seed=SEED, epoch=0).composed_B
    assert 10 < composed_B.sum() < 30


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), clips=st.integers(1, 7), epoch=st.integers(0, 9))
def test_a_clip_is_changed_by_itself_whatever_else_is_in_the_batch(seed: int, clips: int, epoch: int) -> None:
    batch = random_batch(seed, clips)
    before = {name: value.clone() for name, value in tensors_of(batch).items()}
    whole = augmented(batch, epoch=epoch)
    for name, value in tensors_of(batch).items():
        assert torch.equal(value, before[name]), f"{name} was changed"
    assert whole.clip_BTHWC.dtype == torch.uint8
    assert whole.clip_BTHWC.is_contiguous()
    assert whole.mask_BTHW.dtype == torch.bool
    for name in set(tensors_of(batch)) - {"clip_BTHWC", "mask_BTHW"}:
        assert getattr(whole, name) is getattr(batch, name)
    alone = [
        augmented(
            ClipBatch(**{name: value[place : place + 1] for name, value in tensors_of(batch).items()}), epoch=epoch
        )
        for place in range(clips)
    ]
    assert_equal(whole, *alone)


@pytest.mark.parametrize("config", [ALL, *EACH.values()], ids=["all", *EACH])
def test_frames_that_are_the_same_stay_the_same(config: AugmentConfig) -> None:
    batch = random_batch(0, 12, plain_masks=True)
    still = replace(
        batch,
        clip_BTHWC=batch.clip_BTHWC[:, :1].repeat(1, 5, 1, 1, 1),
        mask_BTHW=batch.mask_BTHW[:, :1].repeat(1, 5, 1, 1),
    )
    after = augmented(still, config)
    assert changed_of(still, after).any()
    assert (after.clip_BTHWC == after.clip_BTHWC[:, :1]).all()
    assert (after.mask_BTHW == after.mask_BTHW[:, :1]).all()


def with_drawn_masks(clips: int) -> ClipBatch:
    """White where the mask is, black elsewhere."""
    batch = random_batch(0, clips, shape=(2, 40, 36), plain_masks=True)
    row_H1, column_W = torch.arange(40)[:, None], torch.arange(36)
    centre_B11 = 10 + torch.arange(clips)[:, None, None]
    mask_BHW = (row_H1 - centre_B11) ** 2 + (column_W - 17) ** 2 < 60
    mask_BTHW = mask_BHW[:, None].repeat(1, 2, 1, 1)
    return replace(
        batch,
        clip_BTHWC=mask_BTHW[..., None].repeat(1, 1, 1, 1, 3) * torch.tensor(255, dtype=torch.uint8),
        mask_BTHW=mask_BTHW,
    )


def test_what_is_erased_is_in_no_mask() -> None:
    batch = with_drawn_masks(16)
    after = augmented(batch, EACH["erasing"])
    hidden_BTHW = (after.clip_BTHWC == mean_colour(batch.clip_BTHWC)).all(dim=-1)
    assert torch.equal(after.mask_BTHW, batch.mask_BTHW & ~hidden_BTHW)
    assert (batch.mask_BTHW & hidden_BTHW).any()
    assert torch.equal(after.clip_BTHWC[~hidden_BTHW], batch.clip_BTHWC[~hidden_BTHW])


def test_rand_augment_takes_the_mask_along_and_other_operations_in_every_turn() -> None:
    """White on black stays so in what is told apart: where the levels are those of a human, the mask is."""
    batch = with_drawn_masks(30)
    after = augmented(batch, EACH["rand_augment"])
    assert (after.mask_BTHW != batch.mask_BTHW).flatten(1).any(dim=1).double().mean() > 0.3
    for before, moved in zip(batch.mask_BTHW, after.mask_BTHW, strict=True):
        assert (moved[0] == moved[1]).all()
        assert 0 < moved.sum() <= 1.2 * before.sum()
    draws = Draws(SEED, 0, np.arange(20_000))
    one_P, other_P = (draws.one_of(14, OPERATION_STREAM, turn) for turn in range(2))
    assert stats.chisquare(np.bincount(one_P, minlength=14)).pvalue > 1e-4
    assert abs(np.corrcoef(one_P, other_P)[0, 1]) < 0.04


@pytest.mark.parametrize("name", ["jitter", "grey"])
def test_what_changes_colours_leaves_the_mask(name: str) -> None:
    batch = random_batch(3, 12)
    after = augmented(batch, EACH[name])
    assert changed_of(batch, after).any()
    assert torch.equal(after.mask_BTHW, batch.mask_BTHW)


def test_where_nothing_is_to_be_changed_the_batch_is_the_same_one() -> None:
    batch = random_batch(0)
    assert augmented(batch, NOT_AUGMENTED) is batch


def test_batches_without_masks_are_augmented_to_the_same_clips() -> None:
    batch = random_batch(0, 8)
    without = replace(batch, mask_BTHW=None)
    assert torch.equal(augmented(without).clip_BTHWC, augmented(batch).clip_BTHWC)
    assert augmented(without).mask_BTHW is None


@pytest.mark.parametrize("name", ["jitter", "grey", "erasing"])
@pytest.mark.parametrize("probability", [0.25, 1.0])
def test_as_many_clips_are_changed_as_asked(name: str, probability: float) -> None:
    config = replace(EACH[name], **{f"{name}_probability": probability})
    batch = replace(random_batch(0, 1500, shape=(1, 8, 8), plain_masks=True), sample_B=torch.arange(1500))
    share = changed_of(batch, augmented(batch, config)).double().mean()
    assert share == pytest.approx(probability, abs=5 * np.sqrt(0.25 / 1500) if probability < 1 else 0.01)


def test_a_clip_that_is_grey_has_one_level_in_every_pixel() -> None:
    after = augmented(random_batch(0), AugmentConfig(grey_probability=1.0)).clip_BTHWC
    assert (after == after[..., :1]).all()


def test_epochs_and_seeds_draw_anew_and_evenly_and_no_draw_tells_of_another() -> None:
    sample_P = np.arange(20_000)
    factor_P = Draws(0, 0, sample_P).factor(0.4, BRIGHTNESS_STREAM)
    assert stats.kstest(factor_P, stats.uniform(0.6, 0.8).cdf).pvalue > 1e-4
    assert Draws(0, 0, sample_P).factor(1.5, BRIGHTNESS_STREAM).min() >= 0
    for others_P in (
        Draws(1, 0, sample_P).factor(0.4, BRIGHTNESS_STREAM),
        Draws(0, 1, sample_P).factor(0.4, BRIGHTNESS_STREAM),
        Draws(0, 0, sample_P).between(-0.1, 0.1, HUE_STREAM),
    ):
        assert abs(np.corrcoef(factor_P, others_P)[0, 1]) < 0.04


@pytest.mark.gpu
def test_a_gpu_augments_as_a_cpu_does() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA GPU")
    batch = random_batch(0, 12, shape=(4, 32, 32))
    on_gpu = ClipBatch(**{field: value.cuda() for field, value in tensors_of(batch).items()})
    wanted, found = augmented(batch), augmented(on_gpu)
    assert found.clip_BTHWC.device.type == "cuda"
    difference = (wanted.clip_BTHWC.double() - found.clip_BTHWC.cpu().double()).abs()
    assert (difference > 1).double().mean() < 0.01
    assert (wanted.mask_BTHW != found.mask_BTHW.cpu()).double().mean() < 0.01
