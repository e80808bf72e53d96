"""The study on JHMDB, real videos with real masks: pretrain on twelve of its classes, transfer to the other nine."""

import csv
import io
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
from shards.sources.listing import Subset
from shards.system.atomic import atomic_write

FRAME_HEIGHT = 80
CLIP = replace(SMALL_CLIP, size=72)
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
    jhmdb_epochs: int = 25
    """Epochs of pretraining on twelve classes."""
    transfer_epochs: int = 20
    """Epochs of transfer to the nine others."""

    def __post_init__(self) -> None:
        places = [self.jhmdb_videos, self.jhmdb_masks, self.jhmdb_scenes, self.hmdb51_splits]
        if any(places) and not all(places):
            raise ValueError("jhmdb_videos, jhmdb_masks, jhmdb_scenes and hmdb51_splits go together: give all or none")
        require_at_least(
            1, jhmdb_seeds=self.jhmdb_seeds, jhmdb_epochs=self.jhmdb_epochs, transfer_epochs=self.transfer_epochs
        )


@dataclass(frozen=True)
class PackJhmdb:
    """The job to pack one side of one split, of the classes to pretrain on or of those to transfer to."""

    folder: Path
    source: JhmdbConfig
    part: Part
    split: Split

    def shards(self, subset: Subset) -> Path:
        return self.folder / subset

    @property
    def is_done(self) -> bool:
        return all((self.shards(subset) / MANIFEST_NAME).exists() for subset in SUBSETS)

    def run(self) -> None:
        config = self.source
        assert config.jhmdb_videos is not None, "nothing is packed without it"
        assert config.hmdb51_splits is not None, "checked with the options"
        listed = self.folder / "clips.csv"
        _write_clip_list(listed, config.jhmdb_videos, config.hmdb51_splits, PARTS[self.part], self.split)
        for subset in SUBSETS:
            make_shards(
                MakeShards(
                    source=CsvSource(file=listed, dataset=f"jhmdb-{self.part}", split=str(self.split), subset=subset),
                    out=self.shards(subset),
                    masks=str(config.jhmdb_masks),
                    scenes=str(config.jhmdb_scenes),
                    pack=PackConfig(height=FRAME_HEIGHT, mask_scale=1.0, workers=1),
                )
            )


def _write_clip_list(path: Path, videos: Path, splits: Path, classes: tuple[str, ...], split: Split) -> None:
    """List the clips of ``classes`` on both sides of a split, as make_shards.py's ``csv`` source reads it."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["path", "label", "split"])
    for subset in SUBSETS:
        for clip in JhmdbSource(root=videos, labels=splits, split=split, subset=subset).listing().clips:
            if clip.class_name in classes:
                writer.writerow([clip.path.resolve(), clip.class_name, subset])
    with atomic_write(path) as file:
        file.write(text.getvalue().encode())
