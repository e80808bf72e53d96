from dataclasses import replace
from itertools import chain, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shards.order import EpochOrder, partners, rank_share, repeated
from shards.randomness import Permutation


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


def test_every_window_of_shards_is_shuffled_in_its_own_way():
    starts = np.arange(0, 2001, 100)
    order = EpochOrder(2000, 100, seed=1, shard_starts=starts, shuffle_window_shards=1)
    inside = {tuple(samples % 100) for samples in epoch_of(order)}
    assert len(inside) == 20


@given(orders(), st.integers(0, 1000))
@settings(deadline=None)
def test_every_sample_comes_exactly_once_an_epoch(order, epoch):
    samples = np.concatenate(epoch_of(order, epoch))
    assert np.array_equal(np.sort(samples), np.arange(order.sample_count))


@given(orders())
@settings(deadline=None)
def test_batches_differ_by_at_most_one_multiple_and_keep_the_limit(order):
    sizes = [len(batch) for batch in epoch_of(order)]
    assert max(sizes) - min(sizes) <= order.evenness
    assert 1 <= max(sizes) <= order.global_batch_size
    assert len(sizes) == -(-order.sample_count // order.global_batch_size)


def assert_ranks_share_the_step(order, epoch, step, world_size):
    ranks = [order.rank_batch(epoch, step, rank, world_size) for rank in range(world_size)]
    assert np.array_equal(np.concatenate(ranks), order.global_batch(epoch, step))
    assert max(map(len, ranks)) - min(map(len, ranks)) <= 1


@given(orders(), st.integers(0, 5))
@settings(deadline=None)
def test_global_steps_are_the_same_at_any_world_size(order, epoch):
    for step in {0, order.steps_per_epoch // 2, order.steps_per_epoch - 1}:
        for world_size in (1, 2, 3, 8):
            assert_ranks_share_the_step(order, epoch, step, world_size)


@given(orders(), st.integers(0, 5), st.integers(9, 1024), st.data())
@settings(deadline=None, max_examples=10)
def test_global_steps_are_the_same_at_great_world_sizes(order, epoch, world_size, data):
    assert_ranks_share_the_step(order, epoch, data.draw(st.integers(0, order.steps_per_epoch - 1)), world_size)


@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("world_size", [7, 64, 1000, 1024])
def test_ranks_take_every_sample_once_in_equally_many_steps(world_size, window):
    sizes = np.random.default_rng(world_size).integers(300, 900, 7)
    order = EpochOrder(
        int(sizes.sum()), 2 * world_size + 5, 1, True, np.cumsum([0, *sizes]), shuffle_window_shards=window
    )
    ranks = [
        [order.rank_batch(2, step, rank, world_size) for step in range(order.steps_per_epoch)]
        for rank in range(world_size)
    ]
    assert all(len(batch) > 0 for batches in ranks for batch in batches)
    taken = np.concatenate([batch for batches in ranks for batch in batches])
    assert np.array_equal(np.sort(taken), np.arange(order.sample_count))


@given(st.integers(1, 10**12), st.integers(1, 10**6), st.integers(1, 1024))
def test_positions_of_ranks_follow_each_other(count, global_batch_size, world_size):
    order = EpochOrder(count, global_batch_size)
    for step in {0, order.steps_per_epoch // 3, order.steps_per_epoch - 1}:
        positions = order.positions(step)
        shares = [rank_share(positions, rank, world_size) for rank in range(world_size)]
        assert (shares[0].start, shares[-1].stop) == (positions.start, positions.stop)
        assert all(share.stop == after.start for share, after in pairwise(shares))
        sizes = {len(share) for share in shares}
        assert max(sizes) - min(sizes) <= 1


def groups_of(positions, group_size):
    """Cut from the end; a single position at the start joins the group after it."""
    groups = []
    left = list(positions)
    while left:
        groups.insert(0, left[-group_size:])
        left = left[:-group_size]
    if len(groups) > 1 and len(groups[0]) == 1 < group_size:
        groups[:2] = [groups[0] + groups[1]]
    return groups


@given(st.integers(0, 70), st.integers(1, 5), st.integers(1, 9), st.integers(0, 9))
def test_ranks_take_whole_groups_which_each_can_cut_by_itself(count, group_size, world_size, start):
    positions = range(start, start + count)
    shares = [groups_of(rank_share(positions, rank, world_size, group_size), group_size) for rank in range(world_size)]
    assert list(chain.from_iterable(shares)) == groups_of(positions, group_size)
    numbers = [len(groups) for groups in shares]
    assert max(numbers) - min(numbers) <= 1


@given(st.integers(0, 70), st.integers(1, 5))
def test_the_partner_is_the_next_one_of_the_group_and_after_the_last_comes_the_first(count, group_size):
    wanted = [
        group[(place + 1) % len(group)] for group in groups_of(range(count), group_size) for place in range(len(group))
    ]
    assert partners(count, group_size).tolist() == wanted
    if group_size > 1 and count > 1:
        assert not np.any(partners(count, group_size) == np.arange(count))


@given(st.integers(0, 40), st.integers(1, 4), st.integers(1, 3), st.integers(1, 6))
def test_repeats_and_their_partners_are_the_same_at_any_world_size(count, repeats, group_size, world_size):
    def showings(world_size):
        told = []
        for rank in range(world_size):
            share = np.array(rank_share(range(count), rank, world_size, group_size), dtype=np.int64)
            place, repeat = repeated(len(share), repeats, group_size)
            names = list(zip(share[place].tolist(), repeat.tolist(), strict=True))
            others = [names[partner] for partner in partners(len(names), group_size)]
            told += zip(names, others, strict=True)
        return told

    whole = showings(1)
    assert showings(world_size) == whole
    assert sorted(own for own, _ in whole) == [(place, repeat) for place in range(count) for repeat in range(repeats)]
    if repeats == 1:
        assert [own for own, _ in whole] == [(place, 0) for place in range(count)]
    if group_size == 2 and count > 1:
        assert all(own[0] != other[0] for own, other in whole)


@given(orders(), st.integers(2, 4), st.integers(1, 8), st.data())
@settings(deadline=None)
def test_the_partner_of_a_sample_is_the_same_at_any_world_size(order, group_size, world_size, data):
    order = replace(order, group_size=group_size)
    step = data.draw(st.integers(0, order.steps_per_epoch - 1))

    def pairs(world_size):
        shares = [order.rank_batch(3, step, rank, world_size) for rank in range(world_size)]
        return [pair for share in shares for pair in zip(share, share[partners(len(share), group_size)], strict=True)]

    assert pairs(world_size) == pairs(1)
    assert [sample for sample, _ in pairs(1)] == order.global_batch(3, step).tolist()


@given(st.integers(1, 5000), st.integers(1, 600))
def test_batches_have_even_shares_but_for_the_first_of_an_epoch(count, global_batch_size):
    order = EpochOrder(count, global_batch_size)
    even = order.evenness
    assert global_batch_size % even == 0
    assert even == 1 or (8 * even <= global_batch_size and even.bit_count() == 1)
    first, *others = (len(order.positions(step)) for step in range(order.steps_per_epoch))
    assert 0 < first <= global_batch_size
    assert first + sum(others) == count
    assert all(0 < size <= global_batch_size and size % even == 0 for size in others)
    assert len(set(others)) <= 2
    assert not others or max(first, *others) - min(first, *others) <= even


@pytest.mark.parametrize(("world_size", "global_batch_size"), [(2, 32), (4, 32), (8, 256), (16, 256), (64, 1024)])
def test_ranks_differ_in_one_step_of_an_epoch_at_most(world_size, global_batch_size):
    order = EpochOrder(9537, global_batch_size)
    shares = [
        {len(rank_share(order.positions(step), rank, world_size)) for rank in range(world_size)}
        for step in range(order.steps_per_epoch)
    ]
    assert all(len(sizes) == 1 for sizes in shares[1:])
    assert len(set.union(*shares[1:])) <= 2


@given(orders())
def test_batch_sizes_are_those_of_the_smallest_and_the_largest_step(order):
    sizes = [len(order.positions(step)) for step in range(order.steps_per_epoch)]
    assert order.batch_sizes == (min(sizes), max(sizes))


@pytest.mark.parametrize("window", [None, 5])
def test_the_samples_of_a_rank_are_found_alone_and_the_shards_shuffled_once_an_epoch(monkeypatch, window):
    """So that a step costs the same in the middle of an epoch and at any world size."""
    mapped = []
    permute = Permutation.__call__
    monkeypatch.setattr(Permutation, "__call__", lambda self, i: mapped.append(np.size(i)) or permute(self, i))
    shards, rank_samples = 1000, 32
    order = EpochOrder(10**9, 1024 * rank_samples, 3, True, np.arange(shards + 1) * 10**6, window)
    for epoch in range(2):
        for step in range(order.steps_per_epoch // 2, order.steps_per_epoch // 2 + 5):
            order.rank_batch(epoch, step, 700, 1024)
    assert sum(mapped) <= 2 * 5 * rank_samples + (2 * shards if window else 0)


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
        ("group_size", {"group_size": 0}),
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
