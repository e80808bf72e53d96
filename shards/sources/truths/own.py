"""Segments and boxes of one's own videos: CSV files beside them, for the sources that read any data set."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from shards.errors import UserError, each, refuse
from shards.sources.files.file_kinds import is_named_like_a_video
from shards.sources.listing import UNKNOWN_CLASS, utf8_name
from shards.sources.remarks import Remarks, remarks
from shards.sources.texts import clean, look_alikes
from shards.sources.truths.box_table import BoxTable
from shards.sources.truths.listed import ListedTruth
from shards.sources.truths.segment_table import SegmentTable
from shards.sources.truths.untrimmed import NO_ACTION, listed_segments, main_class, most_frequent

STRANGERS = "videos that only --segments or --boxes name"
NO_SEGMENT = "videos of which --segments has no row"
NO_BOX = "videos of which --boxes has no row"


@dataclass(frozen=True, kw_only=True)
class TruthFiles:
    """Files that say what happens within videos, and where."""

    segments: Path | None = None
    """CSV file of actions in time, with the columns video,start_s,end_s,label. Videos then need no class of their own:
    each is of the class of most of its segments."""
    boxes: Path | None = None
    """CSV file of actors in frames, with the columns video,x1,y1,x2,y2,label, frame or time_s, and tube or person_id;
    or AVA's, without a header. Videos then need no class of their own."""

    @property
    def has_truth(self) -> bool:
        """Whether there are any such files."""
        return self.segments is not None or self.boxes is not None

    def truths_of(
        self, paths: Sequence[str], classes: tuple[str, ...] | None, label_places: Mapping[str, str] = {}
    ) -> "VideoTruths":
        """What the files say of videos.

        Args:
            paths: The videos, from the root on. The files may call them so, or by the last part alone, each with or
                without extension.
            classes: Names of the classes, in the order of their labels; None: all labels, sorted.
            label_places: Labels that come from elsewhere, and where they stand.

        Raises:
            UserError: a file cannot be read or is of another form, a label is of no class, or a name of several videos.
        """
        segments = None if self.segments is None else SegmentTable.read(self.segments, "--segments")
        boxes = None if self.boxes is None else BoxTable.read(self.boxes, "--boxes", classes)
        tables = _Tables(segments, boxes)
        places = {**label_places} | tables.label_places()
        if classes is None:
            refuse(look_alikes(places, "label"))
            classes = tuple(sorted(places))
        refuse(
            f"{where}: label {name!r} is not among the {len(classes)} classes; correct it, or add it to --classes"
            for name, where in places.items()
            if name not in classes
        )
        labels = {name: label for label, name in enumerate(classes)}
        called, strangers = tables.names_of(paths)
        return VideoTruths(
            classes,
            {path: tables.video(names, labels) for path, names in called.items()},
            {
                name: (tables.video(names, labels).class_name or UNKNOWN_CLASS, tables.where(names[0]))
                for name, names in strangers.items()
            },
            tables.video((), labels).truth,
            tables.other_columns(),
        )


@dataclass(frozen=True)
class AnnotatedVideo:
    """What the files say of one video."""

    class_name: str | None
    """The class of most of its segments, or, where it has none, of most of what its actors do; None: no class."""
    truth: ListedTruth
    """All of it."""


@dataclass(frozen=True)
class VideoTruths:
    """What the files say, by video."""

    classes: tuple[str, ...]
    """Names of the classes, in the order of their labels."""
    videos: Mapping[str, AnnotatedVideo]
    """Those of the videos that they name, by path."""
    strangers: Mapping[str, tuple[str, str]]
    """By name what they speak of and is none of the videos: its class, and where it stands."""
    nothing: ListedTruth
    """What they say of a video that they do not name."""
    other_columns: Sequence[str]
    """Columns that are not read."""

    def class_of(self, path: str) -> str | None:
        """The class of a video; None where they tell none."""
        return self.videos[path].class_name if path in self.videos else None

    def truth_of(self, path: str) -> ListedTruth:
        """What they say of a video."""
        return self.videos[path].truth if path in self.videos else self.nothing

    def remarks(self, kept: Iterable[str], left_out: Iterable[str]) -> Remarks:
        """What should be known of videos that are ``kept``, those ``left_out`` for want of a class, and others."""
        found = [(utf8_name(path), self.truth_of(path)) for path in kept]
        return remarks(
            {
                STRANGERS: (f"{name} ({where})" for name, (_, where) in self.strangers.items()),
                NO_ACTION: map(utf8_name, left_out),
                NO_SEGMENT: (path for path, truth in found if truth.segments == ()),
                NO_BOX: (path for path, truth in found if truth.boxes is not None and not len(truth.boxes.rows)),
            }
        )


