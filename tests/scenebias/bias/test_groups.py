"""Conflicting clips and the worst group, counted clip by clip."""

import math
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scenebias.bias.groups import conflicting_accuracy, worst_group
from scenebias.evaluation.accuracy import Evaluation

CLIPS = st.lists(st.tuples(*[st.integers(0, 2)] * 3), min_size=1, max_size=60)
"""Prediction, label and scene (or the action of the scene) of each."""


def evaluation(clips: list[tuple[int, int, int]]) -> tuple[Evaluation, np.ndarray]:
    prediction_N, label_N, scene_N = np.array(clips).T
    return Evaluation(np.eye(3)[prediction_N], label_N), scene_N


@given(clips=CLIPS)
def test_conflicting_clips_are_those_of_another_action_s_scene(clips: list[tuple[int, int, int]]) -> None:
    right = [prediction == label for prediction, label, scene_action in clips if scene_action != label]
    found = conflicting_accuracy(*evaluation(clips))
    assert found.clips == len(right)
    assert found.top1 == pytest.approx(np.mean(right)) if right else math.isnan(found.top1)


@given(clips=CLIPS, least=st.integers(1, 8))
def test_the_worst_group_is_the_lowest_of_those_that_are_large_enough(
    clips: list[tuple[int, int, int]], least: int
) -> None:
    groups = defaultdict(list)
    for prediction, label, scene in clips:
        groups[label, scene].append(prediction == label)
    large = [(float(np.mean(right)), len(right)) for right in groups.values() if len(right) >= least]
    found = worst_group(*evaluation(clips), least)
    if not large:
        assert math.isnan(found.top1)
        assert found.clips == 0
    else:
        lowest = min(top1 for top1, _ in large)
        assert found.top1 == pytest.approx(lowest)
        assert found.clips == max(count for top1, count in large if top1 == lowest)
