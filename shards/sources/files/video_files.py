"""Which videos lie below a folder: every folder is read once, no file is touched, so 300,000 clips take seconds.

Only of a file whose suffix does not tell what it is, the beginning is decoded.
"""

import os
import sys
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from shards.decoding.archive_member import ArchiveMember, VideoPath
from shards.errors import UserError
from shards.sources.files.file_kinds import holds_video, is_named_like_a_video, is_unfinished
from shards.sources.files.folders import Child, Folders
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
    remark; and what cannot be read of archives."""
    file_ids: Mapping[str, int] = field(default_factory=dict, repr=False)
    """The number that the file system has for the file of each of the videos."""
    members: Mapping[str, ArchiveMember] = field(default_factory=dict, repr=False)
    """Those of the videos that lie in archives. Their paths are those that unpacking would give them."""

    def path_of(self, video: str) -> VideoPath:
        """Where one of the videos is."""
        return self.members.get(video) or self.root / video

    def shown(self, video: str) -> str:
        """What to call one of the videos: its path from the root on, as if archives were folders."""
        return os.path.relpath(str(self.members[video]), self.root) if video in self.members else video

    def clips(self, classes: Collection[str], *, deep: bool = False) -> Iterator[ClipEntry]:
        """The videos in the folders that are named like ``classes``: directly, or ``deep`` in folders below too."""
        for video in self.videos:
            folder, *parts = PurePosixPath(video).with_suffix("").parts
            class_name = clean(folder)
            if class_name in classes and (len(parts) == 1 or (deep and parts)):
                name = "/".join([class_name, *(clean(utf8_name(part)) for part in parts)])
                yield ClipEntry(name, self.path_of(video), sys.intern(class_name))

    def file_id(self, entry: ClipEntry) -> int:
        """The number of the file of ``entry``, which must be one of the videos."""
        if isinstance(entry.path, ArchiveMember):
            return entry.path.number
        return self.file_ids[str(entry.path.relative_to(self.root))]

    def unlisted(self, is_listed: Callable[[str], bool]) -> tuple[str, ...]:
        """The oddities, and the videos that no list names; a folder that holds nothing else stands for its videos."""
        siblings: defaultdict[str, list[str]] = defaultdict(list)
        for video in self.videos:
            siblings[self.shown(video).rpartition("/")[0]].append(video)
        found = [*self.oddities]
        for folder, videos in siblings.items():
            strangers = [video for video in videos if not is_listed(video)]
            if folder and len(strangers) == len(videos) > 1:
                found.append(f"{folder}/ ({len(videos)} videos)")
            else:
                found += map(self.shown, strangers)
        return tuple(sorted(utf8_name(path) for path in found))


def read_video_tree(root: Path, wanted: str) -> VideoTree:
    """Walk through ``root`` and the tar archives in it. Links are followed after all real folders; none is read twice.

    Raises:
        UserError: ``root`` is no folder (``wanted`` tells what it should hold), or one below it cannot be read.
    """
    require_folder(root, "--root", wanted)
    videos: dict[str, int] = {}
    folders: list[str] = []
    oddities: list[str] = []
    members: dict[str, ArchiveMember] = {}
    seen: set[tuple[int, int]] = set()
    disk = Folders(root)
    links = [""]
    while links:
        links.sort()
        pending = [links.pop(0)]
        while pending:
            folder = pending.pop()
            children = _read_folder(disk, root, folder, seen)
            if children is None:
                oddities.append(f"{folder}/ (leads to a folder that is read already)")
                continue
            folders.append(folder)
            for child in children:
                path = f"{folder}/{child.name}" if folder else child.name
                match child.kind:
                    case "folder" if child.name in PASSED_FOLDERS:
                        pass
                    case "folder":
                        (links if child.is_link else pending).append(path)
                        if is_named_like_a_video(path):
                            oddities.append(f"{path}/ (a folder, not a video)")
                    case "nothing":
                        oddities += _nothing(path, child)
                    case int(number) if _is_video(child.member or root / path):
                        videos[path] = number
                        if child.member:
                            members[path] = child.member
                    case _:
                        oddities += _passed_over(path, child.name)
    if disk.faults and not videos:
        raise UserError(*(f"--root {root}: {utf8_name(fault)}" for fault in disk.faults))
    return VideoTree(root, _in_order(videos), _in_order(folders), (*oddities, *disk.faults), videos, members)


def _is_video(path: VideoPath) -> bool:
    if path.name.startswith(".") or is_unfinished(path.name):
        return False
    return is_named_like_a_video(path.name) or holds_video(path)


def _nothing(path: str, child: Child) -> Iterator[str]:
    """A remark on what is neither file nor folder, where it looks like a video."""
    if child.name.startswith("."):
        return
    if child.is_link:
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


def _read_folder(disk: Folders, root: Path, folder: str, seen: set[tuple[int, int]]) -> list[Child] | None:
    """What is directly in a folder, but for hidden folders; None if it was ``seen``, to which it is added."""
    try:
        with suppress(FileNotFoundError):  # a folder that an archive would be unpacked to
            status = (root / folder).stat()
            identity = (status.st_dev, status.st_ino)
            if identity in seen:
                return None
            seen.add(identity)
        children = disk.children(folder)
        return [child for child in children if not (child.name.startswith(".") and child.kind == "folder")]
    except OSError as error:
        path = utf8_name(str(root / folder))
        raise UserError(f"--root: {path} cannot be read ({error.strerror}); make it readable or move it") from error


def _in_order(paths: Collection[str]) -> tuple[str, ...]:
    """Folder by folder: the separator comes before every other character."""
    return tuple(sorted(paths, key=lambda path: path.replace("/", "\0")))
