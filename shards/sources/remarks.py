"""What a user should know of the lists and files beside the clips: the kinds of remarks, and how some are found."""

import sys
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import TypeVar

from shards.decoding.archive_member import are_one_file
from shards.sources.listing import ClipEntry, utf8_name
from shards.sources.texts import some

OTHER_ROWS = "rows of no subset asked for"
OTHER_COLUMNS = "columns that are not read"
FOLDERS_WITHOUT_VIDEO = "folders without a video, which are no classes"
FOLDERS_OF_FOLDERS = "classes that hold folders alone (is --root one level too high?)"
REPLACED = "videos for which there is a replacement"
TWO_LABELS = "clips with two labels"
TWO_CLASSES = "files with clips of two classes"
TWO_SUBSETS = "clips of two subsets"
REPEATED = "clips that are there twice"

Remarks = dict[str, tuple[str, ...]]
_Use = TypeVar("_Use")


def remarks(found: dict[str, Iterable[str]]) -> Remarks:
    """Those of which there are any."""
    return {kind: whole for kind, items in found.items() if (whole := tuple(items))}


def other_rows(subsets: Iterable[str]) -> list[str]:
    """How many rows there are of each of the subsets of the rows."""
    return [f"{subset or '(none)'}: {count}" for subset, count in sorted(Counter(subsets).items())]


def files_of_two_classes(numbered: Iterable[tuple[int, ClipEntry]]) -> Remarks:
    """Which files, be they reached by several names, have clips of two classes; and which of these are the same clip.

    Args:
        numbered: The clips, each with the number of its file. Equal numbers may also come from two disks.
    """
    return _of_two_classes(
        entries for entries in _by_file(numbered) if len({e.class_name for e in entries}) > 1 and _are_one_file(entries)
    )


def clips_of_two_subsets(numbered: Iterable[tuple[int, tuple[ClipEntry, str]]]) -> Remarks:
    """Which clips of different subsets have frames of one file in common.

    Args:
        numbered: The clips with their subsets, each with the number of its file, as of `files_of_two_classes`.
    """
    found = []
    for uses in _by_file(numbered):
        if len({subset for _, subset in uses}) > 1 and _are_one_file([entry for entry, _ in uses]):
            for clash in _clashes(uses):
                found.append(some([f"{_shown(entry)} of {subset or '(none)'}" for entry, subset in clash]))
    return remarks({TWO_SUBSETS: found})


def equal_files(contents: Iterable[tuple[str, ClipEntry]]) -> Remarks:
    """Which clips are there twice, and which have two classes, where files of equal content are one file.

    Args:
        contents: The clips, each with the checksum of its file.
    """
    files = list(_by_file(contents))
    repeated = []
    for entries in files:
        alike: defaultdict[tuple[str, tuple[int, int]], list[ClipEntry]] = defaultdict(list)
        for entry in entries:
            alike[entry.class_name, _frames(entry)].append(entry)
        repeated += [some([*map(_shown, same)]) for same in alike.values() if len(same) > 1]
    return remarks({REPEATED: repeated}) | _of_two_classes(files)


def _by_file(numbered: Iterable[tuple[Hashable, _Use]]) -> Iterator[list[_Use]]:
    """What is made of each file of which several things are made."""
    uses: defaultdict[Hashable, list[_Use]] = defaultdict(list)
    for number, use in numbered:
        uses[number].append(use)
    return (several for several in uses.values() if len(several) > 1)


def _of_two_classes(files: Iterable[list[ClipEntry]]) -> Remarks:
    same_clip: list[str] = []
    same_file: list[str] = []
    for entries in files:
        clashes = _clashes([(entry, entry.class_name) for entry in entries])
        same_clip += [some([_shown(entry) for entry, _ in clash]) for clash in clashes]
        if not clashes and len({entry.class_name for entry in entries}) > 1:
            same_file.append(some([*map(_shown, entries)]))
    return remarks({TWO_LABELS: same_clip, TWO_CLASSES: same_file})


def _clashes(uses: Sequence[tuple[ClipEntry, str]]) -> list[list[tuple[ClipEntry, str]]]:
    """The clips of a file that have frames in common with one of another group; apart, where they lie apart."""
    ordered = sorted(uses, key=lambda use: _frames(use[0]))
    clashing: set[int] = set()
    # The furthest end so far, and the furthest of a group other than that.
    furthest, its_group, others_furthest = 0, None, 0
    for i, (entry, group) in enumerate(ordered):
        start, end = _frames(entry)
        if start < (others_furthest if group == its_group else furthest):
            clashing.add(i)
        if group == its_group:
            furthest = max(furthest, end)
        elif end > furthest:
            furthest, its_group, others_furthest = end, group, furthest
        else:
            others_furthest = max(others_furthest, end)
    next_start, next_group, next_others_start = sys.maxsize, None, sys.maxsize
    for i in reversed(range(len(ordered))):
        (start, end), group = _frames(ordered[i][0]), ordered[i][1]
        if group != next_group:
            next_others_start, next_group = next_start, group
        next_start = start
        if next_others_start < end:
            clashing.add(i)
    found: list[list[tuple[ClipEntry, str]]] = []
    reach = 0
    for i in sorted(clashing):
        start, end = _frames(ordered[i][0])
        if start >= reach:
            found.append([])
        found[-1].append(ordered[i])
        reach = max(reach, end)
    return found


def _frames(entry: ClipEntry) -> tuple[int, int]:
    return entry.start_frame or 0, entry.end_frame or sys.maxsize


def _shown(entry: ClipEntry) -> str:
    return f"{entry.name} ({utf8_name(entry.path.name)})"


def _are_one_file(entries: Sequence[ClipEntry]) -> bool:
    paths = {entry.path for entry in entries}
    first = paths.pop()
    return all(are_one_file(first, path) for path in paths)
