"""JHMDB: 928 clips of 21 actions, a subset of HMDB51 with a human mask for every frame.

JHMDB's clips keep their HMDB51 names, so HMDB51's split files divide them. Two things differ: ``#`` in a name there is
``@`` here, and seven clips stand in no split file; they count as training clips in all three splits.

JHMDB has splits of its own too, on which detection is measured. They are others: of the 268 clips to test on in its
split 1, 198 are training clips here in HMDB51's split 1 (which lists 194 of them).
"""

import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Literal

from shards.errors import UserError, each
from shards.sources.files.file_kinds import is_named_like_a_video
from shards.sources.files.video_files import read_video_tree
from shards.sources.hmdb51 import SPLIT_FILES, read_split
from shards.sources.label_files import read_lines, require_folder
from shards.sources.listing import ClipEntry, Listing, MissingClip, Subset
from shards.sources.remarks import OTHER_ROWS, files_of_two_classes, other_rows, remarks
from shards.sources.texts import clean
from shards.sources.truths.listed import ListedTruth

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

OWN_SPLITS = (
    "JHMDB's own split: the folder of its split files, <class>_test_split1.txt and so on, a text file of the clips to "
    "test on, <class>/<clip> a line, or the zip file of the boxes to test on"
)
_BOX_FILE = re.compile(rf"(.*/)?(?P<class_name>{'|'.join(CLASSES)})_(?P<clip>[^/]+)_\d+\.txt")


@dataclass(frozen=True, kw_only=True)
class JhmdbSource:
    """JHMDB, divided by the split files of HMDB51 or by its own."""

    root: Path
    """Folder of the videos: <root>/<class>/<clip>.avi or .mp4 (ReCompress_Videos of the original)."""
    labels: Path
    """Folder of HMDB51's split files: <class>_test_split1.txt and so on. With --splits-of jhmdb: the same of JHMDB's
    own, or a text file of the clips to test on, <class>/<clip> a line, or the zip file of the boxes of these clips, of
    the split that --split tells."""
    splits_of: Literal["hmdb51", "jhmdb"] = "hmdb51"
    """Whose splits. Detection is measured on JHMDB's own; the split is then called jhmdb-1 and so on."""
    split: Literal[1, 2, 3] = 1
    """Which of the three splits."""
    subset: Subset = "train"
    """Which side of the split."""
    boxes: bool = False
    """Whether every frame gets a box around the human's mask, as the data set's own boxes are; needs --masks."""

    def listing(self) -> Listing:
        """The clips of one side of the split; a clip that the split leaves unused is in neither."""
        is_own = self.splits_of == "jhmdb"
        if not (is_own and self.labels.is_file()):
            require_folder(self.labels, "--labels", OWN_SPLITS if is_own else SPLIT_FILES)
        tree = read_video_tree(self.root, "the folder that holds one folder of videos a class")
        present = set(CLASSES) & {clean(folder) for folder in tree.folders}
        if self.labels.is_dir():
            listed = each(lambda class_name: read_split(self.labels, class_name, self.split), sorted(present))
            subsets = {f"{clip.class_name}/{clip.name}": clip.subset for clip in chain.from_iterable(listed)}
        else:
            subsets = dict.fromkeys(_clips_to_test_on(self.labels), "test")
        subset_of = {_key(name): subset for name, subset in subsets.items()}
        there = [(subset_of.get(_key(entry.name), "train"), self._with_boxes(entry)) for entry in tree.clips(present)]
        clips = [entry for subset, entry in there if subset == self.subset]
        return Listing(
            "jhmdb",
            f"jhmdb-{self.split}" if is_own else str(self.split),
            self.subset,
            CLASSES,
            tuple(clips),
            tuple(self._missing(subsets, {_key(entry.name) for _, entry in there})) if is_own else (),
            unlisted=tree.unlisted(lambda video: clean(video.rpartition("/")[0]) in present),
            remarks=remarks({OTHER_ROWS: other_rows(subset for subset, _ in there if subset != self.subset)})
            | files_of_two_classes((tree.file_id(entry), entry) for entry in clips),
        )

    def _with_boxes(self, entry: ClipEntry) -> ClipEntry:
        return replace(entry, truth=ListedTruth(boxes_from_masks=True)) if self.boxes else entry

    def _missing(self, subsets: Mapping[str, str], there: set[str]) -> Iterator[MissingClip]:
        """The clips that a split of JHMDB's own names; HMDB51's split files name many more than JHMDB has."""
        for name, subset in subsets.items():
            if subset == self.subset and _key(name) not in there:
                yield MissingClip(name, self.root / f"{name}.avi", name.partition("/")[0])


def _key(name: str) -> str:
    """A name as HMDB51 writes it."""
    return name.replace("@", "#")


def _clips_to_test_on(path: Path) -> list[str]:
    """The clips, ``class/clip``, that a text file lists, or of which a zip file has boxes."""
    if not zipfile.is_zipfile(path):
        return each(lambda place: _read_clip(*place), read_lines(path, "--labels", OWN_SPLITS))
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile) as error:
        raise UserError(f"--labels: {path} cannot be read ({error}); give {OWN_SPLITS}") from error
    found = [match for name in names if (match := _BOX_FILE.fullmatch(name))]
    if not found:
        raise UserError(f"--labels: {path} holds no files <class>_<clip>_<frame>.txt; give {OWN_SPLITS}")
    return list(dict.fromkeys(f"{match['class_name']}/{clean(match['clip'])}" for match in found))


def _read_clip(where: str, line: str) -> str:
    class_name, _, clip = line.partition("/")
    if class_name not in CLASSES or not clip or "/" in clip:
        raise UserError(f"{where}: expected <class>/<clip>, found {line!r}; correct it")
    return f"{class_name}/{clean(PurePosixPath(clip).stem) if is_named_like_a_video(clip) else clip}"
