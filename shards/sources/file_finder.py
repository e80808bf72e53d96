"""Finding files by their names in a list, though the file system may write the same name in another normal form."""

import os
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from shards.errors import UserError
from shards.sources.listing import NO_VIDEO, utf8_name
from shards.sources.texts import clean
from shards.sources.video_files import file_id


class Found(NamedTuple):
    """What is there under a name."""

    path: Path
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
        self._root = str(root)
        self._on_disk: dict[str, str] = {}
        self._folders: dict[str, dict[str, list[tuple[str, int | str]]] | str] = {}

    def find(self, path: Path) -> Found:
        """The file that is called like ``path``, as `clean` compares names.

        Raises:
            UserError: several are called so.
        """
        folder, name = os.path.split(path)
        folder = self._locate(folder)
        children = self._read(folder)
        if isinstance(children, str):
            return Found(path, children)
        match self._only(folder, children.get(clean(name), [])):
            case str(found), int(number):
                return Found(Path(folder, found), None, number)
            case _, "folder":
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
        found = self._only(parent, [child for child in alike if child[1] == "folder"])
        return str(Path(parent, found[0] if found else name))

    def _only(self, folder: str, alike: list[tuple[str, int | str]]) -> tuple[str, int | str] | None:
        """The one child of a folder that has a name; None where none has."""
        if len(alike) > 1:
            first, second = (ascii(utf8_name(str(Path(folder, name)))) for name, _ in sorted(alike)[:2])
            raise UserError(
                f"{first} and {second} differ only in how their letters are composed or in spaces around; "
                "rename or remove one"
            )
        return alike[0] if alike else None

    def _read(self, folder: str) -> dict[str, list[tuple[str, int | str]]] | str:
        """What is in a folder, by the names as `clean` makes them; or why that cannot be had."""
        if folder not in self._folders:
            self._folders[folder] = _children(folder)
        return self._folders[folder]


def _children(folder: str) -> dict[str, list[tuple[str, int | str]]] | str:
    children: defaultdict[str, list[tuple[str, int | str]]] = defaultdict(list)
    try:
        with os.scandir(folder or os.curdir) as entries:
            for entry in entries:
                children[clean(entry.name)].append((entry.name, file_id(entry)))
    except (FileNotFoundError, NotADirectoryError):
        return NO_VIDEO
    except OSError as error:
        return f"its folder cannot be read ({error.strerror})"
    return children
