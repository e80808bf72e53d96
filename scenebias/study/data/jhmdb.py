"""The study on JHMDB, real videos with real masks: pretrain on twelve of its classes, transfer to the other nine.

Its people are small in their frames, and networks as small as the study's do not see them there. So squares around the
people are packed, in which they do.
"""

import csv
import io
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from scenebias.data.make_shards import MakeShards
from scenebias.data.make_shards import main as make_shards
from scenebias.training.recipes import SMALL_CLIP
from shards.checks import require_at_least
from shards.format.manifest import MANIFEST_NAME
from shards.packing.clip_preparation import PackConfig
from shards.sources import CsvSource, JhmdbSource
from shards.sources.jhmdb import CLASSES
from shards.sources.listing import ClipEntry, Subset
from shards.system.atomic import atomic_write

FRAME_HEIGHT = 80
CLIP = replace(SMALL_CLIP, size=72, stride=3)
"""A window spans 22 frames: most of a clip."""
Split = Literal[1, 2, 3]
SPLITS: tuple[Split, ...] = get_args(Split)
Part = Literal["pretrain", "transfer"]
PARTS: dict[Part, tuple[str, ...]] = {"pretrain": CLASSES[:12], "transfer": CLASSES[12:]}
"""The classes in the order of their names: nobody has picked them."""
SUBSETS: tuple[Subset, ...] = ("train", "test")


@dataclass(frozen=True, kw_only=True)
class JhmdbConfig:
    """Where JHMDB lies, and how long to train on it; without it the study is of the demo world alone."""

    jhmdb_videos: Path | None = None
    """JHMDB's videos: <folder>/<class>/<clip>.avi or .mp4."""
    jhmdb_masks: Path | None = None
    """JHMDB's human masks: <folder>/<class>/<clip>.mat."""
    jhmdb_scenes: Path | None = None
    """Scene labels of its clips, in any of the forms of make_shards.py --scenes."""
    hmdb51_splits: Path | None = None
    """HMDB51's split files: <class>_test_split1.txt and so on."""
    jhmdb_seeds: int = 3
    """Seeds of each of the three splits."""
    jhmdb_epochs: int = 60
    """Epochs of pretraining on twelve classes, and of training where scenes are tied to classes."""
    transfer_epochs: int = 20
    """Epochs of transfer to the nine others."""

    def __post_init__(self) -> None:
        places = [self.jhmdb_videos, self.jhmdb_masks, self.jhmdb_scenes, self.hmdb51_splits]
        if any(places) and not all(places):
            raise ValueError("jhmdb_videos, jhmdb_masks, jhmdb_scenes and hmdb51_splits go together: give all or none")
        require_at_least(
            1, jhmdb_seeds=self.jhmdb_seeds, jhmdb_epochs=self.jhmdb_epochs, transfer_epochs=self.transfer_epochs
        )


def source_video(clip_name: str) -> str:
    """The video that a clip ``<class>/<clip>`` was cut from, by its name as HMDB51 has it.

    That is ``<video>_<class>_<visible parts>_<camera>_<people>_<viewpoint>_<quality>_<number>``. Clips of one video may
    be of several classes. A clip with another name is a video of its own.
    """
    class_name, _, clip = clip_name.rpartition("/")
    properties = r"[a-z]_[cn]m_np\d+_(fr|ba|le|ri)_(bad|med|goo)_\d+"
    found = re.fullmatch(f"(.+)_{re.escape(class_name)}_{properties}", clip)
    return clip_name if found is None else found[1]


@dataclass(frozen=True)
class PackReal(ABC):
    """A job to pack clips of JHMDB, divided in one way or another: squares around their people."""

    folder: Path
    source: JhmdbConfig

    @property
    @abstractmethod
    def name(self) -> str:
        """What the data set is called."""

    @property
    @abstractmethod
    def split_name(self) -> str:
        """Which of its splits."""

    @property
    @abstractmethod
    def subsets(self) -> tuple[str, ...]:
        """The parts that it is divided into."""

    @abstractmethod
    def divide(self, videos: Path, splits: Path) -> Mapping[str, Iterable[ClipEntry]]:
        """The clips of each subset; what it asks beside the folders of JHMDB's videos and of HMDB51's split files."""

    def shards(self, subset: str) -> Path:
        """A subset of it, packed."""
        return self.folder / subset

    @property
    def is_done(self) -> bool:
        return all((self.shards(subset) / MANIFEST_NAME).exists() for subset in self.subsets)

    def run(self) -> None:
        config = self.source
        assert config.jhmdb_videos is not None, "nothing is packed without it"
        assert config.hmdb51_splits is not None, "checked with the options"
        listed = self.folder / "clips.csv"
        _write_clip_list(listed, self.divide(config.jhmdb_videos, config.hmdb51_splits))
        for subset in self.subsets:
            make_shards(
                MakeShards(
                    source=CsvSource(file=listed, dataset=self.name, split=self.split_name, subset=subset),
                    out=self.shards(subset),
                    masks=str(config.jhmdb_masks),
                    scenes=str(config.jhmdb_scenes),
                    pack=PackConfig(height=FRAME_HEIGHT, mask_scale=1.0, focus="person", workers=1),
                )
            )


@dataclass(frozen=True)
class PackJhmdb(PackReal):
    """The job to pack both sides of a split of HMDB51, of the classes to pretrain on or of those to transfer to."""

    part: Part
    split: Split
    subsets = SUBSETS

    @property
    def name(self) -> str:
        return f"jhmdb-{self.part}"

    @property
    def split_name(self) -> str:
        return str(self.split)

    def divide(self, videos: Path, splits: Path) -> dict[str, list[ClipEntry]]:
        listings = {
            subset: JhmdbSource(root=videos, labels=splits, split=self.split, subset=subset).listing()
            for subset in SUBSETS
        }
        classes = PARTS[self.part]
        return {
            subset: [clip for clip in listing.clips if clip.class_name in classes]
            for subset, listing in listings.items()
        }


def _write_clip_list(path: Path, subsets: Mapping[str, Iterable[ClipEntry]]) -> None:
    """List the clips of all subsets as make_shards.py's ``csv`` source reads them."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["path", "label", "split"])
    for subset, clips in subsets.items():
        writer.writerows([Path(str(clip.path)).resolve(), clip.class_name, subset] for clip in clips)
    with atomic_write(path) as file:
        file.write(text.getvalue().encode())
