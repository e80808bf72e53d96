"""UCF101: 13,320 clips of 101 actions, divided in three ways.

``trainlist01.txt`` has lines ``<class>/<clip>.avi <label>`` and ``testlist01.txt`` the same without labels, which count
from 1 in the order of ``classInd.txt``. The clips of class ``HandstandPushups`` are called ``v_HandStandPushups_...``.
"""

import re
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Literal

from shards.errors import UserError, each, refuse
from shards.sources.clip_lists import ListedClip, locate_clips
from shards.sources.label_files import read_lines, require_folder
from shards.sources.listing import Listing, Subset
from shards.sources.texts import clean, look_alikes

_WANTED = "the folder of UCF101's classInd.txt, trainlist01.txt, testlist01.txt and so on"
_CLIP = re.compile(r"(?P<path>(?P<class_name>[^/]+)/[^/]+\.avi)(\s+(?P<label>\d+))?")


@dataclass(frozen=True, kw_only=True)
class Ucf101Source:
    """UCF101, divided by its own split files."""

    root: Path
    """Folder of the videos: <root>/<class>/<clip>.avi, or all in one folder, or transcoded."""
    labels: Path
    """Folder of the split files: classInd.txt, trainlist01.txt, testlist01.txt and so on."""
    split: Literal[1, 2, 3] = 1
    """Which of the three splits."""
    subset: Subset = "train"
    """Which side of the split."""

    def listing(self) -> Listing:
        """The clips of one side of the split."""
        require_folder(self.labels, "--labels", _WANTED)
        classes = self._read_class_indices()
        listed = each(lambda subset: self._read_list(subset, classes), ("train", "test"))
        located = locate_clips(self.root, chain.from_iterable(listed), self.subset)
        return Listing("ucf101", str(self.split), self.subset, classes, *located)

    def _read_class_indices(self) -> tuple[str, ...]:
        def read(numbered: tuple[int, tuple[str, str]]) -> tuple[str, str]:
            number, (where, line) = numbered
            match line.split(maxsplit=1):
                case [index, name] if index == str(number) and "/" not in name:
                    return name, where
            raise UserError(f"{where}: expected '{number} <class>', found {line!r}; restore the file")

        classes = each(read, enumerate(read_lines(self.labels / "classInd.txt", "--labels", _WANTED), start=1))
        refuse(look_alikes(dict(classes), "class"))
        return tuple(name for name, _ in classes)

    def _read_list(self, subset: str, classes: tuple[str, ...]) -> list[ListedClip]:
        labels = {name: str(number) for number, name in enumerate(classes, start=1)}

        def read(place: tuple[str, str]) -> ListedClip:
            where, line = place
            match = _CLIP.fullmatch(line)
            if match is None or (subset == "train" and match["label"] is None):
                label = " <label>" if subset == "train" else ""
                raise UserError(f"{where}: expected '<class>/<clip>.avi{label}', found {line!r}; restore the file")
            class_name, label = clean(match["class_name"]), match["label"]
            if class_name not in labels:
                raise UserError(f"{where}: class {class_name!r} is not in classInd.txt; correct one of the two")
            if label is not None and labels[class_name] != str(int(label)):
                raise UserError(
                    f"{where}: {class_name!r} has label {label}, but {labels[class_name]} in classInd.txt; "
                    "correct one of the two"
                )
            return ListedClip(match["path"], class_name, subset, where)

        return each(read, read_lines(self.labels / f"{subset}list{self.split:02d}.txt", "--labels", _WANTED))
