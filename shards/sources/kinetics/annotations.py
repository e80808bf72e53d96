"""Annotations of Kinetics, in the three forms that are about: which part of which YouTube video shows which action.

* The official CSV: a header with ``label,youtube_id,time_start,time_end`` and mostly ``split``.
* The official JSON: ``{<youtube id>: {"annotations": {"label", "segment": [start, end]}, "subset", ...}, ...}``.
* A list as trainers use: lines ``<path of the video> <label index>``, whose classes stand in a file of their own.
"""

import csv
import io
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from shards.errors import UserError, each, refuse
from shards.sources.label_files import read_json, read_lines, read_text
from shards.sources.listing import SUBSET_NAMES
from shards.sources.texts import clean, is_class_name, look_alikes

_WANTED = "a CSV or JSON file of Kinetics, or a list of lines '<video> <label index>'"
_REQUIRED = ("label", "youtube_id", "time_start", "time_end")
_ID = re.compile(r"[A-Za-z0-9_-]{11}")
_FILE = re.compile(rf"(?:.*/)?({_ID.pattern})(?:_(\d+)_(\d+))?(?:\.[^./]+)?")
_LIST_LINE = re.compile(r"(.+?)(?:\s+|,)(\d+)")


@dataclass(frozen=True, slots=True)
class KineticsClip:
    """A part of a YouTube video."""

    youtube_id: str
    """11 letters, digits, ``-`` or ``_``; any of them may come first."""
    seconds: tuple[int, int] | None = None
    """Where it starts and ends; None where that is not said."""

    @property
    def stem(self) -> str:
        """The name of its file without extension, as downloaders write it."""
        return self.youtube_id + ("_{:06d}_{:06d}".format(*self.seconds) if self.seconds else "")

    @classmethod
    def of_file(cls, path: str) -> "KineticsClip | None":
        """The clip in a file ``<id>_<start>_<end>.mp4`` or ``<id>.mp4``; None where it has another name."""
        match = _FILE.fullmatch(path)
        if match is None:
            return None
        return cls(match[1], (int(match[2]), int(match[3])) if match[2] else None)


@dataclass(frozen=True, slots=True)
class Annotation:
    """One clip and its action."""

    clip: KineticsClip
    """Which part of which video."""
    label: str
    """Its action."""
    subset: str | None
    """train, val or test; None where the file does not say."""
    where: str
    """File and line, for messages."""


def read_annotations(paths: Sequence[Path], classes: tuple[str, ...] | None) -> list[Annotation]:
    """Read files in any of the forms; ``classes`` are needed for lists.

    Raises:
        UserError: a file cannot be read, lines are malformed, several are about one clip, or labels or subsets differ
            only in case or spaces.
    """
    annotations: dict[KineticsClip, Annotation] = {}
    labels: dict[str, str] = {}
    subsets = dict.fromkeys(SUBSET_NAMES.values(), "Kinetics' own files")
    problems = []
    for annotation in chain.from_iterable(each(lambda path: _read(path, classes), paths)):
        other = annotations.setdefault(annotation.clip, annotation)
        if other is not annotation:
            problems.append(
                f"{annotation.where}: clip {annotation.clip.stem} ({annotation.label}) stands already in "
                f"{other.where} ({other.label}); remove one of the two"
            )
        labels.setdefault(annotation.label, annotation.where)
        subsets.setdefault(annotation.subset or "", annotation.where)
    refuse(problems)
    refuse([*look_alikes(labels, "label"), *look_alikes(subsets, "subset")])
    return list(annotations.values())


def _read(path: Path, classes: tuple[str, ...] | None) -> list[Annotation]:
    if path.suffix.lower() == ".json":
        return _read_json(path)
    text = read_text(path, "--annotations", _WANTED)
    if "youtube_id" in text.partition("\n")[0]:
        return _read_csv(path, text)
    if classes is None:
        raise UserError(f"--annotations {path}: a list without class names; give them with --classes FILE")
    return _read_list(path, classes)


def _read_csv(path: Path, text: str) -> list[Annotation]:
    reader = csv.reader(io.StringIO(text), skipinitialspace=True, strict=True)
    columns = [clean(column) for column in next(reader)]
    if absent := [column for column in _REQUIRED if column not in columns]:
        raise UserError(f"--annotations {path}: has no column {absent[0]!r}; give {_WANTED}")
    label, youtube_id, start, end = (columns.index(column) for column in _REQUIRED)
    split = columns.index("split") if "split" in columns else None

    def read(line: tuple[str, list[str]]) -> Annotation:
        where, cells = line
        if len(cells) != len(columns):
            raise UserError(f"{where}: has {len(cells)} cells, the header {len(columns)}; restore the file")
        subset = None if split is None else cells[split]
        return _annotation(cells[youtube_id], cells[label], (cells[start], cells[end]), subset, where)

    try:
        return each(read, ((f"{path}, line {reader.line_num}", cells) for cells in reader if any(map(clean, cells))))
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: {error}; restore the file") from error


def _read_json(path: Path) -> list[Annotation]:
    videos = read_json(path, "--annotations", _WANTED)
    if not isinstance(videos, dict):
        raise UserError(f"--annotations {path}: expected an object with one entry a video; give {_WANTED}")

    def read(item: tuple[str, Any]) -> Annotation:
        youtube_id, video = item
        where = f"{path}, video {youtube_id}"
        match video:
            case {"annotations": {"label": str(label), "segment": [start, end]}, "subset": str(subset)}:
                return _annotation(youtube_id, label, (start, end), subset, where)
        raise UserError(f"{where}: has no annotations.label, annotations.segment or subset; restore the file")

    return each(read, videos.items())


def _read_list(path: Path, classes: tuple[str, ...]) -> list[Annotation]:
    def read(place: tuple[str, str]) -> Annotation:
        where, line = place
        match = _LIST_LINE.fullmatch(line)
        clip = KineticsClip.of_file(match[1]) if match else None
        if match is None or clip is None:
            raise UserError(f"{where}: expected '<YouTube id>.mp4 <label index>', found {line!r}; correct it")
        index = int(match[2])
        if index >= len(classes):
            raise UserError(f"{where}: label {index} is beyond the {len(classes)} classes of --classes; correct one")
        return Annotation(clip, classes[index], None, where)

    return each(read, read_lines(path, "--annotations", _WANTED))


def _annotation(youtube_id: str, label: str, seconds: tuple[Any, Any], subset: str | None, where: str) -> Annotation:
    youtube_id, label, subset = clean(youtube_id), clean(label), clean(subset or "")
    try:
        start, end = (int(float(time)) for time in seconds)
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(f"{where}: {seconds[0]!r} to {seconds[1]!r} is no time in seconds; restore the file") from error
    if not _ID.fullmatch(youtube_id):
        raise UserError(f"{where}: {youtube_id!r} is no YouTube id of 11 characters; restore the file")
    if not is_class_name(label):
        raise UserError(f"{where}: needs a label without '/' or line breaks, found {label!r}; restore the file")
    return Annotation(
        KineticsClip(youtube_id, (start, end)), sys.intern(label), SUBSET_NAMES.get(subset, subset) or None, where
    )
