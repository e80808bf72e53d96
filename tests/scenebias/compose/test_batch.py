"""What must hold of a batch whose clips are composed, by whatever method.

Shape suffixes: B clips of a batch, A actions, S scenes.
"""

import shutil
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dali_pipelines import ClipBatch, ClipConfig, FaultConfig, TrainLoader
from scenebias.compose.batch import ComposedBatch, compose
from scenebias.compose.config import COMPOSITIONS, ComposeConfig
from scenebias.compose.draws import Draws
from shards.dataset import ShardDataset
from tests.dali_pipelines.damage import break_picture
from tests.scenebias.compose.batches import ACTIONS, random_batch

ALL = ComposeConfig(compose=COMPOSITIONS, compose_probability=(0.13,) * len(COMPOSITIONS))
CLIP = ClipConfig(frames=4, size=24)
SEED = 5


def composed_of(batch: ClipBatch, config: ComposeConfig = ALL, epoch: int = 0) -> ComposedBatch:
    return compose(batch, config, action_count=ACTIONS, seed=SEED, epoch=epoch)


def tensors_of(batch: ClipBatch) -> dict[str, torch.Tensor]:
    return {name: value for name, value in vars(batch).items() if torch.is_tensor(value)}


def assert_equal(one: ClipBatch, *shares: ClipBatch) -> None:
    """``shares``, one after another, are ``one``, to the bit."""
    for name, value in tensors_of(one).items():
        assert torch.equal(value, torch.cat([getattr(share, name) for share in shares])), name


def load(dataset: Path, epoch: int, start_step: int = 0, **options) -> list[ComposedBatch]:
    loader = TrainLoader(
        ShardDataset.open(dataset),
        CLIP,
        **{"global_batch_size": 6, "seed": SEED, "group_size": ALL.group_size, "rank": 0, "world_size": 1} | options,
    )
    return [composed_of(batch, epoch=epoch) for batch in loader.epoch(epoch, start_step)]


@pytest.fixture(scope="module")
def undisturbed(tiny_dataset: Path, tiny_test_dataset: Path):
    """The composed batches of an epoch, made once by one process: steps of 6 or 4 clips, or of 7 with a group of 3."""
    datasets = {6: tiny_dataset, 5: tiny_dataset, 7: tiny_test_dataset}

    @cache
    def batches(global_batch_size: int, epoch: int):
        return datasets[global_batch_size], load(
            datasets[global_batch_size], epoch, global_batch_size=global_batch_size
        )

    return batches


