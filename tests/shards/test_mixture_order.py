"""What must hold of the order of several data sets."""

from collections import Counter
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shards.mixture_order import MixtureOrder, apportion, deal
from shards.order import partners

counts = st.lists(st.integers(1, 400), min_size=1, max_size=7)


@st.composite
def orders(draw):
    sets = draw(st.integers(1, 5))
    sizes = [draw(st.lists(st.integers(1, 25), min_size=1, max_size=6)) for _ in range(sets)]
    return MixtureOrder(
        sample_counts=tuple(map(sum, sizes)),
        clips_per_epoch=tuple(draw(st.integers(1, 150)) for _ in range(sets)),
        global_batch_size=draw(st.integers(1, 60)),
        seed=draw(st.integers(0, 2**32)),
        shard_starts=tuple(np.cumsum([0, *of_set]) for of_set in sizes),
        shuffle_window_shards=draw(st.none() | st.integers(1, 5)),
    )


def run_of(order, epochs):
    """The (set, sample, pass) of every position of so many epochs, step by step."""
    batches = [order.global_batch(*at) for at in product(range(epochs), range(order.steps_per_epoch))]
    return [list(zip(*(field.tolist() for field in batch), strict=True)) for batch in batches]


@given(counts, st.data())
@settings(deadline=None)
def test_what_a_set_is_dealt_is_within_one_of_its_even_share_after_any_places(counts, data):
    total = sum(counts)
    places = sorted(data.draw(st.sets(st.integers(0, total), max_size=60)))
    dealt = deal(counts, places)
    assert dealt.sum(axis=1).tolist() == places
    assert np.all(np.abs(dealt * total - np.outer(places, counts)) < total)
    assert np.all(np.diff(dealt, axis=0, prepend=0) >= 0)


@given(st.integers(0, 10**6), st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=8))
def test_whole_numbers_keep_the_sum_and_are_within_one_of_their_shares(total, weights):
    counts = apportion(total, weights)
    assert sum(counts) == total
    assert all(
        abs(count - total * weight / sum(weights)) < 1 + 1e-6 for count, weight in zip(counts, weights, strict=True)
    )


@given(orders())
@settings(deadline=None, max_examples=20)
def test_shares_hold_after_every_step_of_a_run(order):
    come, total = Counter(), sum(order.clips_per_epoch)
    for step in run_of(order, 3):
        come.update(number for number, _, _ in step)
        for number, count in enumerate(order.clips_per_epoch):
            assert abs(come[number] * total - come.total() * count) < total
    assert [come[number] for number in range(len(order.sample_counts))] == [3 * n for n in order.clips_per_epoch]


@given(orders())
@settings(deadline=None, max_examples=20)
def test_every_clip_of_a_set_comes_before_any_of_it_comes_again(order):
    come = [Counter(dict.fromkeys(range(count), 0)) for count in order.sample_counts]
    for number, sample, passed in (clip for step in run_of(order, 3) for clip in step):
        assert come[number][sample] == passed == min(come[number].values())
        come[number][sample] += 1


@given(orders(), st.integers(0, 4))
@settings(deadline=None, max_examples=20)
def test_global_steps_are_the_same_at_any_world_size(order, epoch):
    for step in {0, order.steps_per_epoch // 2, order.steps_per_epoch - 1}:
        whole = order.global_batch(epoch, step)
        assert np.bincount(whole.set_B, minlength=len(order.sample_counts)).tolist() == order.counts_in(step).tolist()
        for world_size in (1, 2, 3, 8):
            ranks = [order.rank_batch(epoch, step, rank, world_size) for rank in range(world_size)]
            for field in whole._fields:
                shares = [getattr(rank, field) for rank in ranks]
                assert np.array_equal(np.concatenate(shares), getattr(whole, field))
                assert max(map(len, shares)) - min(map(len, shares)) <= 1


@given(orders(), st.integers(2, 3), st.integers(1, 8), st.data())
@settings(deadline=None, max_examples=20)
def test_the_partner_of_a_clip_is_the_same_at_any_world_size(order, group_size, world_size, data):
    order = replace(order, group_size=group_size)
    step = data.draw(st.integers(0, order.steps_per_epoch - 1))

    def pairs(world_size):
        shares = [np.array(order.rank_batch(3, step, rank, world_size)).T for rank in range(world_size)]
        return [(clips, clips[partners(len(clips), group_size)]) for clips in shares]

    apart, whole = pairs(world_size), pairs(1)
    for apart_side, whole_side in zip(zip(*apart, strict=True), zip(*whole, strict=True), strict=True):
        assert np.array_equal(np.concatenate(apart_side), np.concatenate(whole_side))


@given(orders(), st.data())
@settings(deadline=None, max_examples=20)
def test_a_step_does_not_depend_on_the_steps_before(order, data):
    undisturbed = run_of(order, 2)
    at = data.draw(st.integers(0, len(undisturbed) - 1))
    resumed = replace(order).global_batch(*divmod(at, order.steps_per_epoch))
    assert list(zip(*(field.tolist() for field in resumed), strict=True)) == undisturbed[at]


def test_the_sets_of_a_step_lie_in_any_order():
    order = MixtureOrder((100, 100), (100, 100), 20)
    neighbours = Counter()
    for step in run_of(order, 4):
        sets = [number for number, _, _ in step]
        neighbours.update(zip(sets[::2], sets[1::2], strict=True))
    assert len(neighbours) == 4
    assert min(neighbours.values()) > 0.5 * max(neighbours.values())


def test_sets_passes_epochs_and_seeds_are_ordered_apart():
    def clips(seed):
        steps = run_of(MixtureOrder((50, 50), (100, 50), 25, seed=seed), 2)
        return {
            (seed, number, passed): tuple(s for step in steps for n, s, p in step if (n, p) == (number, passed))
            for number, passed in ((0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 1))
        }

    found = clips(0) | clips(1)
    assert all(sorted(samples) == list(range(50)) for samples in found.values())
    assert len(set(found.values())) == 12


def test_windows_of_shards_keep_reads_of_each_set_together():
    starts = tuple(range(0, 201, 20))
    order = MixtureOrder((200, 200), (200, 200), 16, shard_starts=(starts, starts), shuffle_window_shards=2)
    for number in range(2):
        shards = [sample // 20 for step in run_of(order, 1) for of, sample, _ in step if of == number]
        assert all(len(set(shards[first : first + 40])) == 2 for first in range(0, 200, 40))


def test_wrong_fields_are_named():
    with pytest.raises(ValueError, match="clips_per_epoch must have a number for each of 2 data sets, got 1"):
        MixtureOrder((10, 10), (10,), 4)
    with pytest.raises(ValueError, match="clips_per_epoch must be at least 1"):
        MixtureOrder((10, 10), (10, 0), 4)
    with pytest.raises(ValueError, match="shard_starts"):
        MixtureOrder((10,), (10,), 4, shuffle_window_shards=1)
    with pytest.raises(ValueError, match="epoch"):
        MixtureOrder((10,), (10,), 4).global_batch(-1, 0)
    with pytest.raises(ValueError, match="step must be in range"):
        MixtureOrder((10,), (10,), 4).global_batch(0, 3)
