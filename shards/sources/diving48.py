"""Diving48, version 2: 16,997 clips of 48 dives, of which 47 occur.

``Diving48_V2_train.json`` and ``Diving48_V2_test.json`` are lists of ``{"vid_name", "label", "start_frame",
"end_frame"}``; a label is a position in ``Diving48_vocab.json``, which has the four phases of each dive. Its videos are
trimmed clips: every range starts at 0, and its end is not included, as published readers of the set take it.
"""

from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from shards.errors import UserError, each, refuse
from shards.sources.clip_lists import ListedClip, locate_clips
from shards.sources.label_files import read_json, require_folder
from shards.sources.listing import Listing, Subset
from shards.sources.texts import clean, look_alikes

_WANTED = "the folder of Diving48_V2_train.json, Diving48_V2_test.json and Diving48_vocab.json"


@dataclass(frozen=True, kw_only=True)
class Diving48Source:
    """Diving48, divided by its own lists of version 2."""

    root: Path
    """Folder of the videos: <root>/<vid_name>.mp4."""
    labels: Path
    """Folder of the lists: Diving48_V2_train.json, Diving48_V2_test.json and Diving48_vocab.json."""
    subset: Subset = "train"
    """Which side of the split."""

    def listing(self) -> Listing:
        """The clips of one side of the split; a class is named by its phases, such as ``Back+15som+05Twis+FREE``."""
        require_folder(self.labels, "--labels", _WANTED)
        classes = self._read_vocabulary()
        listed = each(lambda subset: self._read_list(subset, classes), ("train", "test"))
        located = locate_clips(self.root, chain.from_iterable(listed), self.subset)
        return Listing("diving48", "1", self.subset, classes, *located, may_lack_classes=True)

    def _read_vocabulary(self) -> tuple[str, ...]:
        path = self.labels / "Diving48_vocab.json"
        dives = read_json(path, "--labels", _WANTED)
        if not isinstance(dives, list) or not all(isinstance(dive, list) and dive for dive in dives):
            raise UserError(f"{path}: expected a list of lists of a dive's phases; restore the file")
        classes = tuple("+".join(clean(str(phase)) for phase in dive) for dive in dives)
        refuse(look_alikes({name: f"{path}, dive {k}" for k, name in enumerate(classes)}, "class"))
        return classes

    def _read_list(self, subset: str, classes: tuple[str, ...]) -> list[ListedClip]:
        path = self.labels / f"Diving48_V2_{subset}.json"
        clips = read_json(path, "--labels", _WANTED)
        if not isinstance(clips, list):
            raise UserError(f"{path}: expected a list of clips; restore the file")
        return each(
            lambda numbered: _listed_clip(numbered[1], classes, subset, f"{path}, clip {numbered[0]}"),
            enumerate(clips, start=1),
        )


def _listed_clip(clip: Any, classes: tuple[str, ...], subset: str, where: str) -> ListedClip:
    match clip:
        case {"vid_name": str(name), "label": int(label), "start_frame": int(start), "end_frame": int(end)}:
            name = clean(name)
            if "/" in name or not name or not 0 <= start < end:
                raise UserError(f"{where}: {clip} has no file name, or no frames; restore the file")
            if not 0 <= label < len(classes):
                raise UserError(
                    f"{where}: label {label} is not among the {len(classes)} dives of Diving48_vocab.json; "
                    "restore the files"
                )
            return ListedClip(f"{name}.mp4", classes[label], subset, where, start, end)
    raise UserError(f"{where}: expected vid_name, label, start_frame and end_frame, found {clip}; restore the file")
