"""Who is in a data set: the contract that every source fulfils.

A source is a frozen dataclass whose fields are the command's options and whose ``listing()`` reads the data set's own
lists and looks which videos are there. Nothing is decoded. A data set is added with one module like the ones beside
this file, and one line in ``tools/make_shards.py``.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Literal, Protocol

from shards.decoding.archive_member import VideoPath
from shards.errors import refuse
from shards.sources.texts import is_class_name, look
from shards.sources.truths.listed import ListedTruth

Subset = Literal["train", "test"]

SUBSET_NAMES = {"training": "train", "validate": "val", "validation": "val", "testing": "test"}
"""What label files call subsets, where it is not what commands call them."""
UNKNOWN_CLASS = ""
NO_VIDEO = "the video does not exist"


@dataclass(frozen=True, slots=True)
class ClipEntry:
    """A clip that belongs to the data set: frames ``start_frame <= n < end_frame`` of a video (None: all of it)."""

    name: str
    """``class/clip`` without extension; unique, and the name under which masks and scene vectors are looked up."""
    path: VideoPath
    """The video."""
    class_name: str
    """Action class."""
    start_frame: int | None = None
    """The first frame of the clip; None: that of the video."""
    end_frame: int | None = None
    """The frame after its last; None: the video's end."""
    truth: ListedTruth | None = None
    """What label files say happens within the video; None: nothing."""


@dataclass(frozen=True, slots=True)
class MissingClip:
    """A clip that belongs to the data set by its own lists, but whose video cannot be had."""

    name: str
    """``class/clip`` without extension."""
    path: VideoPath
    """Where the video would be."""
    class_name: str
    """`UNKNOWN_CLASS` where no list tells it."""
    reason: str = NO_VIDEO
    """Why it cannot be had."""


@dataclass(frozen=True)
class Listing:
    """The clips of one subset of one split. The label of a clip is the position of its class in ``classes``."""

    dataset: str
    """Name of the data set."""
    split: str
    """Which of its splits."""
    subset: str
    """Which side of the split."""
    classes: tuple[str, ...]
    """Names of the action classes, in the order of their labels."""
    clips: tuple[ClipEntry, ...]
    """The clips whose videos are there."""
    missing: tuple[MissingClip, ...] = ()
    """Those whose videos are not."""
    unlisted: tuple[str, ...] = ()
    """Videos, or whole folders of them, that lie among the others though no list names them; and what looks like a
    video and is not read."""
    remarks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """What else a user should know of the lists and files: for each kind, all that is of it."""
    may_lack_classes: bool = False
    """Whether the data set's own lists have no clip of some class."""

    def __post_init__(self) -> None:
        refuse(
            f"class {name!r} is listed {count} times; names must be unique, so remove the others"
            for name, count in Counter(self.classes).items()
            if count > 1
        )
        refuse(
            f"{self.dataset}: class {name!r} cannot be called so, with '/', line breaks or dots alone; rename it"
            for name in self.classes
            if not is_class_name(name)
        )
        refuse(self._repeated_names())
        refuse(self._unknown_classes())

    def _entries(self) -> Iterable[ClipEntry | MissingClip]:
        return chain[ClipEntry | MissingClip](self.clips, self.missing)

    def _repeated_names(self) -> Iterator[str]:
        paths: dict[str, VideoPath] = {}
        for entry in self._entries():
            if entry.name in paths:
                yield (
                    f"{self.dataset}: two clips are called {entry.name!r}, {paths[entry.name]} and {entry.path}; "
                    "names must be unique, so rename or remove one"
                )
            paths[entry.name] = entry.path

    def _unknown_classes(self) -> Iterator[str]:
        known = {*self.classes, UNKNOWN_CLASS}
        clips: defaultdict[str, list[str]] = defaultdict(list)
        for entry in self._entries():
            if entry.class_name not in known:
                clips[entry.class_name].append(entry.name)
        looks = {look(name): name for name in self.classes}
        for class_name, names in clips.items():
            of_others = f" and {len(names) - 1} more of this class" if len(names) > 1 else ""
            alike = looks.get(look(class_name))
            yield (
                f"{self.dataset}, clip {names[0]!r}{of_others}: class {class_name!r} is not among the "
                f"{len(self.classes)} classes{f', but {alike!r} is' if alike else ''}; "
                "correct the label, or add the class to --classes FILE"
            )


class Source(Protocol):
    """Anything that can say who is in a data set."""

    def listing(self) -> Listing:
        """Return the clips of the subset that was asked for.

        Raises:
            UserError: a folder or a list is missing or contradicts itself.
        """
        ...


def utf8_name(name: str) -> str:
    """The name of a file, with the bytes that are not UTF-8 written out: such a name cannot be stored as it is."""
    return os.fsencode(name).decode(errors="backslashreplace")
