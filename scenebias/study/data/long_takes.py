"""The study on long takes of the demo world: weights are transferred to localising and detecting actions.

In ``test`` actions happen in their typical scene with probability ρ, as in ``train``; in ``swapped`` always in that of
another action. So what is trained on them is trained where scenes mislead, as the weights were.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

from scenebias.data.make_shards import MakeShards
from scenebias.data.make_shards import main as make_shards
from scenebias.demo.render_takes import TakesConfig, TakesSize, render_takes
from scenebias.demo.takes import TAKE_SPLITS
from shards.format.manifest import MANIFEST_NAME
from shards.packing.clip_preparation import PackConfig
from shards.sources import FolderSource

TAKES_SEED = 2000
"""Of other people, places and takes than any world that models are pretrained in."""
TakesTest = Literal["test", "swapped"]
TAKES_TESTS: tuple[TakesTest, ...] = get_args(TakesTest)


@dataclass(frozen=True)
class LongTakes:
    """Long takes in a folder of their own."""

    name: str
    """What results call them."""
    folder: Path
    rho: float
    size: TakesSize

    @property
    def rendered(self) -> Path:
        """Their videos, masks, scene labels and what is true of them."""
        return self.folder / "takes"

    def shards(self, split: str) -> Path:
        """A split of them, packed."""
        return self.folder / "shards" / split


@dataclass(frozen=True)
class MakeTakes:
    """The job to render and pack long takes."""

    takes: LongTakes

    @property
    def folder(self) -> Path:
        return self.takes.folder

    @property
    def is_done(self) -> bool:
        return all((self.takes.shards(split) / MANIFEST_NAME).exists() for split in TAKE_SPLITS)

    def run(self) -> None:
        rendered = self.takes.rendered
        config = TakesConfig(out=rendered, workers=1, seed=TAKES_SEED, rho=self.takes.rho, **asdict(self.takes.size))
        render_takes(config)
        (self.folder / "shards").mkdir(exist_ok=True)
        for split in TAKE_SPLITS:
            of_split = rendered / split
            make_shards(
                MakeShards(
                    source=FolderSource(
                        root=of_split / "videos",
                        segments=of_split / "segments.csv",
                        boxes=of_split / "boxes.csv",
                        classes=rendered / "classes.txt",
                        dataset="demo-takes",
                        subset=split,
                    ),
                    out=self.takes.shards(split),
                    masks=str(of_split / "masks"),
                    scenes=str(of_split / "scene_probs.npz"),
                    pack=PackConfig(height=config.height, mask_scale=1.0, workers=1),
                )
            )
