"""JHMDB: 928 clips of 21 actions, a subset of HMDB51 with a human mask for every frame.

JHMDB's clips keep their HMDB51 names, so HMDB51's split files divide them. Two things differ: ``#`` in a name there is
``@`` here, and seven clips stand in no split file; they count as training clips in all three splits.
"""

from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Literal

from shards.errors import each
from shards.sources.hmdb51 import SPLIT_FILES, read_split
from shards.sources.label_files import require_folder
from shards.sources.listing import Listing, Subset
from shards.sources.remarks import OTHER_ROWS, files_of_two_classes, other_rows, remarks
from shards.sources.texts import clean
from shards.sources.video_files import read_video_tree

CLASSES = (
    "brush_hair",
    "catch",
    "clap",
    "climb_stairs",
    "golf",
    "jump",
    "kick_ball",
    "pick",
    "pour",
    "pullup",
    "push",
    "run",
    "shoot_ball",
    "shoot_bow",
    "shoot_gun",
    "sit",
    "stand",
    "swing_baseball",
    "throw",
    "walk",
    "wave",
)


@dataclass(frozen=True, kw_only=True)
class JhmdbSource:
    """JHMDB, divided by the split files of HMDB51."""

    root: Path
    """Folder of the videos: <root>/<class>/<clip>.avi or .mp4 (ReCompress_Videos of the original)."""
    labels: Path
    """Folder of HMDB51's split files: <class>_test_split1.txt and so on."""
    split: Literal[1, 2, 3] = 1
    """Which of the three splits."""
    subset: Subset = "train"
    """Which side of the split."""

    def listing(self) -> Listing:
        """The clips of one side of the split; a clip that the split leaves unused is in neither."""
        require_folder(self.labels, "--labels", SPLIT_FILES)
        tree = read_video_tree(self.root, "the folder that holds one folder of videos a class")
        present = set(CLASSES) & {clean(folder) for folder in tree.folders}
        listed = each(lambda class_name: read_split(self.labels, class_name, self.split), sorted(present))
        subsets = {f"{clip.class_name}/{clip.name}": clip.subset for clip in chain.from_iterable(listed)}
        there = [(subsets.get(entry.name.replace("@", "#"), "train"), entry) for entry in tree.clips(present)]
        clips = [entry for subset, entry in there if subset == self.subset]
        return Listing(
            "jhmdb",
            str(self.split),
            self.subset,
            CLASSES,
            tuple(clips),
            unlisted=tree.unlisted(lambda video: clean(video.rpartition("/")[0]) in present),
            remarks=remarks({OTHER_ROWS: other_rows(subset for subset, _ in there if subset != self.subset)})
            | files_of_two_classes((tree.file_id(entry), entry) for entry in clips),
        )