def clip_name(class_name: str, path: str) -> str:
    """What a clip of a whole video is called."""
    return f"{class_name}/{_without_suffix(clean(utf8_name(PurePosixPath(path).name)))}"


@dataclass(frozen=True)
class _Tables:
    """The files that there are."""

    segments: SegmentTable | None
    boxes: BoxTable | None

    def names(self) -> list[str]:
        """All that is called a video."""
        of_segments = self.segments.of_video if self.segments else ()
        of_boxes = self.boxes.numbers_of_video if self.boxes else ()
        return list(dict.fromkeys([*of_segments, *of_boxes]))

    def where(self, name: str) -> str:
        """Where a video is called so first."""
        if self.segments and name in self.segments.of_video:
            return self.segments.of_video[name][0].where
        assert self.boxes is not None
        return self.boxes.where(name)

    def names_of(self, paths: Sequence[str]) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
        """How the files call each of the videos that they name; and, by name without extension, any others."""
        videos, names = _VideoNames(paths), self.names()
        found = each(lambda name: videos.find(name, self.where(name)), names)
        called: defaultdict[str, list[str]] = defaultdict(list)
        strangers: defaultdict[str, list[str]] = defaultdict(list)
        for name, video in zip(names, found, strict=True):
            (strangers[_without_suffix(name)] if video is None else called[video]).append(name)
        return {path: called[path] for path in paths if path in called}, strangers

    def video(self, names: Sequence[str], labels: Mapping[str, int]) -> AnnotatedVideo:
        """What is said of a video that is called so."""
        segments = boxes = class_name = None
        if self.segments is not None:
            found = [segment for name in names for segment in self.segments.of_video.get(name, ())]
            segments, class_name = listed_segments(found, labels), main_class(found, labels)
        if self.boxes is not None:
            boxes = self.boxes.listed(names, labels)
            class_name = class_name or most_frequent(self.boxes.class_counts(names), labels)
        return AnnotatedVideo(class_name, ListedTruth(segments, boxes))

    def label_places(self) -> dict[str, str]:
        """Every label, and where it stands."""
        places: dict[str, str] = {}
        if self.boxes is not None:
            places |= self.boxes.label_places
        if self.segments is not None:
            places |= self.segments.label_places
        return places

    def other_columns(self) -> list[str]:
        """Columns that are not read."""
        of_segments = self.segments.other_columns if self.segments else ()
        return [*of_segments, *(self.boxes.other_columns if self.boxes else ())]


class _VideoNames:
    """Finds videos by what others call them."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._by_path: defaultdict[str, list[str]] = defaultdict(list)
        self._by_end: defaultdict[str, list[str]] = defaultdict(list)
        for path in paths:
            spelled = PurePosixPath(clean(utf8_name(path)))
            for found, name in ((self._by_path, str(spelled)), (self._by_end, spelled.name)):
                for key in dict.fromkeys((name, _without_suffix(name))):
                    found[key].append(path)

    def find(self, name: str, where: str) -> str | None:
        """The video that is called so, None where there is none; a UserError where there are several."""
        found = self._by_path.get(name) or self._by_end.get(name) or []
        if len(found) > 1:
            raise UserError(
                f"{where}: {name!r} may be {found[0]!a} or {found[1]!a}; write the whole path from the root on"
            )
        return found[0] if found else None


def _without_suffix(name: str) -> str:
    return str(PurePosixPath(name).with_suffix("")) if is_named_like_a_video(name) else name
