"""Measures of the field's benchmarks, counted clip by clip."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scenebias.bias.benchmarks import BACKGROUND_ONLY, clean_measures, hat_ratios, hat_swap_measures, scuba_measures
from scenebias.evaluation.accuracy import Evaluation


def predicting(prediction: list[int] | np.ndarray, label: list[int] | np.ndarray) -> Evaluation:
    return Evaluation(np.eye(4)[prediction], np.asarray(label))


@given(seed=st.integers(0, 2**32 - 1), clips=st.integers(1, 30))
def test_hat_s_ratios_are_of_means_over_the_same_clips(seed: int, clips: int) -> None:
    random = np.random.default_rng(seed)
    label_N, clean_N = random.integers(0, 4, (2, clips + 10))
    sample_M = np.sort(random.choice(clips + 10, clips, replace=False))
    background_M, human_M = random.integers(0, 4, (2, clips))
    evaluations = {
        "clean": predicting(clean_N, label_N),
        BACKGROUND_ONLY: predicting(background_M, label_N[sample_M]),
        "human_only": predicting(human_M, label_N[sample_M]),
    }
    original = sum(clean_N[sample] == label_N[sample] for sample in sample_M) / clips
    found = hat_ratios(evaluations, sample_M)
    for name, prediction_M in (("hat_bor", background_M), ("hat_hor", human_M)):
        alone = sum(one == label_N[sample] for one, sample in zip(prediction_M, sample_M, strict=True)) / clips
        assert found[name] == pytest.approx(alone / original) if original else math.isnan(found[name])


@given(st.lists(st.tuples(*[st.integers(0, 3)] * 3), min_size=1, max_size=40))
def test_hat_s_swaps_count_the_human_s_and_the_background_s_action(clips: list[tuple[int, int, int]]) -> None:
    prediction_M, label_M, background_M = np.array(clips).T
    found = hat_swap_measures({"hat_swapped": predicting(prediction_M, label_M)}, background_M)
    assert found["hat_shacc"] == pytest.approx(np.mean([said == human for said, human, _ in clips]))
    errors = [said == background for said, human, background in clips if human != background]
    assert found["hat_sberr"] == pytest.approx(np.mean(errors)) if errors else math.isnan(found["hat_sberr"])


def test_contrasted_accuracy_is_of_scuba_and_scufo() -> None:
    label = [0, 1, 2, 3]
    evaluations = {"scuba": predicting([0, 1, 2, 0], label), "scufo": predicting([1, 1, 0, 0], label)}
    assert scuba_measures(evaluations) == {"scuba_contrasted_accuracy": pytest.approx(2 / 4)}


def test_clean_measures_are_of_the_clips_as_they_are() -> None:
    label_N, scene_N = np.repeat([0, 1], 10), np.tile([5, 9], 10)
    scene_action_N = np.where(scene_N == 5, 0, 1)
    found = clean_measures(predicting(scene_action_N, label_N), scene_action_N, scene_N)
    assert found == {
        "conflicting_top1": 0,
        "conflicting_clips": 10,
        "worst_group_top1": 0,
        "worst_group_clips": 5,
        "ece": pytest.approx(0.5),
    }
