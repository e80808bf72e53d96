"""Average precision by its definition, in plain Python: slow, and independent of the code that it tests."""

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import torch
from hypothesis import strategies as st

from scenebias.detection.instances import AMBIGUOUS, Segments


class Segment(NamedTuple):
    start: int
    end: int
    label: int
    score: int = 0


Video = list[Segment]


def overlap(one: Segment, other: Segment) -> Fraction:
    shared = max(0, min(one.end, other.end) - max(one.start, other.start))
    return Fraction(shared, (one.end - one.start) + (other.end - other.start) - shared)


def hits_of_a_video(found: Video, truth: Video, label: int, threshold: Fraction, protocol: str) -> list[str]:
    """ "right", "wrong" or "not counted" for each of ``found``."""
    own = [number for number, one in enumerate(found) if one.label == label]
    own.sort(key=lambda number: -found[number].score)
    true = [one for one in truth if one.label == label]
    right = set()
    if protocol == "voc":
        for number in own:
            open_ones = [one for one in true if overlap(found[number], one) >= threshold]
            if open_ones:
                true.remove(max(open_ones, key=lambda one: overlap(found[number], one)))
                right.add(number)
    else:
        for one in true:
            free = [number for number in own if number not in right and overlap(found[number], one) > threshold]
            if free:
                right.add(max(free, key=lambda number: overlap(found[number], one)))
    unclear = [one for one in truth if one.label == AMBIGUOUS and protocol == "thumos"]
    verdicts = []
    for number, one in enumerate(found):
        spared = any(overlap(one, other) > 0 for other in unclear)
        verdicts.append("right" if number in right else "not counted" if spared else "wrong")
    return verdicts


def average_precision(
    found: Sequence[Video], truth: Sequence[Video], label: int, threshold: Fraction, protocol: str
) -> Fraction | None:
    """None: there is no truth."""
    true_count = sum(one.label == label for video in truth for one in video)
    if not true_count:
        return None
    judged = [
        (one.score, verdict)
        for f, t in zip(found, truth, strict=True)
        for one, verdict in zip(f, hits_of_a_video(f, t, label, threshold, protocol), strict=True)
        if one.label == label and verdict != "not counted"
    ]
    curve = []
    for least in sorted({score for score, _ in judged}, reverse=True):
        down_to_here = [verdict for score, verdict in judged if score >= least]
        right = down_to_here.count("right")
        curve.append((Fraction(right, true_count), Fraction(right, len(down_to_here))))
    area, before = Fraction(0), Fraction(0)
    for number, (recall, precision) in enumerate(curve):
        height = max(p for _, p in curve[number:]) if protocol == "voc" else precision
        area += (recall - before) * height
        before = recall
    return area


def tensors(video: Video, *, scored: bool) -> Segments:
    start, end, label, score = (torch.tensor([one[column] for one in video]) for column in range(4))
    return Segments(
        start_s_N=start.double(),
        end_s_N=end.double(),
        label_N=label.long(),
        score_N=score.double() if scored else None,
    )


def segments(classes: int, *, ambiguous: bool) -> st.SearchStrategy[Segment]:
    """On so few places and of so few scores that ties, duplicates and equal overlaps are common."""
    return st.builds(
        lambda start, length, label, score: Segment(start, start + length, label, score),
        st.integers(0, 8),
        st.integers(1, 5),
        st.integers(AMBIGUOUS if ambiguous else 0, classes - 1),
        st.integers(0, 4),
    )


def videos(classes: int) -> st.SearchStrategy[tuple[list[Video], list[Video]]]:
    """What was found in up to four videos, and their truth; of either there may be nothing."""
    video = st.tuples(
        st.lists(segments(classes, ambiguous=False), max_size=7),
        st.lists(segments(classes, ambiguous=True), max_size=5),
    )
    return st.lists(video, min_size=1, max_size=4).map(lambda pairs: ([f for f, _ in pairs], [t for _, t in pairs]))
