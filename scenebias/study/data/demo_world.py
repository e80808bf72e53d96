"""The study on the demo world: clips in which it is known what scene goes with which action, and how often.

In ``test`` actions happen in their typical scene with probability ρ, as in ``train``; in ``swapped`` always in that of
another action.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

from scenebias.data.make_shards import MakeShards
from scenebias.data.make_shards import main as make_shards
from scenebias.demo.render import RenderConfig, render_world
from scenebias.demo.world import ACTIONS, SPLITS, WorldConfig
from shards.format.manifest import MANIFEST_NAME
from shards.packing.clip_preparation import PackConfig
from shards.sources import FolderSource

BALANCED = 1 / len(ACTIONS)
"""The ρ at which every scene is as likely as any other."""


@dataclass(frozen=True)
class World:
    """A demo world, in a folder of its own."""

    name: str
    """What results call it."""
    folder: Path
    config: WorldConfig

    @property
    def rendered(self) -> Path:
        """Its videos, masks and scene labels."""
        return self.folder / "world"

    def shards(self, split: str) -> Path:
        """A split of it, packed."""
        return self.folder / "shards" / split


@dataclass(frozen=True)
class MakeWorld:
    """The job to render and pack a world."""

    world: World
    workers: int = 1
    """Processes that do it."""

    @property
    def folder(self) -> Path:
        return self.world.folder

    @property
    def is_done(self) -> bool:
        return all((self.world.shards(split) / MANIFEST_NAME).exists() for split in SPLITS)

    def run(self) -> None:
        config, rendered = self.world.config, self.world.rendered
        render_world(RenderConfig(out=rendered, workers=self.workers, **asdict(config)))
        (self.folder / "shards").mkdir(exist_ok=True)
        for split in SPLITS:
            make_shards(
                MakeShards(
                    source=FolderSource(root=rendered / split / "videos", dataset="demo", subset=split),
                    out=self.world.shards(split),
                    masks=str(rendered / split / "masks"),
                    scenes=str(rendered / split / "scene_probs.npz"),
                    pack=PackConfig(height=config.height, mask_scale=1.0, workers=self.workers),
                )
            )
