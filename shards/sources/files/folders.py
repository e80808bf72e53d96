"""What lies in folders: their files, and those of the tar archives in them, as if these were unpacked.

Unpacking an archive gives its folders, beside it. Where it has videos that lie in none, it gives a folder that is
called like it without ``.tar``. A file on the disk comes before one of an archive that has the same place: the archive
may be kept after it is unpacked.
"""

import errno
import os
from pathlib import Path
from typing import NamedTuple

from shards.decoding.archive_member import ArchiveMember
from shards.errors import UserError
from shards.sources.files.archives import COMPRESSED, is_archive, is_compressed_archive, read_archive


class Child(NamedTuple):
    """What a folder holds under one name."""

    name: str
    """The name."""
    kind: int | str
    """Of a file the number that the file system has for it, that to which a link leads; else ``folder`` or ``nothing``,
    which is neither."""
    is_link: bool = False
    """Whether it is a link."""
    member: ArchiveMember | None = None
    """Where it is, of a file in an archive."""


class Folders:
    """Reads folders. The folders that contain one must be read before it, as far as archives in them should count."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._unpacked: dict[str, dict[str, Child]] = {}
        self._faults: dict[str, tuple[str, ...]] = {}

    @property
    def faults(self) -> list[str]:
        """What cannot be read of the archives: their paths from the root on, each with the reason."""
        return [f"{place} ({fault})" for place, faults in self._faults.items() for fault in faults]

    def children(self, folder: str) -> list[Child]:
        """What is in a folder, given by its path from the root on, in no order.

        Raises:
            OSError: it cannot be read, or there is no such folder.
            UserError: two archives hold a file that would be unpacked to one place.
        """
        try:
            with os.scandir(self._root / folder) as entries:
                found = [_child(entry) for entry in entries]
        except (FileNotFoundError, NotADirectoryError):
            if folder not in self._unpacked:
                raise
            found = []
        for child in found:
            if isinstance(child.kind, int):
                self._look_into(folder, child.name)
        on_disk = {child.name for child in found}
        return found + [child for name, child in self._unpacked.get(folder, {}).items() if name not in on_disk]

    def _look_into(self, folder: str, name: str) -> None:
        """Read a file, if it is an archive that has not been read."""
        place = _join(folder, name)
        if place in self._faults:
            return
        if is_archive(name):
            archive = read_archive(self._root / place)
            self._faults[place] = archive.faults
            for member in archive.members:
                self._place(place[: -len(".tar")] if archive.is_flat else folder, member)
                self._place(place, member)  # where a list may name it
        elif is_compressed_archive(self._root / place):
            self._faults[place] = (COMPRESSED,)

    def _place(self, folder: str, member: ArchiveMember) -> None:
        """Put a file where unpacking would put it, with the folders on the way."""
        path = _join(folder, member.inner_path)
        parent, name = os.path.split(path)
        other = self._unpacked.setdefault(parent, {}).setdefault(name, Child(name, member.number, member=member))
        if other.member != member and not os.path.lexists(self._root / path):
            raise UserError(
                f"{other.member or path} and {member} have one place when unpacked; remove or unpack one archive"
            )
        while parent != os.path.split(folder)[0]:
            path, (parent, name) = parent, os.path.split(parent)
            self._unpacked.setdefault(parent, {}).setdefault(name, Child(name, "folder"))


def _join(folder: str, name: str) -> str:
    return f"{folder.rstrip('/')}/{name}" if folder else name


def _child(entry: os.DirEntry[str]) -> Child:
    return Child(entry.name, _kind(entry), entry.is_symlink())


def _kind(entry: os.DirEntry[str]) -> int | str:
    try:
        if entry.is_dir():
            return "folder"
        if entry.is_file():
            return entry.stat().st_ino if entry.is_symlink() else entry.inode()
    except OSError as error:
        if error.errno != errno.ELOOP:  # what may not be seen, as reading it will say; no link that leads to itself
            return entry.inode()
    return "nothing"
