"""The gallery: clips that two models take for different actions, as pictures, and what each says of the swapped clip.

Shape suffixes: M swapped clips, P those that are shown.
"""

import html
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from matplotlib.figure import Figure

from dali_pipelines import ClipBatch
from scenebias.bias.measuring import BiasTest
from scenebias.bias.model_bias import CLEAN, SWAPPED, ModelBias
from scenebias.evaluation.accuracy import Evaluation
from scenebias.reports.html import Section, frame_rows, grid, paragraph, picture, some_frames, table

FRAMES = 5
"""Frames that are shown of a clip."""

_LEAST_FRAME_WIDTH = 96


@dataclass(frozen=True, eq=False)
class Disagreement:
    """A clip that two models take for different actions."""

    action: str
    caption: str
    image_HW3: np.ndarray
    """uint8, frames of the clip, and below of it with another background."""
    said: Mapping[str, tuple[str, str]]
    """What each model, by its name, says of the first and of the second."""


@dataclass(frozen=True, eq=False)
class Gallery:
    """Some such clips, and how many there are."""

    introduction: tuple[str, ...]
    disagreements: tuple[Disagreement, ...]

    def section(self) -> Section:
        """For a page."""
        cards = []
        for shown in self.disagreements:
            said = table(("model", "clip", "swapped"), [(name, *texts) for name, texts in shown.said.items()])
            cards.append(
                f"<div><h3>{html.escape(shown.action)}</h3>{picture(shown.image_HW3, shown.caption)}{said}</div>"
            )
        return Section("Where the models disagree", "".join(map(paragraph, self.introduction)) + grid(cards, 26))

    def figure(self) -> Figure:
        """The clips alone, as one picture."""
        rows = max(1, -(-len(self.disagreements) // 2))
        figure = Figure(figsize=(14, 4 * rows), layout="constrained")
        axes = figure.subplots(rows, 2, squeeze=False).ravel()
        for axis in axes:
            axis.set_axis_off()
        for axis, shown in zip(axes, self.disagreements, strict=False):
            axis.imshow(shown.image_HW3)
            said = [f"{name}: {clip}; swapped: {swapped}" for name, (clip, swapped) in shown.said.items()]
            axis.set_title("\n".join([shown.action, *said]), loc="left", fontsize=10, parse_math=False)
        return figure


def choose_disagreements(first: Evaluation, second: Evaluation, most: int) -> np.ndarray:
    """Which clips, at most so many, two models take for different actions: the greatest differences first.

    The difference is the total variation distance of their predictions, ½ Σ |p - q|.
    """
    distance_M = np.abs(first.probability_NA - second.probability_NA).sum(axis=1) / 2
    differing_M = np.flatnonzero(first.prediction_N != second.prediction_N)
    return differing_M[np.argsort(-distance_M[differing_M], kind="stable")][:most]


def _some_frames(batches: Iterable[ClipBatch]) -> list[np.ndarray]:
    """Some frames of every clip, spread evenly: uint8 (T, H, W, 3) each."""
    clips = [clip_THWC for batch in batches for clip_THWC in batch.clip_BTHWC.cpu().numpy().copy()]
    return [clip[some_frames(len(clip), FRAMES)] for clip in clips]


def _rows(evaluation: Evaluation, sample_M: np.ndarray) -> Evaluation:
    return Evaluation(evaluation.probability_NA[sample_M], evaluation.label_N[sample_M])


def _said(evaluation: Evaluation, place: int, classes: tuple[str, ...]) -> str:
    """A prediction, with its probability and whether it is right."""
    prediction = int(evaluation.prediction_N[place])
    sign = "✓" if prediction == evaluation.label_N[place] else "✗"
    percent = 100 * evaluation.probability_NA[place, prediction]
    return f"{sign}\N{NO-BREAK SPACE}{classes[prediction]} {percent:.0f}\N{NO-BREAK SPACE}%"


def _counts(evaluations: Mapping[str, Evaluation]) -> str:
    """On how many clips which of the two models is right, as a sentence."""
    (first, a), (second, b) = evaluations.items()
    right_a_M, right_b_M = a.prediction_N == a.label_N, b.prediction_N == b.label_N
    return (
        f"Of {len(a.label_N)} clips {first} alone is right on {(right_a_M & ~right_b_M).sum()}, {second} alone on"
        f" {(right_b_M & ~right_a_M).sum()}, both on {(right_a_M & right_b_M).sum()}, neither on"
        f" {(~right_a_M & ~right_b_M).sum()}."
    )


def make_gallery(test: BiasTest, biases: Mapping[str, ModelBias], most: int = 12) -> "Gallery":
    """Where the first two models (``biases`` by their names) disagree, at most so many clips, for one process.

    Only clips that have a swap are shown: `BiasTest.prepare` says whether there are any.
    """
    swaps, val = test.swaps, test.val
    first, second = list(biases)[:2]
    pair = {name: biases[name] for name in (first, second)}
    swapped = {name: bias.evaluations[SWAPPED] for name, bias in pair.items()}
    clean = {name: _rows(bias.evaluations[CLEAN], swaps.sample_M) for name, bias in pair.items()}
    place_P = choose_disagreements(clean[first], clean[second], most)
    shown = swaps.first_windows(place_P)
    alone = replace(test, place=replace(test.place, rank=0, world_size=1))
    clips = _some_frames(alone.loader(val, shown.human_window_K))
    swapped_clips = _some_frames(alone.swapped(shown))
    scale = -(-_LEAST_FRAME_WIDTH // test.clip.size)
    disagreements = []
    for number, place in enumerate(place_P):
        human, other = (val.info(int(sample_M[number])) for sample_M in (shown.sample_M, shown.background_M))
        disagreements.append(
            Disagreement(
                action=human.class_name,
                caption=f"{human.name}, and below before the background of {other.name}",
                image_HW3=frame_rows([clips[number], swapped_clips[number]], scale=scale),
                said={
                    name: (
                        _said(clean[name], place, val.manifest.classes),
                        _said(swapped[name], place, val.manifest.classes),
                    )
                    for name in pair
                },
            )
        )
    introduction = (
        f"Clips that {first} and {second} take for different actions, the greatest differences first.",
        f"As they are: {_counts(clean)} Backgrounds swapped: {_counts(swapped)}",
    )
    return Gallery(introduction, tuple(disagreements))
