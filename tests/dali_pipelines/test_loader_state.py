"""What must hold of a `TrainLoader` as an iterable whose state can be kept: the contract of StatefulDataLoader."""

import io
import json
import shutil
from functools import cache
from itertools import islice

import numpy as np
import pytest
import torch
import torch.distributed
from hypothesis import given, settings
from hypothesis import strategies as st

from dali_pipelines import ClipBatch, ClipConfig, EvalLoader, TrainLoader
from shards.dataset import ShardDataset
from shards.errors import UserError

CLIP = ClipConfig(frames=4, size=24)
STEPS = 4
"""Of an epoch of the 23 clips."""
LATER_OPTIONS = ("repeats", "clip.stride_range", "clip.crop_area", "clip.crop_aspect")


def make_loader(dataset: ShardDataset, **options) -> TrainLoader:
    return TrainLoader(dataset, **{"clip": CLIP, "global_batch_size": 6, "seed": 5} | options)


@pytest.fixture(scope="module")
def undisturbed(waves):
    """The batches of an epoch, made once."""
    loader = make_loader(waves, rank=0, world_size=1)
    return cache(lambda epoch: list(loader.epoch(epoch)))


def assert_equal(one: ClipBatch, *shares: ClipBatch) -> None:
    """``shares``, one after another, are ``one``, to the bit."""
    for name, value in vars(one).items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, torch.cat([getattr(share, name) for share in shares])), name


def assert_all_equal(ones: list[ClipBatch], others: list[ClipBatch]) -> None:
    assert len(ones) == len(others)
    for one, other in zip(ones, others, strict=True):
        assert_equal(one, other)


def as_json(state: dict) -> dict:
    return json.loads(json.dumps(state))


def as_checkpoint(state: dict) -> dict:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@given(
    epoch=st.integers(0, 3),
    taken=st.integers(0, STEPS),
    prefetch=st.integers(1, 5),
    world_size=st.integers(1, 5),
    keep=st.sampled_from([as_json, as_checkpoint]),
)
@settings(deadline=None, max_examples=25)
def test_a_new_loader_goes_on_with_the_very_next_batch_at_any_world_size(
    waves, undisturbed, epoch, taken, prefetch, world_size, keep
):
    """However many batches were made ahead of the consumer."""
    stopped = make_loader(waves, prefetch=prefetch)
    stopped.set_epoch(epoch)
    batches = iter(stopped)
    assert_all_equal(list(islice(batches, taken)), undisturbed(epoch)[:taken])
    state = keep(stopped.state_dict())
    ranks = [make_loader(waves, rank=rank, world_size=world_size) for rank in range(world_size)]
    for loader in ranks:
        loader.load_state_dict(state)
        assert loader.state_dict() == state
        loader.set_epoch(epoch)  # as the loop over epochs does
    for whole, *shares in zip(undisturbed(epoch)[taken:], *ranks, strict=True):
        assert_equal(whole, *shares)
    for whole, *shares in zip(undisturbed(epoch), *ranks, strict=True):  # and then all of the epoch
        assert_equal(whole, *shares)


@given(st.lists(st.integers(1, 6), max_size=12))
@settings(deadline=None, max_examples=15)
def test_a_run_that_is_stopped_again_and_again_loses_no_batch_and_takes_none_twice(waves, undisturbed, stops):
    """``stops``: after how many batches each of its starts is stopped; the last one runs to the end."""
    epochs, state, seen = 3, make_loader(waves).state_dict(), []
    for left in [*stops, 3 * STEPS]:
        loader = make_loader(waves)
        loader.load_state_dict(state)
        for epoch in range(state["epoch"], epochs):
            loader.set_epoch(epoch)
            for batch in islice(loader, left):
                seen.append(batch)
                left -= 1
                state = as_json(loader.state_dict())
            if left == 0:
                break
    assert_all_equal(seen, [batch for epoch in range(epochs) for batch in undisturbed(epoch)])


def test_a_loader_is_as_long_as_its_epoch(waves):
    loader = make_loader(waves)
    assert len(loader) == loader.steps_per_epoch == len(list(loader)) == STEPS


