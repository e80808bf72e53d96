"""What must hold of batches of several data sets."""

import json
import shutil
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dali_pipelines import ClipBatch, ClipConfig, FaultConfig, MixtureLoader
from dali_pipelines.clip_decoder import ClipDecoder
from dali_pipelines.requests import Draw
from dali_pipelines.windows import draw_training_windows
from shards.dataset import ShardDataset
from shards.errors import UserError
from shards.joined_dataset import JoinedDataset
from tests.dali_pipelines.damage import break_marker, break_picture
from tools.trials.ready_samples import write_samples

CLIP = ClipConfig(frames=4, size=24)
COUNTS = (23, 20, 4)
"""Clips an epoch: once each of the first set, several times those of the second, some of the third."""


@pytest.fixture(scope="module")
def bare(make_sample, tmp_path_factory) -> ShardDataset:
    """6 taller clips of other classes, without masks and scene labels."""
    folder = tmp_path_factory.mktemp("bare")
    samples = [make_sample(50 + n, size=(80, 96), scene=False) for n in range(6)]
    write_samples(folder, samples, ("swim", "dance", "run"), dataset="bare")
    return ShardDataset.open(folder)


@pytest.fixture(scope="module")
def joined(waves, video_waves, bare) -> JoinedDataset:
    """Film strips, H.264 and taller film strips."""
    return JoinedDataset.of((waves, video_waves("h264"), bare))


def make_loader(joined: JoinedDataset, **options) -> MixtureLoader:
    return MixtureLoader(joined, COUNTS, **{"clip": CLIP, "global_batch_size": 8, "seed": 5} | options)


@pytest.fixture(scope="module")
def undisturbed(joined) -> list[ClipBatch]:
    """Two epochs."""
    return list(make_loader(joined, rank=0, world_size=1).epochs(0, 2))


def assert_equal(one: ClipBatch, *shares: ClipBatch) -> None:
    """``shares``, one after another, are ``one``, to the bit."""
    for name, value in vars(one).items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, torch.cat([getattr(share, name) for share in shares])), name


def test_an_epoch_has_so_many_clips_of_each_set_and_says_how_many_in_every_step(joined, undisturbed):
    loader = make_loader(joined)
    assert len(undisturbed) == 2 * loader.steps_per_epoch
    come = Counter()
    for number, batch in enumerate(undisturbed):
        step = number % loader.steps_per_epoch
        sets = Counter(joined.names[joined.place_of(sample)[0]] for sample in batch.sample_B.tolist())
        assert {name: sets[name] for name in joined.names} == loader.clips_by_set(step)
        assert sets.total() == loader.clips_in_step(step)
        come += sets
    assert [come[name] for name in joined.names] == [2 * count for count in COUNTS]
    assert loader.clips_per_epoch == sum(COUNTS)


def test_every_clip_is_what_the_decoder_of_its_own_set_makes_of_it(joined, undisturbed):
    decoders = [
        ClipDecoder(one, CLIP, batch_size=1, device=torch.device("cpu"), threads=1, prefetch=1)
        for one in joined.datasets
    ]
    for step, batch in enumerate(undisturbed[:3]):
        for place, showing in enumerate(batch.showing_B.tolist()):
            number, sample = joined.place_of(int(batch.sample_B[place]))
            one, sample_1 = joined.datasets[number], np.array([sample])
            assert (showing != batch.sample_B[place]) == (batch.repeat_B[place] > 0), step
            windows = draw_training_windows(
                CLIP,
                seed=5,
                epoch=0,
                sample_B=np.array([showing]),
                frame_count_B=one.frame_counts[sample_1],
                frame_size_B2=one.frame_sizes[sample_1],
            )
            (alone,) = decoders[number].batches([Draw(replace(windows, sample_B=sample_1))])
            assert torch.equal(batch.clip_BTHWC[place], alone.clip_BTHWC[0])
            assert joined.classes[batch.label_B[place]] == one.classes[alone.label_B[0]]
            assert batch.has_mask_B[place] == alone.has_mask_B[0]
            if one.has_masks:
                assert torch.equal(batch.mask_BTHW[place], alone.mask_BTHW[0])
                assert torch.equal(batch.scene_BS[place], alone.scene_BS[0])
            else:
                assert not batch.mask_BTHW[place].any()
                assert not batch.scene_BS[place].any()


