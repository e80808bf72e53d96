"""Real videos with a real confound: the scene and the action are tied in training, and untied in a test.

JHMDB's scenes are of two kinds, roughly indoors and outdoors, and most of its classes are mostly in one of them. Each
is trained in that kind alone, so that the kind of scene tells which half of the classes a clip is of. The test is the
clips of the other kind, in which it misleads.

Array suffixes: N clips, S scene categories.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from scenebias.annotators.scenes.labels import open_scene_source
from scenebias.study.data.jhmdb import PackReal, source_video
from shards.errors import UserError
from shards.sources.files.video_files import read_video_tree
from shards.sources.jhmdb import CLASSES
from shards.sources.listing import ClipEntry
from shards.system.atomic import write_json

TiedSubset = Literal["train", "usual", "conflicting"]
TIED_SUBSETS: tuple[TiedSubset, ...] = ("train", "usual", "conflicting")
"""usual: held-out clips in the kind of scene of their class; conflicting: clips in the other kind."""
TIED_TESTS: tuple[TiedSubset, TiedSubset] = ("usual", "conflicting")
SIDES_NAME = "sides.json"


def scene_scores(scene_NS: NDArray[np.floating]) -> NDArray[np.float64]:
    """Where each clip's scene lies between two kinds, (N,): negative for the one, positive for the other.

    The first principal component of the square roots of the scene probabilities, whose Euclidean distances are
    Hellinger's of the distributions. On JHMDB it correlates at 0.92 with the probability of being outdoors. Which kind
    is positive means nothing.
    """
    root_NS = np.sqrt(np.asarray(scene_NS, dtype=np.float64))
    centred_NS = root_NS - root_NS.mean(axis=0)
    _, _, component_DS = np.linalg.svd(centred_NS, full_matrices=False)
    return centred_NS @ component_DS[0]


@dataclass(frozen=True)
class Tie:
    """How clips are divided so that scene and action are tied in those to train on."""

    side: Mapping[str, bool]
    """The kind of scene that each class is trained in."""
    subset_N: Sequence[TiedSubset]
    """Where each clip goes."""


def tie(class_N: Sequence[str], source_N: Sequence[str], score_N: NDArray[np.float64]) -> Tie:
    """Divide clips by their classes, source videos and `scene_scores`.

    A class's kind of scene is that in which its clips are on average. Its clips in the other kind are conflicting. The
    videos that these are from are held out whole: what is in its class's kind there is the usual test. So no video is
    both trained and tested on, and both tests are from the same videos; all other clips are trained on.
    """
    scores: defaultdict[str, list[float]] = defaultdict(list)
    for class_name, score in zip(class_N, score_N.tolist(), strict=True):
        scores[class_name].append(score)
    side = {class_name: bool(np.mean(found) > 0) for class_name, found in scores.items()}
    conflicts = [(score > 0) != side[name] for name, score in zip(class_N, score_N.tolist(), strict=True)]
    held_out = {source for source, conflict in zip(source_N, conflicts, strict=True) if conflict}
    return Tie(
        side,
        [
            "conflicting" if conflict else "usual" if source in held_out else "train"
            for source, conflict in zip(source_N, conflicts, strict=True)
        ],
    )


@dataclass(frozen=True)
class PackTied(PackReal):
    """The job to pack all of JHMDB, with scene and action tied in the clips to train on."""

    name = "jhmdb-tied"
    split_name = "tied"
    subsets = TIED_SUBSETS

    @property
    def sides(self) -> Path:
        """The kind of scene that each class is trained in, true or false."""
        return self.folder / SIDES_NAME

    def divide(self, videos: Path, splits: Path) -> dict[str, list[ClipEntry]]:
        """All classes of ``videos``; HMDB51's splits do not matter here. It writes `sides`, too.

        Raises:
            UserError: the scenes do not divide the clips into all three subsets.
        """
        assert self.source.jhmdb_scenes is not None, "checked with the options"
        found = list(read_video_tree(videos, "the folder that holds one folder of videos a class").clips(CLASSES))
        scenes = open_scene_source(self.source.jhmdb_scenes, found)
        clips = [clip for clip in found if clip in scenes]
        tied = tie(
            [clip.class_name for clip in clips],
            [source_video(clip.name) for clip in clips],
            scene_scores(np.stack([scenes.vector(clip) for clip in clips])),
        )
        divided: dict[str, list[ClipEntry]] = {subset: [] for subset in TIED_SUBSETS}
        for subset, clip in zip(tied.subset_N, clips, strict=True):
            divided[subset].append(clip)
        if not all(divided.values()):
            sizes = ", ".join(f"{len(of_subset)} {subset}" for subset, of_subset in divided.items())
            raise UserError(
                f"--jhmdb-scenes {self.source.jhmdb_scenes}: scenes and classes cannot be tied ({sizes} clips);"
                " label the scenes of these very videos"
            )
        write_json(self.sides, dict(tied.side))
        return divided
