"""Clips on which the scene says nothing of the action, picked from those where it does.

A probe that looks for the scene in features finds it through the action wherever actions have their scenes. So it is
fitted and tested where every action was filmed in every scene, and all these combinations count alike.

Shape suffixes: N clips, M picked ones, A actions, S scenes.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class FullGrid:
    """Actions and scenes of which every combination occurs."""

    actions: np.ndarray
    """int64, ascending."""
    scenes: np.ndarray
    """int64, ascending."""

    def pick(self, label_N: np.ndarray, scene_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The clips in the grid, int64 (M,), and weights (M,) with which all combinations count alike, of sum 1."""
        picked_M = np.flatnonzero(np.isin(label_N, self.actions) & np.isin(scene_N, self.scenes))
        cell_M = np.searchsorted(self.actions, label_N[picked_M]) * len(self.scenes)
        cell_M += np.searchsorted(self.scenes, scene_N[picked_M])
        count = np.bincount(cell_M)
        return picked_M, 1 / (count[cell_M] * len(count))


def largest_full_grid(occurs_AS: np.ndarray) -> FullGrid | None:
    """Two or more actions and scenes with all combinations in ``occurs_AS`` (bool); None where there are none.

    The grid with most combinations that a greedy search finds: from each pair of scenes it takes the actions filmed in
    both and adds, scene by scene, the one that most of these actions share; the largest grid on the way is kept. The
    exact problem, a biclique of most edges, is NP-complete (Peeters, Discrete Applied Mathematics 131, 2003).
    """
    best: FullGrid | None = None
    best_size = 0
    scenes = np.flatnonzero(occurs_AS.sum(axis=0) >= 2)
    for position, first in enumerate(scenes):
        for second in scenes[position + 1 :]:
            chosen = [int(first), int(second)]
            action_A = occurs_AS[:, first] & occurs_AS[:, second]
            while action_A.sum() >= 2:
                if action_A.sum() * len(chosen) > best_size:
                    best_size = int(action_A.sum()) * len(chosen)
                    best = FullGrid(np.flatnonzero(action_A), np.sort(chosen))
                shared_S = (occurs_AS & action_A[:, None]).sum(axis=0)
                shared_S[chosen] = 0
                chosen.append(int(shared_S.argmax()))
                action_A = action_A & occurs_AS[:, chosen[-1]] if shared_S.max() else np.zeros_like(action_A)
    return best