def test_a_clip_that_comes_again_in_an_epoch_is_drawn_anew(joined, undisturbed):
    steps = make_loader(joined).steps_per_epoch
    for epoch in range(2):
        batches = undisturbed[epoch * steps : (epoch + 1) * steps]
        showings = torch.cat([batch.showing_B for batch in batches]).tolist()
        samples = torch.cat([batch.sample_B for batch in batches]).tolist()
        assert len(set(showings)) == len(showings) > len(set(samples))


@pytest.mark.parametrize("world_size", [1, 2])
def test_repeated_clips_come_in_the_same_step_each_cut_anew_whatever_the_world_size(joined, undisturbed, world_size):
    """And in the order of clips that come once."""
    loaders = [
        make_loader(joined, global_batch_size=24, repeats=3, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    once = make_loader(joined)
    for step, shares in enumerate(zip(*(loader.epochs(0, 1) for loader in loaders), strict=True)):
        samples = Counter(torch.cat([share.sample_B for share in shares]).tolist())
        assert samples == Counter(3 * undisturbed[step].sample_B.tolist())
        showings = torch.cat([share.showing_B for share in shares])
        assert len(set(showings.tolist())) == len(showings) == loaders[0].clips_in_step(step)
        assert loaders[0].clips_by_set(step) == {name: 3 * n for name, n in once.clips_by_set(step).items()}
        first = torch.cat([share.repeat_B for share in shares]) == 0
        clips = torch.cat([share.clip_BTHWC for share in shares])
        known = dict(zip(undisturbed[step].showing_B.tolist(), undisturbed[step].clip_BTHWC, strict=True))
        for showing, clip_THWC in zip(showings[first].tolist(), clips[first], strict=True):
            assert torch.equal(clip_THWC, known[showing])
    assert step + 1 == once.steps_per_epoch


@given(at=st.integers(0, 11), world_size=st.sampled_from([1, 2, 3]), keep=st.sampled_from([json.dumps, None]))
@settings(deadline=None, max_examples=8)
def test_a_run_goes_on_at_any_step_with_the_same_batches_at_any_world_size(joined, undisturbed, at, world_size, keep):
    loaders = [make_loader(joined, rank=rank, world_size=world_size) for rank in range(world_size)]
    epoch, step = divmod(at, loaders[0].steps_per_epoch)
    for loader in loaders:
        state = make_loader(joined).state_dict() | {"epoch": epoch, "step": step}
        loader.load_state_dict(json.loads(keep(state)) if keep else state)
    whole = undisturbed[at : (epoch + 1) * loaders[0].steps_per_epoch]
    for batch, *shares in zip(whole, *loaders, strict=True):
        assert_equal(batch, *shares)


def test_a_state_of_other_shares_is_refused(joined):
    state = make_loader(joined).state_dict()
    with pytest.raises(UserError, match=r"clips_per_epoch is \[23, 8, 6\] here and \[23, 20, 4\] in the state"):
        MixtureLoader(joined, (23, 8, 6), CLIP, global_batch_size=8, seed=5).load_state_dict(state)


def test_a_new_iteration_ends_the_one_before(joined):
    loader = make_loader(joined)
    earlier = loader.epoch(0)
    next(earlier)
    later = loader.epoch(1)
    next(later)
    assert list(earlier) == []
    assert len(list(later)) == loader.steps_per_epoch - 1


@pytest.mark.parametrize("spoil", [break_marker, break_picture])
def test_a_clip_of_the_same_set_takes_the_place_of_a_damaged_one(waves, bare, tmp_path, spoil):
    shutil.copytree(bare.directory, tmp_path / "spoilt")
    spoil(tmp_path / "spoilt", 2)
    joined = JoinedDataset.of((waves, ShardDataset.open(tmp_path / "spoilt")))
    faults = FaultConfig(on_fault="skip", max_skipped_share=0.5)
    loader = MixtureLoader(joined, (23, 6), CLIP, global_batch_size=8, faults=faults, quiet=True)
    samples = torch.cat([batch.sample_B for batch in loader.epoch(0)]).tolist()
    assert sorted(sample for sample in samples if sample < 23) == list(range(23))
    assert 25 not in samples
    assert len(samples) == 29
    assert loader.skipped_samples == {25}
