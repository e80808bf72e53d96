"""UCF101: 13,320 clips of 101 actions, divided in three ways.

``trainlist01.txt`` has lines ``<class>/<clip>.avi <label>`` and ``testlist01.txt`` the same without labels, which count
from 1 in the order of ``classInd.txt``. The clips of class ``HandstandPushups`` are called ``v_HandStandPushups_...``.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from shards.errors import UserError
from shards.sources.clip_lists import ListedClip, locate_clips
from shards.sources.label_files import read_lines, require_folder
from shards.sources.listing import Listing, Subset

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
        listed = [clip for subset in ("train", "test") for clip in self._read_list(subset, classes)]
        located = locate_clips(self.root, listed, self.subset)
        return Listing("ucf101", str(self.split), self.subset, classes, *located)

    def _read_class_indices(self) -> tuple[str, ...]:
        classes: list[str] = []
        for where, line in read_lines(self.labels / "classInd.txt", "--labels", _WANTED):
            match line.split(maxsplit=1):
                case [index, name] if index == str(len(classes) + 1) and "/" not in name:
                    classes.append(name)
                case _:
                    raise UserError(f"{where}: expected '{len(classes) + 1} <class>', found {line!r}; restore the file")
        return tuple(classes)

    def _read_list(self, subset: str, classes: tuple[str, ...]) -> Iterator[ListedClip]:
        for where, line in read_lines(self.labels / f"{subset}list{self.split:02d}.txt", "--labels", _WANTED):
            match = _CLIP.fullmatch(line)
            if match is None or (subset == "train" and match["label"] is None):
                label = " <label>" if subset == "train" else ""
                raise UserError(f"{where}: expected '<class>/<clip>.avi{label}', found {line!r}; restore the file")
            class_name = match["class_name"]
            if class_name not in classes:
                raise UserError(f"{where}: class {class_name!r} is not in classInd.txt; correct one of the two")
            label = match["label"]
            if label is not None and classes.index(class_name) + 1 != int(label):
                raise UserError(
                    f"{where}: {class_name!r} has label {label}, but {classes.index(class_name) + 1} in classInd.txt; "
                    "correct one of the two"
                )
            yield ListedClip(match["path"], class_name, subset, where)
