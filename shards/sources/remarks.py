"""What a user should know of the lists and files beside the clips: the kinds of remarks, and how some are found."""

import sys
from collections import Counter, defaultdict
from collections.abc import Iterable

from shards.sources.listing import ClipEntry, utf8_name

OTHER_ROWS = "rows of no subset asked for"
OTHER_COLUMNS = "columns that are not read"
FOLDERS_WITHOUT_VIDEO = "folders without a video, which are no classes"
REPLACED = "videos for which there is a replacement"
TWO_LABELS = "clips with two labels"
TWO_CLASSES = "files with clips of two classes"

Remarks = dict[str, tuple[str, ...]]


def remarks(found: dict[str, Iterable[str]]) -> Remarks:
    """Those of which there are any."""
    return {kind: whole for kind, items in found.items() if (whole := tuple(items))}


def other_rows(subsets: Iterable[str]) -> list[str]:
    """How many rows there are of each of the subsets of the rows."""
    return [f"{subset or '(none)'}: {count}" for subset, count in sorted(Counter(subsets).items())]


def files_of_two_classes(numbered: Iterable[tuple[int, ClipEntry]]) -> Remarks:
    """Which files, be they reached by several names, have clips of two classes; and whether these are the same clip.

    Args:
        numbered: The clips, each with the number of its file. Equal numbers may also come from two disks.
    """
    clips: defaultdict[int, list[ClipEntry]] = defaultdict(list)
    for number, entry in numbered:
        clips[number].append(entry)
    same_clip: list[str] = []
    same_file: list[str] = []
    for entries in clips.values():
        if len({entry.class_name for entry in entries}) > 1 and _are_one_file(entries):
            shown = ", ".join(f"{entry.name} ({utf8_name(entry.path.name)})" for entry in entries)
            (same_clip if _overlap(entries) else same_file).append(shown)
    return remarks({TWO_LABELS: same_clip, TWO_CLASSES: same_file})


def _are_one_file(entries: list[ClipEntry]) -> bool:
    paths = {entry.path for entry in entries}
    first = paths.pop()
    return all(first.samefile(path) for path in paths)


def _overlap(entries: list[ClipEntry]) -> bool:
    """Whether clips of different classes have frames in common."""
    ranges = sorted((entry.start_frame or 0, entry.end_frame or sys.maxsize, entry.class_name) for entry in entries)
    ends: dict[str, int] = {}
    for start, end, class_name in ranges:
        if any(start < other_end for other, other_end in ends.items() if other != class_name):
            return True
        ends[class_name] = max(end, ends.get(class_name, 0))
    return False
