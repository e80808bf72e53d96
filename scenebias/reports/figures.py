"""The pictures of results: bars with intervals, confusion matrices, features in two dimensions, activation maps.

Charts are small, so that a page sets them beside each other on a desk and below each other on a phone, where they keep
their size and can be read; `report.chart` and `report.grid` put them there.

Shape suffixes: N clips, D features, A actions, T frames, H rows, W columns.
"""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from scenebias.reports.embedding import principal_components
from scenebias.reports.html import frame_rows, some_frames
from scenebias.statistics.intervals import Interval

WIDTH_INCHES = 3.0
FONT_POINTS = 8
COLOURS = matplotlib.colormaps["tab10"](range(10)).tolist()
OTHERS_COLOUR = "0.8"
CLASSES_WITH_NUMBERS = 12
HEAT = matplotlib.colormaps["turbo"]
HEAT_OPACITY = 0.6
LEAST_FRAME_ROWS = 96


def bars(measures: Mapping[str, Mapping[str, Interval]]) -> dict[str, Figure]:
    """One chart a measure: a bar for each arm, from 0 to the mean, with its interval.

    ``measures`` holds, by title and arm, what is to be shown, in the unit to be shown. An arm has the same colour in
    all charts. One whose mean is not a number is named without a bar; an interval that is not is left out.
    """
    arms = list(dict.fromkeys(arm for values in measures.values() for arm in values))
    colour = {arm: COLOURS[place % len(COLOURS)] for place, arm in enumerate(arms)}
    return {title: _bar_chart(values, colour) for title, values in measures.items()}


def _bar_chart(values: Mapping[str, Interval], colour: Mapping[str, Sequence[float]]) -> Figure:
    figure, axis = _small_figure(height_inches=0.45 + 0.22 * len(values))
    start = end = 0.0
    for place, (arm, interval) in enumerate(values.items()):
        if np.isnan(interval.mean):
            axis.text(0, place, " –", va="center", fontsize=FONT_POINTS)
            continue
        axis.barh(place, interval.mean, height=0.7, color=colour[arm])
        low, high = (interval.mean if np.isnan(edge) else edge for edge in (interval.low, interval.high))
        if high > low:
            axis.plot([low, high], [place, place], color="black", linewidth=1, marker="|", markersize=5)
        axis.text(max(high, 0), place, f"  {_short(interval.mean)}", va="center", fontsize=FONT_POINTS)
        start, end = min(start, low), max(end, high)
    axis.set_yticks(range(len(values)), list(values))
    axis.set_ylim(len(values) - 0.4, -0.6)
    axis.set_xlim(1.05 * start, end + 0.2 * (end - start) or 1)  # room for the number
    axis.tick_params(axis="y", length=0)
    axis.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    return figure


def _short(value: float) -> str:
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def confusion_matrix(confusion_AA: np.ndarray, classes: Sequence[str]) -> Figure:
    """Share of the clips of each class (row) that are predicted as each class (column).

    ``confusion_AA`` counts clips, as `Evaluation.confusion_AA`. A class without a clip has an empty row. Classes are
    numbered, by name at their row alone; up to 12 of them come with the percentages, from 1 % on.
    """
    actions = len(classes)
    counts_A1 = confusion_AA.sum(axis=1, keepdims=True)
    share_AA = confusion_AA / np.maximum(counts_A1, 1)
    side = float(np.clip(0.22 * actions, 2.2, 9.0))
    figure, axis = _small_figure(height_inches=side + 0.4, width_inches=side + 1.2)
    axis.imshow(share_AA, cmap="Blues", vmin=0, vmax=1)
    axis.set_xlabel("predicted", fontsize=FONT_POINTS)
    step = -(-actions // 50)
    numbers = range(0, actions, step)
    axis.set_xticks(numbers, [str(number + 1) for number in numbers])
    axis.set_yticks(numbers, [f"{classes[number]}  {number + 1}" for number in numbers])
    axis.tick_params(length=0, labelsize=FONT_POINTS if actions <= 30 else FONT_POINTS - 2)
    axis.spines[:].set_visible(False)
    if actions <= CLASSES_WITH_NUMBERS:
        for row, column in np.argwhere(share_AA >= 0.005):
            share = share_AA[row, column]
            colour = "white" if share > 0.6 else "black"
            axis.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=6, color=colour)
    return figure


