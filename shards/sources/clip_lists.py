"""Data sets that list their clips by file name: which are there, which are missing, which files nobody listed.

A clip is found by the name of its file, wherever below the root that lies and whatever its video suffix. So every usual
unpacking will do: a folder a class, all in one folder, transcoded. Upper and lower case do not count.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from shards.errors import refuse
from shards.sources.files.video_files import read_video_tree
from shards.sources.listing import ClipEntry, MissingClip
from shards.sources.remarks import OTHER_ROWS, Remarks, files_of_two_classes, other_rows, remarks
from shards.sources.texts import clean
from shards.sources.truths.listed import ListedTruth


@dataclass(frozen=True, slots=True)
class ListedClip:
    """A line of a label file."""

    path: str
    """Where the data set as published has the video, below the root."""
    class_name: str
    """Action class."""
    subset: str
    """The side of the split on which it is."""
    where: str
    """The line itself, for messages."""
    start_frame: int | None = None
    """The first frame of the clip; None: that of the video."""
    end_frame: int | None = None
    """The frame after its last; None: the video's end."""
    truth: ListedTruth | None = None
    """What label files say happens within the video; None: nothing."""

    @property
    def name(self) -> str:
        """The file's name without extension."""
        return clean(PurePosixPath(self.path).stem)


class LocatedClips(NamedTuple):
    """The last fields of a `Listing`."""

    clips: tuple[ClipEntry, ...]
    """As of `Listing`."""
    missing: tuple[MissingClip, ...]
    """As of `Listing`."""
    unlisted: tuple[str, ...]
    """As of `Listing`."""
    remarks: Remarks
    """As of `Listing`."""


def locate_clips(
    root: Path, listed: Iterable[ListedClip], subset: str, is_beside: Callable[[str], bool] = lambda name: False
) -> LocatedClips:
    """Find the clips of ``subset``, in the order of the lists.

    Args:
        root: Folder of the videos.
        listed: The clips of all subsets.
        subset: Those to look for.
        is_beside: Whether a video, by the name of its file without extension, is known to be of another data set that
            may lie in the same folder, so that nothing need be said of it.

    Raises:
        UserError: ``root`` is no folder, or clips are listed twice or there twice.
    """
    lists = _by_name(listed)
    tree = read_video_tree(root, "the folder that holds the videos")
    files: defaultdict[str, list[str]] = defaultdict(list)
    for video in tree.videos:
        files[_key(video)].append(video)
    clips, missing, problems = [], [], []
    for key, listed_clip in lists.items():
        if listed_clip.subset != subset:
            continue
        name = f"{listed_clip.class_name}/{listed_clip.name}"
        match files.get(key, []):
            case []:
                missing.append(MissingClip(name, root / listed_clip.path, listed_clip.class_name))
            case [video]:
                start, end = listed_clip.start_frame, listed_clip.end_frame
                path = tree.path_of(video)
                clips.append(ClipEntry(name, path, listed_clip.class_name, start, end, listed_clip.truth))
            case [first, second, *_]:
                problems.append(
                    f"--root {root}: clip {name!r} is there twice, as {tree.shown(first)} and {tree.shown(second)}; "
                    "remove one"
                )
    refuse(problems)
    others = (listed_clip.subset for listed_clip in lists.values() if listed_clip.subset != subset)
    return LocatedClips(
        tuple(clips),
        tuple(missing),
        tree.unlisted(lambda video: _key(video) in lists or is_beside(clean(PurePosixPath(video).stem))),
        remarks({OTHER_ROWS: other_rows(others)})
        | files_of_two_classes((tree.file_id(entry), entry) for entry in clips),
    )


def _by_name(listed: Iterable[ListedClip]) -> dict[str, ListedClip]:
    lists: dict[str, ListedClip] = {}
    problems = []
    for listed_clip in listed:
        other = lists.setdefault(listed_clip.name.casefold(), listed_clip)
        if other is not listed_clip:
            problems.append(
                f"{listed_clip.where}: clip {listed_clip.name!r} is listed already, in {other.where}; "
                "remove one of the two lines"
            )
    refuse(problems)
    return lists


def _key(path: str) -> str:
    return clean(PurePosixPath(path).stem).casefold()
