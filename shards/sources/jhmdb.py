"""JHMDB: 928 clips of 21 actions, a subset of HMDB51 with a human mask for every frame.

JHMDB's clips keep their HMDB51 names, so HMDB51's split files divide them. Two things differ: ``#`` in a name there is
``@`` here, and seven clips stand in no split file; they count as training clips in all three splits.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from shards.errors import UserError
from shards.sources.listing import Listing, Subset, clips_in, require_folder

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

_SUBSETS = {"1": "train", "2": "test", "0": "unused"}


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
        require_folder(self.root, "--root", "one folder of videos a class")
        require_folder(self.labels, "--labels", "HMDB51's split files")
        unknown = sorted({path.name for path in self.root.iterdir() if path.is_dir()} - set(CLASSES))
        if unknown:
            raise UserError(f"--root {self.root}: {unknown[0]!r} is no class of JHMDB; move that folder elsewhere")
        clips = []
        for class_name in CLASSES:
            folder = self.root / class_name
            if not folder.is_dir():
                continue
            subsets = self._read_split(class_name)
            for entry in clips_in(folder):
                if subsets.get(entry.path.stem.replace("@", "#"), "train") == self.subset:
                    clips.append(entry)
        return Listing("jhmdb", str(self.split), self.subset, CLASSES, tuple(clips))

    def _read_split(self, class_name: str) -> dict[str, str]:
        """Map HMDB51's clip names (without extension) of a class to ``train``, ``test`` or ``unused``."""
        path = self.labels / f"{class_name}_test_split{self.split}.txt"
        if not path.is_file():
            raise UserError(f"--labels {self.labels}: {path.name} is missing; give the folder of HMDB51's split files")
        subsets = {}
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            if not line.strip():
                continue
            name, _, code = line.strip().rpartition(" ")
            if not name or code not in _SUBSETS:
                raise UserError(f"{path}, line {number}: expected '<clip>.avi 0|1|2', found {line!r}")
            subsets[Path(name).stem] = _SUBSETS[code]
        return subsets
