"""Figures show the numbers that they are given; features are projected along their main directions.

Shape suffixes: N clips, D features, K components, A actions, T frames, H rows, W columns.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from scenebias.reports.embedding import principal_components
from scenebias.reports.figures import activation_strip, bars, confusion_matrix, embedding
from scenebias.statistics.intervals import Interval

NAN = float("nan")


def texts(figure: Figure) -> list[str]:
    return [text.get_text().strip() for text in figure.axes[0].texts]


def test_every_measure_has_a_chart_with_a_bar_and_an_interval_for_each_arm() -> None:
    measures = {
        "accuracy (%)": {"baseline": Interval(40.0, 30.0, 50.0), "debiased": Interval(62.5, 60.0, 65.0)},
        "entropy (nats)": {"debiased": Interval(1.25, NAN, NAN)},
    }
    charts = bars(measures)
    assert list(charts) == list(measures)
    axis = charts["accuracy (%)"].axes[0]
    assert [bar.get_width() for bar in axis.patches] == [40.0, 62.5]
    assert [list(line.get_xdata()) for line in axis.lines] == [[30.0, 50.0], [60.0, 65.0]]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["baseline", "debiased"]
    assert texts(charts["accuracy (%)"]) == ["40.0", "62.5"]
    entropy = charts["entropy (nats)"].axes[0]
    assert not entropy.lines
    assert entropy.patches[0].get_facecolor() == axis.patches[1].get_facecolor()


def test_an_unknown_mean_is_named_without_a_bar() -> None:
    charts = bars({"probe": {"a": Interval(NAN, NAN, NAN), "b": Interval(-2.0, -3.0, -1.0)}})
    axis = charts["probe"].axes[0]
    assert [bar.get_width() for bar in axis.patches] == [-2.0]
    assert texts(charts["probe"]) == ["–", "-2.00"]


@given(st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(0, 1e3)), min_size=1, max_size=5))
def test_bars_their_intervals_and_zero_are_all_in_sight(arms: list[tuple[float, float]]) -> None:
    intervals = {f"arm {n}": Interval(mean, mean - half, mean + half) for n, (mean, half) in enumerate(arms)}
    left, right = bars({"measure": intervals})["measure"].axes[0].get_xlim()
    assert left <= min(0, *(interval.low for interval in intervals.values()))
    assert right >= max(0, *(interval.high for interval in intervals.values()))


def test_a_confusion_matrix_shows_shares_of_each_class() -> None:
    confusion_AA = np.array([[3, 1, 0], [0, 0, 0], [0, 2, 2]])
    figure = confusion_matrix(confusion_AA, ("run", "sit", "wave"))
    axis = figure.axes[0]
    shown_AA = np.asarray(axis.images[0].get_array())
    np.testing.assert_allclose(shown_AA, [[0.75, 0.25, 0], [0, 0, 0], [0, 0.5, 0.5]])
    assert texts(figure) == ["75", "25", "50", "50"]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["run  1", "sit  2", "wave  3"]


def test_many_classes_come_without_numbers_and_with_every_few_named() -> None:
    figure = confusion_matrix(np.eye(101, dtype=int), [f"class {number}" for number in range(101)])
    assert not texts(figure)
    assert len(figure.axes[0].get_yticks()) == 34


def test_features_are_shown_once_for_each_model_and_grouping_in_the_same_colours() -> None:
    random = np.random.default_rng(0)
    action_N = random.integers(0, 3, 60)
    scene_N = np.concatenate([np.arange(40), np.repeat(np.arange(10), 2)])  # ten scenes occur thrice, thirty once
    groupings = {
        "action": (action_N, ("run", "sit", "wave")),
        "scene": (scene_N, [f"scene {number}" for number in range(40)]),
    }
    features = {name: random.normal(size=(60, 5)) for name in ("baseline", "debiased")}
    charts = embedding(features, groupings)
    assert list(charts) == ["baseline, by action", "baseline, by scene", "debiased, by action", "debiased, by scene"]
    legends = {title: [text.get_text() for text in figure.legends[0].texts] for title, figure in charts.items()}
    assert legends["baseline, by action"] == ["run", "sit", "wave"]
    assert legends["debiased, by scene"] == ["others", *(f"scene {number}" for number in range(10))]
    points = [len(group.get_offsets()) for group in charts["debiased, by scene"].axes[0].collections]
    assert points == [30] + [3] * 10
    colours = [
        [c.get_facecolor().tolist() for c in charts[f"{name}, by action"].axes[0].collections] for name in features
    ]
    assert colours[0] == colours[1]


@given(st.integers(3, 30), st.integers(2, 8), st.integers(0, 2**32 - 1))
def test_principal_components_are_those_of_the_covariance_matrix(clips: int, width: int, seed: int) -> None:
    feature_ND = np.random.default_rng(seed).normal(size=(clips, width)) * np.arange(1, width + 1)
    found = principal_components(feature_ND)
    variance_D, direction_DD = np.linalg.eigh(np.cov(feature_ND.T, bias=True))
    expected_NK = (feature_ND - feature_ND.mean(axis=0)) @ direction_DD[:, ::-1][:, :2]
    np.testing.assert_allclose(np.abs(found.point_NK), np.abs(expected_NK), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found.explained_K, variance_D[::-1][:2] / variance_D.sum(), rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(principal_components(feature_ND + 7).point_NK, found.point_NK, rtol=1e-6, atol=1e-6)


def test_features_that_do_not_vary_are_one_point() -> None:
    found = principal_components(np.ones((5, 3), dtype=np.float32))
    assert not found.point_NK.any()
    assert not found.explained_K.any()


def test_a_strip_shows_frames_in_order_and_enlarges_small_ones() -> None:
    clip_THW3 = np.arange(9, dtype=np.uint8)[:, None, None, None] * np.ones((9, 48, 50, 3), np.uint8)
    strip_HW3 = activation_strip(clip_THW3, frames=3)
    assert strip_HW3.shape == (96, 300, 3)
    assert [strip_HW3[0, column, 0] for column in (0, 100, 200)] == [0, 4, 8]


def test_the_map_colours_what_is_active_and_leaves_the_rest() -> None:
    clip_THW3 = np.full((4, 96, 96, 3), 100, np.uint8)
    map_THW = np.zeros((4, 96, 96), np.float32)
    map_THW[:, :, 48:] = 1
    strip_HW3 = activation_strip(clip_THW3, map_THW, frames=1)
    assert (strip_HW3[:, :48] == 100).all()
    red, green, blue = strip_HW3[0, 90].tolist()
    assert red > 2 * green
    assert red > 2 * blue
    assert strip_HW3.dtype == np.uint8
    assert pytest.approx(red, abs=1) == 0.4 * 100 + 0.6 * 255 * 0.47960
