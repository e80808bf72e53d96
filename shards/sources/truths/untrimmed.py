"""Long videos with actions in them: what THUMOS'14 and ActivityNet, and the JSON files made of them, say of each.

The JSON forms that are about hold an object of videos, or one with such an object as its ``database``. A video has
``annotations``, a list of ``{"label", "segment": [start, end]}``, or the two lists ``labels`` and ``segments``; times
are in seconds. Some tell the ``subset``, the length and the frame rate.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from shards.errors import UserError, each, refuse
from shards.sources.clip_lists import ListedClip, locate_clips
from shards.sources.label_files import read_json
from shards.sources.listing import SUBSET_NAMES, Listing
from shards.sources.remarks import remarks
from shards.sources.texts import clean, is_class_name, look_alikes
from shards.sources.truths.listed import ListedSegment, ListedTruth, VideoPromise

NOT_LONG = "segments that do not end after they start, left out"
NO_ACTION = "videos without an action, left out"


class NamedSegment(NamedTuple):
    """An action in time."""

    start_s: float
    """Where it begins, in seconds from the start of the video."""
    end_s: float
    """Where it ends."""
    class_name: str | None
    """Its class; None: ambiguous."""
    where: str
    """The name of the file and the place in it, for messages."""


@dataclass(frozen=True)
class UntrimmedVideo:
    """A video and what happens in it."""

    name: str
    """The name of its file without extension."""
    subset: str
    """The subset that it belongs to; empty where that is not said."""
    segments: tuple[NamedSegment, ...]
    """Its actions in time."""
    promise: VideoPromise
    """Where it stands, and what is said of it there."""


def named_segment(times: Sequence[Any], class_name: str | None, where: str) -> NamedSegment:
    """A segment between two times in seconds, as numbers or text; a UserError where they are none."""
    try:
        start_s, end_s = (float(time) for time in times)
    except (TypeError, ValueError) as error:
        raise UserError(f"{where}: expected two times in seconds, found {times!r}; restore the file") from error
    if not (math.isfinite(start_s) and math.isfinite(end_s) and start_s >= 0):
        raise UserError(f"{where}: {start_s:g} to {end_s:g} is no time in a video; restore the file")
    return NamedSegment(start_s, end_s, class_name, where)


def read_videos(path: Path, option: str, wanted: str, ambiguous: str | None = None) -> list[UntrimmedVideo]:
    """Read a JSON file of any of the forms; ``ambiguous`` is the label that is no class.

    Raises:
        UserError: the file cannot be read, or a video is described in another form.
    """
    content = read_json(path, option, wanted)
    if isinstance(content, dict):
        content = content.get("database", content)
    if not isinstance(content, dict):
        raise UserError(f"{option} {path}: expected an object with one entry a video; give {wanted}")

    def read(item: tuple[str, Any]) -> UntrimmedVideo:
        name, video = item
        where = f"{path.name}, video {name}"
        match video:
            case {"annotations": list(annotations)}:
                pairs = [_pair(annotation, where, number) for number, annotation in enumerate(annotations)]
            case {"segments": list(segments), "labels": list(labels)} if len(segments) == len(labels):
                pairs = list(zip(segments, labels, strict=True))
            case _:
                raise UserError(f"{where}: has neither annotations nor segments with as many labels; give {wanted}")
        found = [
            _segment(times, label, f"{where}, segment {number}", ambiguous)
            for number, (times, label) in enumerate(pairs)
        ]
        subset = clean(str(video.get("subset", ""))).casefold()
        return UntrimmedVideo(clean(name), SUBSET_NAMES.get(subset, subset), tuple(found), _promise(video, where))

    return each(read, content.items())


def _pair(annotation: Any, where: str, number: int) -> tuple[Any, Any]:
    match annotation:
        case {"segment": segment, "label": label}:
            return segment, label
    raise UserError(f"{where}, segment {number}: has no segment or label; restore the file")


def _segment(times: Any, label: Any, where: str, ambiguous: str | None) -> NamedSegment:
    if not isinstance(label, str) or not is_class_name(clean(label)):
        raise UserError(f"{where}: needs a label without '/' or line breaks, found {label!r}; restore the file")
    class_name = clean(label)
    return named_segment(times, None if class_name == ambiguous else class_name, where)


def _promise(video: dict[str, Any], where: str) -> VideoPromise:
    """What is said of a video; frame counts are not needed, since times are in seconds."""

    def number(*names: str) -> float | None:
        found = [video[name] for name in names if isinstance(video.get(name), int | float) and video[name] > 0]
        return float(found[0]) if found else None

    return VideoPromise(where, fps=number("fps", "FPS"), duration_s=number("duration", "duration_second"))


def untrimmed_listing(
    dataset: str, root: Path, subset: str, classes: tuple[str, ...] | None, videos: Iterable[UntrimmedVideo]
) -> Listing:
    """The videos of ``subset``, or of none that is said; each is of the class of most of its segments.

    Args:
        dataset: Name of the data set.
        root: Folder of the videos.
        subset: Those to look for.
        classes: Names of the classes; None: all that there are segments of, sorted.
        videos: Those of all subsets.

    Raises:
        UserError: a segment is of no class, or as of `locate_clips`.
    """
    videos = list(videos)
    places: dict[str, str] = {}
    for video in videos:
        for segment in video.segments:
            if segment.class_name is not None:
                places.setdefault(segment.class_name, segment.where)
    if classes is None:
        refuse(look_alikes(places, "label"))
        classes = tuple(sorted(places))
    labels = {name: label for label, name in enumerate(classes)}
    refuse(
        f"{where}: class {name!r} is not among the {len(classes)} classes; correct the label, or give the classes"
        for name, where in places.items()
        if name not in labels
    )
    listed, without, short = [], [], []
    for video in videos:
        own_subset = video.subset or subset
        segments = tuple(segment for segment in video.segments if segment.start_s < segment.end_s)
        class_name = main_class(segments, labels)
        if own_subset == subset:
            short += [segment.where for segment in video.segments if segment not in segments]
            without += [video.name] if class_name is None else []
        if class_name is not None:
            truth = ListedTruth(listed_segments(segments, labels), promise=video.promise)
            listed.append(ListedClip(f"{video.name}.mp4", class_name, own_subset, video.promise.where, truth=truth))
    located = locate_clips(root, listed, subset)
    told = located.remarks | remarks({NO_ACTION: without, NOT_LONG: short})
    return Listing(dataset, "1", subset, classes, *located[:3], remarks=told, may_lack_classes=True)


def listed_segments(segments: Sequence[NamedSegment], labels: Mapping[str, int]) -> tuple[ListedSegment, ...]:
    """The segments of a video, of ``labels`` by class name."""
    return tuple(
        ListedSegment(start_s, end_s, None if name is None else labels[name], where)
        for start_s, end_s, name, where in segments
    )


def main_class(segments: Iterable[NamedSegment], labels: Mapping[str, int]) -> str | None:
    """The class of most segments, of several the first one; None where there are only ambiguous ones."""
    return most_frequent(Counter(name for *_, name, _ in segments if name is not None), labels)


def most_frequent(counts: Mapping[str, int], labels: Mapping[str, int]) -> str | None:
    """The class that is counted most, of several the first one; None where none is."""
    return min(counts, key=lambda name: (-counts[name], labels[name]), default=None)