def embedding(
    features: Mapping[str, np.ndarray], groupings: Mapping[str, tuple[np.ndarray, Sequence[str]]]
) -> dict[str, Figure]:
    """Features of the same N clips from several models, in their two main directions, once for each way to group them.

    ``features`` are (N, D) by model; ``groupings``, for example by action and by scene, hold the group of each clip,
    int64 (N,), and the groups' names. The ten most frequent groups have colours, the same for every model. The result
    holds charts by title, those of one model after each other.
    """
    charts = {}
    for model, feature_ND in features.items():
        components = principal_components(feature_ND)
        for grouping, (group_N, names) in groupings.items():
            charts[f"{model}, by {grouping}"] = _scatter_chart(
                components.point_NK, components.explained_K, group_N, names
            )
    return charts


def _scatter_chart(point_N2: np.ndarray, explained_2: np.ndarray, group_N: np.ndarray, names: Sequence[str]) -> Figure:
    found, counts = np.unique(group_N, return_counts=True)
    coloured = sorted(found[np.argsort(-counts, kind="stable")][: len(COLOURS)].tolist())
    figure, axis = _small_figure(height_inches=3.8 + 0.16 * -(-len(coloured) // 2), width_inches=4.0)
    size = float(np.clip(3000 / len(group_N), 3, 16))
    others_N = ~np.isin(group_N, coloured)
    if others_N.any():
        axis.scatter(point_N2[others_N, 0], point_N2[others_N, 1], size, OTHERS_COLOUR, linewidths=0, label="others")
    for colour, group in zip(COLOURS, coloured, strict=False):
        point_n2 = point_N2[group_N == group]
        axis.scatter(point_n2[:, 0], point_n2[:, 1], size, [colour], alpha=0.8, linewidths=0, label=names[group])
    x_share, y_share = (f"{100 * share:.0f} % of the variance" for share in explained_2)
    axis.set_xlabel(f"x: {x_share}", fontsize=FONT_POINTS)
    axis.set_ylabel(f"y: {y_share}", fontsize=FONT_POINTS)
    axis.set(xticks=[], yticks=[])
    figure.legend(
        *axis.get_legend_handles_labels(),
        loc="outside lower center",
        ncols=2,
        fontsize=FONT_POINTS - 1,
        frameon=False,
        markerscale=1.5,
        handletextpad=0,
        labelspacing=0.2,
    )
    return figure


def activation_strip(clip_THW3: np.ndarray, map_THW: np.ndarray | None = None, frames: int = 4) -> np.ndarray:
    """A picture, uint8 RGB, of some frames of a clip beside each other, under their activation map if there is one.

    ``clip_THW3`` is uint8; ``map_THW``, 0 to 1, as of `class_activation`: the higher, the redder and less transparent.
    Small frames are enlarged.
    """
    at = some_frames(len(clip_THW3), frames)
    shown_THW3 = clip_THW3[at]
    if map_THW is not None:
        heat_THW = map_THW[at].astype(np.float64)
        opacity_THW1 = HEAT_OPACITY * heat_THW[..., None]
        blended_THW3 = (1 - opacity_THW1) * shown_THW3 + opacity_THW1 * 255 * HEAT(heat_THW)[..., :3]
        shown_THW3 = blended_THW3.round().astype(np.uint8)
    return frame_rows([shown_THW3], scale=-(-LEAST_FRAME_ROWS // shown_THW3.shape[1]))


def _small_figure(*, height_inches: float, width_inches: float = WIDTH_INCHES) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width_inches, height_inches), layout="constrained")
    axis = figure.subplots()
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=FONT_POINTS)
    return figure, axis