def test_the_epoch_is_0_until_it_is_set_and_does_not_advance_by_itself(waves, undisturbed):
    loader = make_loader(waves)
    for epoch in (0, 0, 2, 2, 1):
        if epoch:
            loader.set_epoch(epoch)
        assert_all_equal(list(loader), undisturbed(epoch))


def test_an_iterator_that_was_left_early_is_not_gone_on_with(waves, undisturbed):
    loader = make_loader(waves)
    for batch in loader:
        assert_equal(batch, undisturbed(0)[0])
        break
    assert loader.state_dict()["step"] == 1
    loader.set_epoch(0)
    assert_all_equal(list(loader), undisturbed(0))


def test_between_epochs_the_state_is_the_start_of_the_one_that_is_set(waves, undisturbed):
    stopped = make_loader(waves)
    list(stopped)
    restored = make_loader(waves)
    restored.load_state_dict(stopped.state_dict())
    assert_all_equal(list(restored), list(stopped))
    for loader in (stopped, restored):
        loader.set_epoch(1)
    assert stopped.state_dict() == restored.state_dict() == make_loader(waves).state_dict() | {"epoch": 1}
    assert_all_equal(list(restored), undisturbed(1))


def test_after_the_last_batch_nothing_is_left_of_the_epoch_until_its_end_was_seen(waves):
    stopped = make_loader(waves)
    batches = iter(stopped)
    for _ in range(STEPS):
        next(batches)
    before, at_the_end = stopped.state_dict(), list(batches)
    assert at_the_end == []
    restored = make_loader(waves)
    for state, counts in ((before, [0, STEPS]), (stopped.state_dict(), [STEPS, STEPS])):
        restored.load_state_dict(state)
        assert [len(list(restored)) for _ in counts] == counts


def test_another_epoch_begins_at_its_start_even_where_a_loaded_state_was_within_one(waves, undisturbed):
    loader = make_loader(waves)
    loader.load_state_dict(loader.state_dict() | {"epoch": 1, "step": 3})
    loader.set_epoch(2)
    assert_all_equal(list(loader), undisturbed(2))
    loader.set_epoch(1)
    assert_all_equal(list(loader), undisturbed(1))


def test_the_state_is_of_the_latest_iterator(waves, undisturbed):
    loader = make_loader(waves)
    earlier = iter(loader)
    for _ in range(STEPS):
        next(earlier)
    later = iter(loader)
    assert loader.state_dict()["step"] == 0
    next(later)
    assert list(earlier) == []
    assert loader.state_dict()["step"] == 1
    assert_all_equal(list(later), undisturbed(0)[1:])


def test_after_a_fault_the_state_has_lost_no_batch(waves, undisturbed, tmp_path):
    dataset = ShardDataset.open(shutil.copytree(waves.directory, tmp_path / "copy"))
    loader = make_loader(dataset)
    shard = dataset.directory / "shard-000001.tar"
    content = shard.read_bytes()
    shard.write_bytes(content[:600])
    received = []
    with pytest.raises(UserError, match=r"shard-000001\.tar"):
        received.extend(loader)  # keeps what came before the error
    state = loader.state_dict()
    assert state["step"] == len(received) < STEPS
    shard.write_bytes(content)
    mended = make_loader(dataset)
    mended.load_state_dict(state)
    assert_all_equal([*received, *mended], undisturbed(0))


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"seed": 6}, "seed is 5 here and 6 in the state"),
        ({"global_batch_size": 7}, "global_batch_size is 6 here and 7"),
        ({"repeats": 2}, "repeats is 1 here and 2"),
        ({"shuffle_window_shards": 2}, "shuffle_window_shards is None here and 2"),
        ({"clip": ClipConfig(frames=4, size=24, stride=2)}, r"clip\.stride is 1 here and 2"),
        ({"clip": ClipConfig(frames=4, size=24, scales=(1.0,))}, r"clip\.scales is \[1.0, .*\] here and \[1\.0\]"),
        (
            {"clip": ClipConfig(frames=4, size=24, crop_area=(0.1, 1.0))},
            r"clip\.crop_area is None here and \[0\.1, 1\.0\]",
        ),
    ],
)
def test_a_state_of_other_batches_is_refused_by_name(waves, undisturbed, options, name):
    loader = make_loader(waves)
    with pytest.raises(UserError, match=name):
        loader.load_state_dict(as_json(make_loader(waves, **options).state_dict()))
    assert_all_equal(list(loader), undisturbed(0))


