from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2, chisquare, kstest

from shards.randomness import Permutation, hash_uint64, randint, uniform

INTEGERS = st.integers(-(2**63), 2**63 - 1)


@given(st.lists(INTEGERS, min_size=1, max_size=20), INTEGERS)
def test_vector_of_draws_equals_the_draws_one_by_one(samples, seed):
    vector = uniform(seed, 3, np.array(samples))
    assert vector.tolist() == [uniform(seed, 3, sample).item() for sample in samples]


def test_keys_broadcast():
    rows, columns = np.arange(3)[:, None], np.arange(4)
    assert hash_uint64(rows, columns).shape == (3, 4)
    assert hash_uint64(rows, columns)[2, 1] == hash_uint64(2, 1)
    assert hash_uint64(1, 2).shape == ()


def test_first_draws_never_change():
    """Stored runs depend on these numbers; the reference is the formula in Python's own integers."""

    def mix(x):
        x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        x = (x ^ x >> 27) * 0x94D049BB133111EB % 2**64
        return x ^ x >> 31

    keys = (5, -1, 2**63 + 7)
    state = len(keys)
    for key in keys:
        state = mix((state + 0x9E3779B97F4A7C15 + key) % 2**64)
    assert int(hash_uint64(*keys)) == state
    assert mix(0x9E3779B97F4A7C15) == 0xE220A8397B1DCDAF  # SplitMix64's published first output for seed 0


def test_order_and_number_of_keys_matter():
    hashes = [int(hash_uint64(*keys)) for keys in [(), (0,), (0, 0), (0, 1), (1, 0), (1,), (0, 0, 0)]]
    assert len(set(hashes)) == len(hashes)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_draws_are_uniform_along_every_key(axis):
    keys: list = [11, 12, 13]
    keys[axis] = np.arange(100_000)
    draws = uniform(*keys)
    assert draws.min() >= 0
    assert draws.max() < 1
    assert kstest(draws, "uniform").pvalue > 0.01
    assert abs(np.corrcoef(draws[:-1], draws[1:])[0, 1]) < 0.01


@pytest.mark.parametrize("high", [1, 2, 3, 10, 1000])
def test_integers_are_uniform_and_below_high(high):
    draws = randint(high, 0, np.arange(50_000))
    assert draws.min() >= 0
    assert draws.max() < high
    if high > 1:
        assert chisquare(np.bincount(draws, minlength=high)).pvalue > 0.01


def test_high_broadcasts_with_the_keys():
    high = np.array([1, 5, 1000])
    draws = randint(high, 0, np.arange(2000)[:, None])
    assert (draws < high).all()
    assert (draws.max(axis=0) >= [0, 4, 990]).all()


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="high"):
        randint(0, 1)
    with pytest.raises(TypeError, match="integers"):
        uniform(np.array([0.5]))
    with pytest.raises(ValueError, match="size"):
        Permutation(0, 1)
    with pytest.raises(ValueError, match=r"range\(5\)"):
        Permutation(5, 1)([5])


def test_permutation_is_a_bijection_at_every_size_to_5000():
    for size in [*range(1, 300), *range(300, 5001, 37), 5000]:
        assert np.array_equal(np.sort(Permutation(size, size)(np.arange(size))), np.arange(size))


@given(st.integers(1, 2**40), INTEGERS, st.data())
def test_permutation_of_any_size_is_injective_and_evaluates_at_single_points(size, key, data):
    indices = np.array(data.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=50, unique=True)))
    permuted = Permutation(size, key)(indices)
    assert len(np.unique(permuted)) == len(indices)
    assert permuted.max() < size
    assert Permutation(size, key)(int(indices[0])) == permuted[0]


@pytest.mark.parametrize("size", [2, 3, 7, 10, 30])
def test_permutation_sends_every_index_everywhere_alike(size):
    keys = 2000
    counts = np.zeros((size, size))
    for key in range(keys):
        counts[np.arange(size), Permutation(size, key + 10**6)(np.arange(size))] += 1
    expected = keys / size
    # Rows and columns of the counts have fixed sums, hence the factor and the degrees of freedom.
    statistic = ((counts - expected) ** 2 / expected).sum() * (size - 1) / size
    assert chi2.sf(statistic, (size - 1) ** 2) > 0.01


def test_all_orders_of_four_are_equally_likely():
    counts = Counter(tuple(Permutation(4, key)(np.arange(4)).tolist()) for key in range(4800))
    assert len(counts) == 24
    assert chisquare(list(counts.values())).pvalue > 0.01


def test_neighbours_do_not_stay_together():
    permuted = Permutation(1000, 5)(np.arange(1000))
    assert abs(np.corrcoef(permuted[:-1], permuted[1:])[0, 1]) < 0.1
    assert (np.diff(permuted) == 1).sum() < 10
