"""Which videos lie below a folder: every folder is read once, no file is touched, so 300,000 clips take seconds."""

import errno
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from shards.errors import UserError
from shards.sources.label_files import require_folder
from shards.sources.listing import NO_VIDEO, ClipEntry, utf8_name

VIDEO_SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm")

_Kind = Literal["folder", "file", "nothing"]


@dataclass(frozen=True)
class VideoTree:
    """What lies below ``root``: paths from there, with ``/``, in order. What begins with a dot does not count."""

    root: Path
    """The folder."""
    videos: tuple[str, ...]
    """Files that are named like videos."""
    folders: tuple[str, ...]
    """All folders, the root itself as an empty path."""
    oddities: tuple[str, ...]
    """Links that lead nowhere or to a folder read before, and folders named like videos, each with that remark."""

    def clips(self, classes: Collection[str]) -> Iterator[ClipEntry]:
        """The videos directly in the folders that are named like ``classes``."""
        for video in self.videos:
            class_name, _, file = video.rpartition("/")
            if class_name in classes:
                name = f"{class_name}/{utf8_name(PurePosixPath(file).stem)}"
                yield ClipEntry(name, self.root / video, sys.intern(class_name))

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
    videos: list[str] = []
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
                named_like_a_video = path.lower().endswith(VIDEO_SUFFIXES)
                kind = _kind(child)
                if kind == "folder":
                    (links if child.is_symlink() else pending).append(path)
                    if named_like_a_video:
                        oddities.append(f"{path}/ (a folder, not a video)")
                elif kind == "file" and named_like_a_video:
                    videos.append(path)
                elif kind == "nothing" and child.is_symlink():
                    oddities.append(f"{path} (a link that leads nowhere)")
    return VideoTree(root, _in_order(videos), _in_order(folders), tuple(oddities))


class FileFinder:
    """Says of many paths which are files, and reads each of their folders once for it."""

    def __init__(self) -> None:
        self._folders: dict[str, dict[str, _Kind] | str] = {}

    def why_missing(self, path: Path) -> str | None:
        """The reason why there is no file at ``path``; None where there is one."""
        folder, name = os.path.split(path)
        if folder not in self._folders:
            self._folders[folder] = self._read(folder)
        kinds = self._folders[folder]
        if isinstance(kinds, str):
            return kinds
        match kinds.get(name, "nothing"):
            case "file":
                return None
            case "folder":
                return "it is a folder, not a video"
            case _:
                return NO_VIDEO

    @staticmethod
    def _read(folder: str) -> dict[str, _Kind] | str:
        """The kinds of what is in ``folder``, or why they cannot be had."""
        try:
            with os.scandir(folder or os.curdir) as entries:
                return {entry.name: _kind(entry) for entry in entries}
        except (FileNotFoundError, NotADirectoryError):
            return NO_VIDEO
        except OSError as error:
            return f"its folder cannot be read ({error.strerror})"


def _read_folder(root: Path, folder: str, seen: set[tuple[int, int]]) -> list[os.DirEntry[str]] | None:
    """What is directly in a folder; None if it was ``seen``, to which it is added."""
    try:
        status = (root / folder).stat()
        identity = (status.st_dev, status.st_ino)
        if identity in seen:
            return None
        seen.add(identity)
        with os.scandir(root / folder) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        path = utf8_name(str(root / folder))
        raise UserError(f"--root: {path} cannot be read ({error.strerror}); make it readable or move it") from error


def _kind(entry: os.DirEntry[str]) -> _Kind:
    try:
        return "folder" if entry.is_dir() else "file" if entry.is_file() else "nothing"
    except OSError as error:  # a link that leads to itself; or what is there may not be seen, as reading it will say
        return "nothing" if error.errno == errno.ELOOP else "file"


def _in_order(paths: list[str]) -> tuple[str, ...]:
    """Folder by folder: the separator comes before every other character."""
    return tuple(sorted(paths, key=lambda path: path.replace("/", "\0")))
