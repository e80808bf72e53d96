"""Which videos lie below a folder: every folder is read once, no file is touched, so 300,000 clips take seconds.

Only of a file whose suffix does not tell what it is, the beginning is decoded.
"""

import errno
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from shards.errors import UserError
from shards.sources.file_kinds import holds_video, is_named_like_a_video, is_unfinished
from shards.sources.label_files import require_folder
from shards.sources.listing import ClipEntry, utf8_name
from shards.sources.texts import clean

PASSED_FOLDERS = frozenset(
    {
        "__MACOSX",
        "lost+found",
        "System Volume Information",
        *("$RECYCLE.BIN", "RECYCLER"),
        *("@eaDir", "#recycle", "#snapshot", "@Recycle", "@Recently-Snapshot"),  # of network storage
    }
)
"""Folders that systems leave beside the videos: what is in them are no videos, or such as were thrown away."""


@dataclass(frozen=True)
class VideoTree:
    """What lies below ``root``: paths from there, with ``/``, in order. What begins with a dot does not count."""

    root: Path
    """The folder."""
    videos: tuple[str, ...]
    """The videos."""
    folders: tuple[str, ...]
    """All folders, the root itself as an empty path."""
    oddities: tuple[str, ...]
    """What looks like a video and is not read, and links that lead nowhere or to a folder read before, each with that
    remark."""
    file_ids: Mapping[str, int] = field(default_factory=dict, repr=False)
    """The number that the file system has for the file of each of the videos."""

    def clips(self, classes: Collection[str], *, deep: bool = False) -> Iterator[ClipEntry]:
        """The videos in the folders that are named like ``classes``: directly, or ``deep`` in folders below too."""
        for video in self.videos:
            folder, *parts = PurePosixPath(video).with_suffix("").parts
            class_name = clean(folder)
            if class_name in classes and (len(parts) == 1 or (deep and parts)):
                name = "/".join([class_name, *(clean(utf8_name(part)) for part in parts)])
                yield ClipEntry(name, self.root / video, sys.intern(class_name))

    def file_id(self, entry: ClipEntry) -> int:
        """The number of the file of ``entry``, which must be one of the videos."""
        return self.file_ids[str(entry.path.relative_to(self.root))]

    def unlisted(self, is_listed: Callable[[str], bool]) -> tuple[str, ...]:
        """The oddities, and the videos that no list names; a folder that holds nothing else stands for its videos."""
        siblings: defaultdict[str, list[str]] = defaultdict(list)
        for video in self.videos:
            siblings[video.rpartition("/")[0]].append(video)
        found = [*self.oddities]
        for folder, videos in siblings.items():
            strangers = [video for video in videos if not is_listed(video)]
            if folder and len(strangers) == len(videos) > 1:
                found.append(f"{folder}/ ({len(videos)} videos)")
            else:
                found += strangers
        return tuple(sorted(utf8_name(path) for path in found))


def read_video_tree(root: Path, wanted: str) -> VideoTree:
    """Walk through ``root``. Links to folders are followed after all real folders, and none is read twice.

    Raises:
        UserError: ``root`` is no folder (``wanted`` tells what it should hold), or one below it cannot be read.
    """
    require_folder(root, "--root", wanted)
    videos: dict[str, int] = {}
    folders: list[str] = []
    oddities: list[str] = []
    seen: set[tuple[int, int]] = set()
    links = [""]
    while links:
        links.sort()
        pending = [links.pop(0)]
        while pending:
            folder = pending.pop()
            children = _read_folder(root, folder, seen)
            if children is None:
                oddities.append(f"{folder}/ (leads to a folder that is read already)")
                continue
            folders.append(folder)
            for child in children:
                path = f"{folder}/{child.name}" if folder else child.name
                match file_id(child):
                    case "folder" if child.name in PASSED_FOLDERS:
                        pass
                    case "folder":
                        (links if child.is_symlink() else pending).append(path)
                        if is_named_like_a_video(path):
                            oddities.append(f"{path}/ (a folder, not a video)")
                    case "nothing":
                        oddities += _nothing(path, child)
                    case int(number) if _is_video(root, path, child.name):
                        videos[path] = number
                    case _:
                        oddities += _passed_over(path, child.name)
    return VideoTree(root, _in_order(videos), _in_order(folders), tuple(oddities), videos)


def file_id(entry: os.DirEntry[str]) -> int | str:
    """The number that the file system has for a file, that to which a link leads; else ``folder`` or ``nothing``."""
    try:
        if entry.is_dir():
            return "folder"
        if entry.is_file():
            return entry.stat().st_ino if entry.is_symlink() else entry.inode()
    except OSError as error:
        if error.errno != errno.ELOOP:  # what may not be seen, as reading it will say; no link that leads to itself
            return entry.inode()
    return "nothing"


def _is_video(root: Path, path: str, name: str) -> bool:
    if name.startswith(".") or is_unfinished(name):
        return False
    return is_named_like_a_video(name) or holds_video(root / path)


def _nothing(path: str, child: os.DirEntry[str]) -> Iterator[str]:
    """A remark on what is neither file nor folder, where it looks like a video."""
    if child.name.startswith("."):
        return
    if child.is_symlink():
        yield f"{path} (a link that leads nowhere)"
    elif is_named_like_a_video(path):
        yield f"{path} (not a regular file)"


def _passed_over(path: str, name: str) -> Iterator[str]:
    """A remark on a file that is not read, where it looks like a video. AppleDouble files, ``._x.mp4``, are none."""
    if name.startswith("."):
        if not name.startswith("._") and is_named_like_a_video(name):
            yield f"{path} (hidden: its name begins with a dot)"
    elif is_unfinished(name):
        yield f"{path} (the rest of a download, or compressed)"


def _read_folder(root: Path, folder: str, seen: set[tuple[int, int]]) -> list[os.DirEntry[str]] | None:
    """What is directly in a folder, but for hidden folders; None if it was ``seen``, to which it is added."""
    try:
        status = (root / folder).stat()
        identity = (status.st_dev, status.st_ino)
        if identity in seen:
            return None
        seen.add(identity)
        with os.scandir(root / folder) as entries:
            return [entry for entry in entries if not (entry.name.startswith(".") and file_id(entry) == "folder")]
    except OSError as error:
        path = utf8_name(str(root / folder))
        raise UserError(f"--root: {path} cannot be read ({error.strerror}); make it readable or move it") from error


def _in_order(paths: Collection[str]) -> tuple[str, ...]:
    """Folder by folder: the separator comes before every other character."""
    return tuple(sorted(paths, key=lambda path: path.replace("/", "\0")))
