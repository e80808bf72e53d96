"""HMDB51: 6,766 clips of 51 actions, divided in three ways that each leave some clips unused.

A split has one file a class, ``<class>_test_split1.txt``, with lines ``<clip>.avi <code>``: 1 train, 2 test, 0 unused.
"""

from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Literal

from shards.errors import UserError, each
from shards.sources.clip_lists import ListedClip, locate_clips
from shards.sources.label_files import read_lines, require_folder
from shards.sources.listing import Listing, Subset

CLASSES = (
    "brush_hair",
    "cartwheel",
    "catch",
    "chew",
    "clap",
    "climb",
    "climb_stairs",
    "dive",
    "draw_sword",
    "dribble",
    "drink",
    "eat",
    "fall_floor",
    "fencing",
    "flic_flac",
    "golf",
    "handstand",
    "hit",
    "hug",
    "jump",
    "kick",
    "kick_ball",
    "kiss",
    "laugh",
    "pick",
    "pour",
    "pullup",
    "punch",
    "push",
    "pushup",
    "ride_bike",
    "ride_horse",
    "run",
    "shake_hands",
    "shoot_ball",
    "shoot_bow",
    "shoot_gun",
    "sit",
    "situp",
    "smile",
    "smoke",
    "somersault",
    "stand",
    "swing_baseball",
    "sword",
    "sword_exercise",
    "talk",
    "throw",
    "turn",
    "walk",
    "wave",
)

SPLIT_FILES = "the folder of HMDB51's split files, <class>_test_split1.txt and so on"

_SUBSETS = {"1": "train", "2": "test", "0": "unused"}


@dataclass(frozen=True, kw_only=True)
class Hmdb51Source:
    """HMDB51, divided by its own split files."""

    root: Path
    """Folder of the videos: <root>/<class>/<clip>.avi, or all in one folder, or transcoded."""
    labels: Path
    """Folder of the split files: <class>_test_split1.txt and so on."""
    split: Literal[1, 2, 3] = 1
    """Which of the three splits."""
    subset: Subset = "train"
    """Which side of the split."""

    def listing(self) -> Listing:
        """The clips of one side of the split; a clip that the split leaves unused is in neither."""
        require_folder(self.labels, "--labels", SPLIT_FILES)
        listed = each(lambda class_name: read_split(self.labels, class_name, self.split), CLASSES)
        located = locate_clips(self.root, chain.from_iterable(listed), self.subset)
        return Listing("hmdb51", str(self.split), self.subset, CLASSES, *located)


def read_split(labels: Path, class_name: str, split: int) -> list[ListedClip]:
    """The clips of one class; their subset is ``train``, ``test`` or ``unused``."""

    def read(place: tuple[str, str]) -> ListedClip:
        where, line = place
        match line.rsplit(maxsplit=1):
            case [video, code] if code in _SUBSETS and "/" not in video:
                return ListedClip(f"{class_name}/{video}", class_name, _SUBSETS[code], where)
        raise UserError(f"{where}: expected '<clip>.avi 0|1|2', found {line!r}; restore the file")

    return each(read, read_lines(labels / f"{class_name}_test_split{split}.txt", "--labels", SPLIT_FILES))