@settings(max_examples=15)
@given(
    epoch=st.integers(0, 1),
    start=st.integers(0, 3),
    run=st.sampled_from([(6, 1), (6, 2), (6, 3), (5, 2), (7, 2), (7, 3)]),
)
def test_the_same_clips_at_any_world_size_and_after_a_resume_from_any_step(undisturbed, epoch, start, run) -> None:
    global_batch_size, world_size = run
    dataset, wanted = undisturbed(global_batch_size, epoch)
    start = min(start, len(wanted))
    ranks = [
        load(dataset, epoch, start, global_batch_size=global_batch_size, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    for whole, *shares in zip(wanted[start:], *ranks, strict=True):
        assert_equal(whole, *shares)


def test_of_a_real_loader_s_clips_most_are_composed(undisturbed) -> None:
    """So that the test above tells something."""
    composed_B = torch.cat([batch.composed_B for epoch in range(3) for batch in undisturbed(6, epoch)[1]])
    assert 0.6 < composed_B.double().mean() < 1


def test_a_clip_in_the_place_of_a_damaged_one_has_a_partner_at_any_world_size(tiny_dataset, tmp_path) -> None:
    copy = Path(shutil.copytree(tiny_dataset, tmp_path / "copy"))
    for sample in (2, 8):
        break_picture(copy, sample)
    options = {"faults": FaultConfig(on_fault="skip", max_skipped_share=0.5)}
    ranks = [load(copy, 1, rank=rank, world_size=2, **options) for rank in range(2)]
    for whole, *shares in zip(load(copy, 1, **options), *ranks, strict=True):
        assert_equal(whole, *shares)


@pytest.mark.parametrize("name", COMPOSITIONS)
def test_a_clip_is_no_partner_of_itself(name: str) -> None:
    """Nor is another place with the same clip, as of one that replaces a damaged one."""
    config = ComposeConfig(compose=(name,), compose_probability=(1.0,))
    lone = random_batch(0, clips=1, plain_masks=True)
    twice = random_batch(0, clips=2, plain_masks=True)
    twice.sample_B[1] = twice.sample_B[0]
    for batch in (lone, twice):
        composed = composed_of(batch, config)
        assert composed.composed_B.all() == (name == "background_erasing")
        assert composed.composed_B.any() == (name == "background_erasing")
        if name != "background_erasing":
            assert_equal(batch, composed)


@settings(max_examples=30)
@given(seed=st.integers(0, 2**31), clips=st.integers(1, 9), epoch=st.integers(0, 9), plain_masks=st.booleans())
def test_labels_are_distributions_masks_are_told_and_other_clips_as_they_were(
    seed: int, clips: int, epoch: int, plain_masks: bool
) -> None:
    batch = random_batch(seed, clips, plain_masks=plain_masks)
    before = {name: value.clone() for name, value in tensors_of(batch).items()}
    composed = composed_of(batch, epoch=epoch)
    for name, value in tensors_of(batch).items():
        assert torch.equal(value, before[name]), f"{name} was changed"
    for name in ("label_B", "sample_B", "window_B"):
        assert torch.equal(getattr(composed, name), before[name])
    for distribution_BX in (composed.target_BA, composed.scene_BS):
        torch.testing.assert_close(distribution_BX.sum(dim=1), torch.ones(clips))
        assert (distribution_BX >= 0).all()
    assert composed.clip_BTHWC.dtype == torch.uint8
    assert composed.clip_BTHWC.is_contiguous()
    assert composed.target_BA.dtype == torch.float32
    assert composed.mask_BTHW.dtype == torch.bool
    assert not composed.mask_BTHW[~composed.has_mask_B].any()
    left_B = ~composed.composed_B
    assert torch.equal(composed.target_BA[left_B].argmax(dim=1), batch.label_B[left_B])
    for name in ("clip_BTHWC", "mask_BTHW", "has_mask_B", "scene_BS"):
        assert torch.equal(getattr(composed, name)[left_B], before[name][left_B])


@settings(max_examples=20)
@given(seed=st.integers(0, 2**31), epoch=st.integers(0, 9))
def test_a_clip_is_composed_by_one_method_alone_and_that_whatever_else_is_in_the_batch(seed: int, epoch: int) -> None:
    batch = random_batch(seed, 8, plain_masks=True)
    whole = composed_of(batch, epoch=epoch)
    choice_B = Draws(SEED, epoch, batch.sample_B.numpy()).choice(ALL.probabilities)
    for start in range(0, 8, 2):
        pair = ClipBatch(**{name: value[start : start + 2] for name, value in tensors_of(batch).items()})
        composed = composed_of(pair, epoch=epoch)
        assert_equal(
            ClipBatch(**{name: getattr(whole, name)[start : start + 2] for name in tensors_of(batch)}),
            ClipBatch(**{name: getattr(composed, name) for name in tensors_of(batch)}),
        )
    for choice, name in enumerate(COMPOSITIONS):
        config = ComposeConfig(compose=(name,), compose_probability=(1.0,))
        alone = composed_of(batch, config, epoch)
        chosen_B = torch.from_numpy(choice_B == choice)
        assert torch.equal(alone.clip_BTHWC[chosen_B], whole.clip_BTHWC[chosen_B])
        assert torch.equal(alone.target_BA[chosen_B], whole.target_BA[chosen_B])
    assert not whole.composed_B[torch.from_numpy(choice_B == -1)].any()


@pytest.mark.parametrize(("compose_probability", "wanted"), [((), 0.5), ((0.1, 0.2), 0.3), ((0.4, 0.6), 1.0)])
def test_as_many_clips_are_composed_as_asked(compose_probability: tuple[float, ...], wanted: float) -> None:
    config = ComposeConfig(compose=("mixup", "still_mix"), compose_probability=compose_probability)
    batch = replace(random_batch(0, 2000, shape=(1, 2, 2)), sample_B=torch.arange(2000))
    shares = [composed_of(batch, config, epoch).composed_B.double().mean() for epoch in range(3)]
    assert np.mean(shares) == pytest.approx(wanted, abs=5 * np.sqrt(0.25 / 6000) if wanted < 1 else 0)


def test_where_nothing_is_to_be_composed_the_batch_gets_its_targets() -> None:
    batch = random_batch(0)
    composed = composed_of(batch, ComposeConfig())
    assert_equal(batch, composed)
    assert torch.equal(composed.target_BA, torch.eye(ACTIONS)[batch.label_B])
    assert not composed.composed_B.any()
    assert composed.clip_BTHWC.data_ptr() == batch.clip_BTHWC.data_ptr()


def test_a_clip_without_a_scene_label_lends_none() -> None:
    batch = random_batch(0, 2, plain_masks=True)
    batch.scene_BS[1] = 0
    for name, share in (("background_swap", 0.0), ("actor_cutmix", 0.0), ("fame", 0.0), ("background_erasing", 1.0)):
        config = ComposeConfig(compose=(name,), compose_probability=(1.0,))
        assert composed_of(batch, config).scene_BS[0].sum() == pytest.approx(share)
    config = ComposeConfig(compose=("mixup",), compose_probability=(1.0,))
    composed = composed_of(batch, config)
    own_share = composed.target_BA[0, batch.label_B[0]]
    assert batch.label_B[0] != batch.label_B[1]
    assert composed.scene_BS[0].sum() == pytest.approx(float(own_share))


@pytest.mark.gpu
@pytest.mark.parametrize("name", COMPOSITIONS)
def test_a_gpu_composes_as_a_cpu_does(name: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA GPU")
    config = ComposeConfig(compose=(name,), compose_probability=(1.0,))
    batch = random_batch(0, 6, shape=(4, 32, 32))
    on_gpu = ClipBatch(**{field: value.cuda() for field, value in tensors_of(batch).items()})
    wanted, found = composed_of(batch, config), composed_of(on_gpu, config)
    for field, value in tensors_of(wanted).items():
        difference = (value.double() - getattr(found, field).cpu().double()).abs()
        assert getattr(found, field).device.type == "cuda"
        # Rounding may go the other way at a half, and the foreground may end a pixel earlier.
        assert (difference > (1 if field == "clip_BTHWC" else 1e-6)).double().mean() < 0.01, field


def test_a_clip_that_comes_again_in_an_epoch_is_composed_by_draws_of_its_own() -> None:
    batch = random_batch(3, clips=40, plain_masks=True)
    again = replace(batch, repeat_B=torch.full_like(batch.sample_B, 3))
    numbered = replace(batch, sample_B=again.showing_B)
    assert torch.equal(composed_of(again).composed_B, composed_of(numbered).composed_B)
    assert not torch.equal(composed_of(again).composed_B, composed_of(batch).composed_B)
    assert torch.equal(composed_of(again).sample_B, batch.sample_B)
