"""How scenes and actions go together, counted clip by clip."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scenebias.debiasing.scene_balance import SceneBalance

ACTIONS, SCENES = 4, 5


def soft_labels(scenes: list[int]) -> np.ndarray:
    return 0.6 * np.eye(SCENES)[scenes] + 0.4 / SCENES


@given(st.lists(st.tuples(st.integers(0, ACTIONS - 1), st.integers(0, SCENES - 1)), min_size=1, max_size=30))
def test_it_is_what_counting_gives(clips: list[tuple[int, int]]) -> None:
    actions, scenes = map(list, zip(*clips, strict=True))
    found = SceneBalance.of(np.array(actions), soft_labels(scenes), ACTIONS)
    cells = Counter(clips)
    commonest = {action: max(cells[action, scene] for scene in range(SCENES)) for action in actions}
    assert found.chance == pytest.approx(Counter(scenes).most_common(1)[0][1] / len(clips))
    assert found.from_action == pytest.approx(sum(commonest.values()) / len(clips))
    for action in set(actions):
        inside = [(a, s) for a, s in clips if a == action]
        weights = [found.weight_AS[clip] for clip in inside]
        assert np.mean(weights) == pytest.approx(1.0)
        for scene in {s for _, s in inside}:  # all scenes of an action weigh the same
            weight = sum(w for w, clip in zip(weights, inside, strict=True) if clip[1] == scene)
            assert weight == pytest.approx(len(inside) / len({s for _, s in inside}))
    absent_AS = np.array([[cells[action, scene] == 0 for scene in range(SCENES)] for action in range(ACTIONS)])
    assert not found.weight_AS[absent_AS].any()
