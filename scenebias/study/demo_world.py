"""The study on the demo world: clips in which it is known what scene goes with which action, and how often.

In ``test`` actions happen in their typical scene with probability ρ, as in ``train``; in ``swapped`` always in that of
another action.
"""

from dataclasses import dataclass
from pathlib import Path

from scenebias.data import make_shards
from scenebias.data.make_shards import MakeShards
from scenebias.demo.render import RenderConfig, render_world
from scenebias.demo.world import ACTIONS, SPLITS
from scenebias.study.recipe import Recipe
from shards.format.manifest import MANIFEST_NAME
from shards.packing.clip_preparation import PackConfig
from shards.sources import FolderSource

FRAME_HEIGHT = 64
BALANCED = 1 / len(ACTIONS)
"""The ρ at which every scene is as likely as any other."""


@dataclass(frozen=True, kw_only=True)
class WorldScale:
    """How large the demo worlds are and how long they are trained on."""

    clips_train: int = 1600
    """Clips to pretrain on, of each demo world."""
    clips_test: int = 240
    """Test clips of each kind: usual, swapped, human alone, scene alone."""
    clips_target_train: int = 400
    """Clips on which the scene probe is fitted."""
    clips_target_test: int = 200
    """Clips on which it is tested."""
    epochs: int = 24
    """Epochs of pretraining on a demo world."""

    def recipe(self, times_longer: int = 1) -> Recipe:
        return Recipe(epochs=times_longer * self.epochs, size=56)


@dataclass(frozen=True)
class World:
    """A demo world, in a folder of its own; ``name`` is what results call it."""

    name: str
    folder: Path
    rho: float
    seed: int
    scale: WorldScale

    def shards(self, split: str) -> Path:
        return self.folder / "shards" / split


@dataclass(frozen=True)
class MakeWorld:
    """The job to render and pack a world."""

    world: World

    @property
    def folder(self) -> Path:
        return self.world.folder

    @property
    def is_done(self) -> bool:
        return all((self.world.shards(split) / MANIFEST_NAME).exists() for split in SPLITS)

    def run(self) -> None:
        scale, rendered = self.world.scale, self.folder / "world"
        render_world(
            RenderConfig(
                out=rendered,
                workers=1,
                rho=self.world.rho,
                seed=self.world.seed,
                clips_train=scale.clips_train,
                clips_test=scale.clips_test,
                clips_target_train=scale.clips_target_train,
                clips_target_test=scale.clips_target_test,
            )
        )
        (self.folder / "shards").mkdir(exist_ok=True)
        for split in SPLITS:
            make_shards.main(
                MakeShards(
                    source=FolderSource(root=rendered / split / "videos", dataset="demo", subset=split),
                    out=self.world.shards(split),
                    masks=str(rendered / split / "masks"),
                    scenes=str(rendered / split / "scene_probs.npz"),
                    pack=PackConfig(height=FRAME_HEIGHT, mask_scale=1.0, workers=1),
                )
            )
