"""Finding files by their names in a list, though the file system may write the same name in another normal form."""

import os
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from shards.decoding.archive_member import VideoPath
from shards.errors import UserError
from shards.sources.files.folders import Child, Folders
from shards.sources.listing import NO_VIDEO, utf8_name
from shards.sources.texts import clean


class Found(NamedTuple):
    """What is there under a name."""

    path: VideoPath
    """The file, as the file system writes it; where there is none, as the list does."""
    reason: str | None = None
    """Why there is no file; None where there is one."""
    number: int = 0
    """That which the file system has for the file."""


class FileFinder:
    """Finds many files, and reads each of their folders once for it.

    Args:
        root: A folder whose own path is taken as it is written.
    """

    def __init__(self, root: Path) -> None:
        self._root = "" if root == Path() else str(root)
        self._disk = Folders(Path())
        self._on_disk: dict[str, str] = {}
        self._folders: dict[str, dict[str, list[Child]] | str] = {}
        self._with_archives: set[str] = set()

    @property
    def faults(self) -> list[str]:
        """What cannot be read of archives that lie where files were looked for: their paths, each with the reason."""
        return self._disk.faults

    def find(self, path: Path) -> Found:
        """The file that is called like ``path``, as `clean` compares names.

        Raises:
            UserError: several are called so.
        """
        folder, name = os.path.split(path)
        folder = self._locate(folder)
        children = self._read(folder)
        if isinstance(children, str) or clean(name) not in children:
            children = self._read_with_archives(folder)
        if isinstance(children, str):
            return Found(path, children)
        match self._only(folder, children.get(clean(name), [])):
            case Child(name, int(number), _, member):
                return Found(member or Path(folder, name), None, number)
            case Child(kind="folder"):
                return Found(path, "it is a folder, not a video")
            case _:
                return Found(path, NO_VIDEO)

    def _locate(self, folder: str) -> str:
        """How ``folder`` is written on the disk."""
        if folder not in self._on_disk:
            self._on_disk[folder] = self._search(folder)
        return self._on_disk[folder]

    def _search(self, folder: str) -> str:
        parent, name = os.path.split(folder)
        if folder == self._root or not name or (folder.isascii() and not isinstance(self._read(folder), str)):
            return folder
        parent = self._locate(parent)
        children = self._read(parent)
        alike = [] if isinstance(children, str) else children.get(clean(name), [])
        found = self._only(parent, [child for child in alike if child.kind == "folder"])
        return str(Path(parent, found.name if found else name))

    def _only(self, folder: str, alike: list[Child]) -> Child | None:
        """The one child of a folder that has a name; None where none has."""
        if len(alike) > 1:
            first, second = (
                ascii(utf8_name(str(Path(folder, name)))) for name in sorted(child.name for child in alike)[:2]
            )
            raise UserError(
                f"{first} and {second} differ only in how their letters are composed or in spaces around; "
                "rename or remove one"
            )
        return alike[0] if alike else None

    def _read(self, folder: str) -> dict[str, list[Child]] | str:
        """What is in a folder, by the names as `clean` makes them; or why that cannot be had."""
        if folder not in self._folders:
            self._folders[folder] = self._children(folder)
        return self._folders[folder]

    def _read_with_archives(self, folder: str) -> dict[str, list[Child]] | str:
        """The same with what archives in the folders that contain it hold of it."""
        if folder not in self._with_archives:
            self._with_archives.add(folder)
            parent, _ = os.path.split(folder)
            is_below = folder.startswith(f"{self._root}/") if self._root else not Path(folder).is_absolute()
            if parent != folder and (is_below or not Path(folder).is_dir()):
                self._read_with_archives(parent)
                self._folders[folder] = self._children(folder)
        return self._read(folder)

    def _children(self, folder: str) -> dict[str, list[Child]] | str:
        children: defaultdict[str, list[Child]] = defaultdict(list)
        try:
            for child in self._disk.children(folder):
                children[clean(child.name)].append(child)
        except (FileNotFoundError, NotADirectoryError):
            return NO_VIDEO
        except OSError as error:
            return f"its folder cannot be read ({error.strerror})"
        return children
