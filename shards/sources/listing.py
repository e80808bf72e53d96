"""Who is in a data set: the contract that every source fulfils.

A source is a frozen dataclass whose fields are the command's options and whose ``listing()`` reads the data set's own
split files and looks which videos are there. Nothing is decoded. A data set is added with one module like the ones
beside this file, and one line in ``tools/make_shards.py``.
"""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from shards.errors import UserError

VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm"})

Subset = Literal["train", "test"]


@dataclass(frozen=True)
class ClipEntry:
    """A clip that belongs to the data set: frames ``start_frame <= n < end_frame`` of a video (None: all of it)."""

    name: str
    """``class/clip`` without extension; unique, and the name under which masks and scene vectors are looked up."""
    path: Path
    class_name: str
    start_frame: int | None = None
    end_frame: int | None = None


@dataclass(frozen=True)
class Listing:
    """The clips of one subset of one split. The label of a clip is the position of its class in ``classes``."""

    dataset: str
    split: str
    subset: str
    classes: tuple[str, ...]
    clips: tuple[ClipEntry, ...]
    missing: tuple[ClipEntry, ...] = ()
    """Clips that belong here by the data set's own lists, but whose video (``path``) does not exist."""

    def __post_init__(self) -> None:
        _refuse_repetition("class", self.classes)
        _refuse_repetition("clip", [entry.name for entry in (*self.clips, *self.missing)])
        known = set(self.classes)
        for entry in (*self.clips, *self.missing):
            if entry.class_name not in known:
                raise UserError(
                    f"{self.dataset}, clip {entry.name!r}: class {entry.class_name!r} is not among the "
                    f"{len(self.classes)} classes; correct the label, or add the class to --classes FILE"
                )


class Source(Protocol):
    """Anything that can say who is in a data set."""

    def listing(self) -> Listing:
        """Return the clips of the subset that was asked for.

        Raises:
            UserError: a folder or a list is missing or contradicts itself.
        """
        ...


def split_by_existence(entries: Iterable[ClipEntry]) -> tuple[tuple[ClipEntry, ...], tuple[ClipEntry, ...]]:
    """Part ``entries`` into those whose video exists and those whose video does not."""
    found: list[ClipEntry] = []
    missing: list[ClipEntry] = []
    for entry in entries:
        (found if entry.path.is_file() else missing).append(entry)
    return tuple(found), tuple(missing)


def clips_in(folder: Path) -> Iterator[ClipEntry]:
    """The video files directly in the folder of a class, in order of their names."""
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file():
            yield ClipEntry(f"{folder.name}/{utf8_name(path.stem)}", path, folder.name)


def utf8_name(name: str) -> str:
    """The name of a file, with the bytes that are not UTF-8 written out: such a name cannot be stored as it is."""
    return os.fsencode(name).decode(errors="backslashreplace")


def require_folder(folder: Path, option: str, holds: str) -> None:
    """Raise a UserError unless ``folder``, the value of ``option``, is a directory."""
    if not folder.is_dir():
        raise UserError(f"{option} {folder}: no such folder; give the folder that holds {holds}")


def read_classes(path: Path) -> tuple[str, ...]:
    """Class names in the order of their labels, one a line; empty lines do not count."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"--classes {path}: cannot be read ({error}); give a text file with one class a line"
        ) from error
    classes = tuple(line.strip() for line in lines if line.strip())
    if not classes:
        raise UserError(f"--classes {path}: no class in it; write one class name a line, in the order of the labels")
    return classes


def _refuse_repetition(what: str, names: Sequence[str]) -> None:
    name, count = max(Counter(names).items(), key=lambda item: item[1], default=("", 0))
    if count > 1:
        raise UserError(
            f"{what} {name!r} is listed {count} times; names must be unique, so rename or remove the others"
        )
