"""Pictures of what was found in a video beside its truth, along its time."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from scenebias.detection.instances import AMBIGUOUS, Segments
from scenebias.localize.found_segments import FoundSegments, Video
from scenebias.reports.figures import COLOURS, FONT_POINTS, OTHERS_COLOUR

SHOWN_VIDEOS = 4
LEAST_SHOWN_SCORE = 0.25
"""Segments that are found with less are not drawn."""
TRUTH = "truth"


def timelines(found: Mapping[str, FoundSegments], shown: int = SHOWN_VIDEOS) -> dict[str, Figure]:
    """A picture for each of some videos, the first in which something happens: a band for the truth, one for each row.

    ``found`` is of the same videos for every row, by its name.
    """
    first = next(iter(found.values()))
    numbers = [number for number, video in enumerate(first.videos) if len(video.truth)][:shown]
    return {
        first.videos[number].name: _timeline({row: one.videos[number] for row, one in found.items()}, first.classes)
        for number in numbers
    }


def _timeline(videos: Mapping[str, Video], classes: Sequence[str]) -> Figure:
    truth = next(iter(videos.values())).truth
    bands = {TRUTH: truth} | {
        row: video.found[video.found.scores >= LEAST_SHOWN_SCORE] for row, video in videos.items()
    }
    labels = sorted({label for band in bands.values() for label in band.label_N.tolist() if label != AMBIGUOUS})
    colour = {label: COLOURS[place % len(COLOURS)] for place, label in enumerate(labels)}
    figure = Figure(figsize=(8.5, 0.9 + 0.3 * len(bands)), layout="constrained")
    axis = figure.subplots()
    for place, segments in enumerate(bands.values()):
        _draw(axis, place, segments, colour)
    axis.set_yticks(range(len(bands)), list(bands))
    axis.set_ylim(len(bands) - 0.4, -0.6)
    axis.set_xlim(0, next(iter(videos.values())).duration_s)
    axis.set_xlabel("seconds", fontsize=FONT_POINTS)
    axis.tick_params(labelsize=FONT_POINTS)
    axis.tick_params(axis="y", length=0)
    axis.spines[["top", "right", "left"]].set_visible(False)
    patches = [Patch(color=colour[label], label=classes[label]) for label in labels]
    if patches:
        figure.legend(handles=patches, loc="outside upper center", ncols=6, fontsize=FONT_POINTS - 1, frameon=False)
    return figure


def _draw(axis: Axes, place: int, segments: Segments, colour: Mapping[int, Sequence[float]]) -> None:
    """A bar for each segment; the surer, the higher."""
    for number, label in enumerate(segments.label_N.tolist()):
        start_s, end_s = float(segments.start_s_N[number]), float(segments.end_s_N[number])
        height = 0.8 if segments.score_N is None else 0.8 * float(segments.score_N[number])
        axis.barh(
            place,
            end_s - start_s,
            left=start_s,
            height=height,
            color=colour.get(label, OTHERS_COLOUR),
            edgecolor="white",
            linewidth=0.5,
        )
