import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shards.order import EpochOrder


@st.composite
def orders(draw):
    sizes = draw(st.lists(st.integers(1, 120), min_size=1, max_size=17))
    starts = np.cumsum([0, *sizes])
    return EpochOrder(
        sample_count=sum(sizes),
        global_batch_size=draw(st.integers(1, 200)),
        seed=draw(st.integers(0, 2**32)),
        shuffle=draw(st.booleans()),
        shard_starts=starts,
        shuffle_window_shards=draw(st.none() | st.integers(1, 20)),
    )


def epoch_of(order, epoch=0):
    return [order.global_batch(epoch, step) for step in range(order.steps_per_epoch)]


@given(orders(), st.integers(0, 1000))
@settings(deadline=None)
def test_every_sample_comes_exactly_once_an_epoch(order, epoch):
    samples = np.concatenate(epoch_of(order, epoch))
    assert np.array_equal(np.sort(samples), np.arange(order.sample_count))


@given(orders())
@settings(deadline=None)
def test_batches_differ_by_at_most_one_and_keep_the_limit(order):
    sizes = [len(batch) for batch in epoch_of(order)]
    assert max(sizes) - min(sizes) <= 1
    assert 1 <= max(sizes) <= order.global_batch_size
    assert len(sizes) == -(-order.sample_count // order.global_batch_size)


@given(orders(), st.integers(0, 5))
@settings(deadline=None)
def test_global_steps_are_the_same_at_any_world_size(order, epoch):
    for step in {0, order.steps_per_epoch // 2, order.steps_per_epoch - 1}:
        for world_size in (1, 2, 3, 8):
            ranks = [order.rank_batch(epoch, step, rank, world_size) for rank in range(world_size)]
            assert np.array_equal(np.concatenate(ranks), order.global_batch(epoch, step))
            assert max(map(len, ranks)) - min(map(len, ranks)) <= 1


@pytest.mark.parametrize("window", [None, 2])
def test_steps_do_not_depend_on_the_steps_before(window):
    def order():
        return EpochOrder(103, 10, seed=4, shard_starts=(0, 30, 60, 90, 103), shuffle_window_shards=window)

    undisturbed = [batch.tolist() for epoch in range(2) for batch in epoch_of(order(), epoch)]
    for resumed_at in range(22):
        epoch, step = divmod(resumed_at, 11)
        assert order().global_batch(epoch, step).tolist() == undisturbed[resumed_at]


@pytest.mark.parametrize("window", [None, 3])
def test_epochs_and_seeds_differ(window):
    starts = tuple(range(0, 501, 50))
    epochs = {
        tuple(np.concatenate(epoch_of(EpochOrder(500, 32, seed, True, starts, window), epoch)))
        for seed in range(3)
        for epoch in range(4)
    }
    assert len(epochs) == 12


def test_unshuffled_order_is_the_stored_order():
    assert np.array_equal(np.concatenate(epoch_of(EpochOrder(17, 4, shuffle=False), 3)), np.arange(17))


def test_global_shuffle_spreads_every_batch_over_the_data_set():
    order = EpochOrder(10_000, 100)
    means = [batch.mean() for batch in epoch_of(order)]
    assert abs(np.std(means) / (10_000 / np.sqrt(12 * 100)) - 1) < 0.3


@given(st.integers(1, 30), st.integers(1, 25), st.integers(0, 9))
@settings(deadline=None, max_examples=30)
def test_window_reads_few_shards_at_a_time_and_mixes_them(window, shards, epoch):
    order = EpochOrder(shards * 20, 8, 1, True, tuple(range(0, shards * 20 + 1, 20)), window)
    samples = np.concatenate(epoch_of(order, epoch)) // 20
    for start in range(0, len(samples), window * 20):
        group = samples[start : start + window * 20]
        assert len(np.unique(group)) == min(window, shards - start // 20)
        if window > 2 and len(group) >= 60:
            assert (np.diff(group) == 0).mean() < 0.75


@pytest.mark.parametrize(
    ("field", "arguments"),
    [
        ("sample_count", {"sample_count": 0}),
        ("global_batch_size", {"global_batch_size": 0}),
        ("shuffle_window_shards", {"shuffle_window_shards": 0}),
        ("shard_starts", {"shuffle_window_shards": 1}),
        ("shard_starts", {"shuffle_window_shards": 1, "shard_starts": (0, 9)}),
        ("shard_starts", {"shuffle_window_shards": 1, "shard_starts": (0, 5, 5, 10)}),
        ("shard_starts", {"shuffle_window_shards": 1, "shard_starts": (1, 10)}),
    ],
)
def test_wrong_fields_are_named(field, arguments):
    with pytest.raises(ValueError, match=field):
        EpochOrder(**({"sample_count": 10, "global_batch_size": 3} | arguments))


def test_steps_and_ranks_outside_are_refused():
    order = EpochOrder(10, 3)
    with pytest.raises(ValueError, match=r"step must be in range\(4\)"):
        order.global_batch(0, 4)
    with pytest.raises(ValueError, match="epoch"):
        order.global_batch(-1, 0)
    with pytest.raises(ValueError, match="rank"):
        order.rank_batch(0, 0, 2, 2)
    with pytest.raises(ValueError, match="world_size"):
        order.rank_batch(0, 0, 0, 0)