def test_a_state_of_before_there_was_an_option_is_one_of_its_default(waves, undisturbed):
    loader, other = make_loader(waves), make_loader(waves, clip=ClipConfig(frames=4, size=24, crop_area=(0.1, 1.0)))
    state = loader.state_dict() | {"step": 2}
    for name in LATER_OPTIONS:
        del state[name]
    loader.load_state_dict(state)
    assert_all_equal(list(loader), undisturbed(0)[2:])
    with pytest.raises(UserError, match="crop_area"):
        other.load_state_dict(state)


def test_a_state_of_another_data_set_is_refused_and_of_a_copy_it_is_not(waves, make_dataset, make_sample, tmp_path):
    other = make_dataset([make_sample(seed) for seed in range(len(waves))])
    state = make_loader(waves).state_dict()
    with pytest.raises(UserError, match="dataset_sha256"):
        make_loader(other).load_state_dict(state)
    make_loader(ShardDataset.open(shutil.copytree(waves.directory, tmp_path / "copy"))).load_state_dict(state)


@pytest.mark.parametrize(
    "change", [{"epoch": -1}, {"step": STEPS + 1}, {"step": -1}, {"epoch": "0"}, {"step": None}, {"step": 1.0}]
)
def test_a_damaged_state_is_refused(waves, change):
    loader = make_loader(waves)
    with pytest.raises(UserError, match="state is damaged"):
        loader.load_state_dict(loader.state_dict() | change)


def test_a_state_is_json_whatever_integers_the_loader_was_made_with(waves):
    state = make_loader(waves, seed=np.int64(5), global_batch_size=np.int32(6)).state_dict()
    make_loader(waves).load_state_dict(as_json(state))


def test_what_is_no_state_is_refused(waves):
    with pytest.raises(UserError, match="lacks epoch, step, dataset_sha256"):
        make_loader(waves).load_state_dict({})


def test_an_epoch_below_0_is_refused(waves):
    with pytest.raises(ValueError, match="epoch must be at least 0"):
        make_loader(waves).set_epoch(-1)


def test_clips_for_convolutions_are_a_view_in_their_memory_format(undisturbed):
    batch = undisturbed(0)[0]
    assert batch.clip_BCTHW.shape == (len(batch.label_B), 3, 4, 24, 24)
    assert batch.clip_BCTHW.is_contiguous(memory_format=torch.channels_last_3d)
    assert batch.clip_BCTHW.data_ptr() == batch.clip_BTHWC.data_ptr()
    assert torch.equal(batch.clip_BCTHW[:, 1], batch.clip_BTHWC[..., 1])


def test_clips_are_cut_as_in_the_paper_by_default(waves):
    for loader in (TrainLoader(waves, global_batch_size=1), EvalLoader(waves, batch_size=1)):
        assert next(iter(loader)).clip_BTHWC.shape == (1, 16, 112, 112, 3)


def test_torchrun_says_which_share_is_taken_unless_the_caller_does(waves, undisturbed, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "3")
    shares = [make_loader(waves, rank=0), make_loader(waves), make_loader(waves, rank=2)]
    for whole, *parts in zip(undisturbed(0), *shares, strict=True):
        assert_equal(whole, *parts)
    assert_all_equal(list(make_loader(waves, rank=0, world_size=1)), undisturbed(0))
    seen = [batch.sample_B for rank in (0, None, 2) for batch in EvalLoader(waves, CLIP, batch_size=5, rank=rank)]
    whole = EvalLoader(waves, CLIP, batch_size=100, rank=0, world_size=1)
    assert torch.equal(torch.cat(seen), torch.from_numpy(np.asarray(whole.windows[:].sample_B)))


def test_a_process_group_says_it_before_the_environment_does(waves, undisturbed, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "3")
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        assert_all_equal(list(make_loader(waves)), undisturbed(0))
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize("make", [make_loader, lambda dataset: EvalLoader(dataset, CLIP, batch_size=4)])
def test_a_rank_outside_the_world_of_the_environment_is_refused(waves, monkeypatch, make):
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(ValueError, match=r"rank must be in \[0, 3\), got 3"):
        make(waves)
