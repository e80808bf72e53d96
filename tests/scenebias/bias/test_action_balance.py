"""Grids are full, as large as an exhaustive search finds in plain cases, and their cells count alike.

Shape suffixes: N clips, A actions, S scenes.
"""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from scenebias.bias.action_balance import FullGrid, largest_full_grid
from scenebias.data.datasets import count_combinations

OCCURS = hnp.arrays(bool, st.tuples(st.integers(1, 6), st.integers(1, 6)))


def largest_by_trying_all(occurs_AS: np.ndarray) -> int:
    """The size of the largest full grid of two or more actions and scenes; 0 where there is none."""
    sizes = [0]
    scenes = range(occurs_AS.shape[1])
    for count in range(2, occurs_AS.shape[1] + 1):
        for chosen in combinations(scenes, count):
            actions = int(occurs_AS[:, chosen].all(axis=1).sum())
            if actions >= 2:
                sizes.append(actions * count)
    return max(sizes)


@settings(max_examples=200, deadline=None)
@given(OCCURS)
def test_a_grid_is_full_and_found_wherever_there_is_one(occurs_AS: np.ndarray) -> None:
    grid, wanted_size = largest_full_grid(occurs_AS), largest_by_trying_all(occurs_AS)
    if grid is None:
        assert wanted_size == 0
        return
    assert len(grid.actions) >= 2
    assert len(grid.scenes) >= 2
    assert occurs_AS[np.ix_(grid.actions, grid.scenes)].all()
    assert np.array_equal(grid.actions, np.unique(grid.actions))
    assert np.array_equal(grid.scenes, np.unique(grid.scenes))
    assert len(grid.actions) * len(grid.scenes) >= 0.6 * wanted_size  # a greedy search; far better as a rule


@pytest.mark.parametrize("seed", range(5))
def test_a_planted_grid_is_found_among_sparse_combinations(seed: int) -> None:
    random = np.random.default_rng(seed)
    actions, scenes = (np.sort(random.choice(30, size, replace=False)) for size in (4, 5))
    occurs_AS = random.random((30, 30)) < 0.05
    occurs_AS[np.ix_(actions, scenes)] = True
    grid = largest_full_grid(occurs_AS)
    assert grid is not None
    assert set(actions) <= set(grid.actions)
    assert set(scenes) <= set(grid.scenes)


@given(st.integers(0, 2**32 - 1))
def test_all_cells_weigh_the_same_whatever_their_number_of_clips(seed: int) -> None:
    random = np.random.default_rng(seed)
    label_N, scene_N = random.integers(0, 5, 300), random.integers(0, 4, 300)
    grid = FullGrid(np.array([0, 2, 3]), np.array([1, 3]))
    picked, weight = grid.pick(label_N, scene_N)
    wanted = [n for n in range(300) if label_N[n] in (0, 2, 3) and scene_N[n] in (1, 3)]
    assert picked.tolist() == wanted
    for action in grid.actions:
        for scene in grid.scenes:
            in_cell = (label_N[picked] == action) & (scene_N[picked] == scene)
            assert weight[in_cell].sum() == pytest.approx(1 / 6)
            assert np.ptp(weight[in_cell]) == 0


def test_combinations_are_counted() -> None:
    counts = count_combinations(np.array([0, 0, 2, 0]), np.array([1, 1, 0, 3]), 3, 4)
    assert counts.tolist() == [[0, 2, 0, 1], [0, 0, 0, 0], [1, 0, 0, 0]]
