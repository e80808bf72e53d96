"""A data set whose clips are so plain that a measure's value can be counted by hand.

Shape suffixes: T frames, H rows, W columns.
"""

from pathlib import Path

import numpy as np
import pytest

from shards.codecs.filmstrip import encode_strips
from shards.codecs.masks import pack_masks
from shards.format.manifest import Manifest
from shards.format.sample import SCENE_COUNT, ClipInfo, Sample
from shards.format.writer import ShardWriter

ACTIONS = ("blue", "green", "red")
FRAMES, HEIGHT, WIDTH = 20, 48, 64
SCENES = (100, 7, 300)
"""The scene category that goes with each action."""
SCENE_LEVELS = (40, 120, 220)
"""How bright each of these scenes is."""


def plain_sample(number: int, action: int, scene: int, *, masks: bool, person: bool = True) -> Sample:
    """A human, a coloured rectangle that walks, before an even grey wall; both are 0, 1 or 2."""
    frames_THWC = np.full((FRAMES, HEIGHT, WIDTH, 3), SCENE_LEVELS[scene], dtype=np.uint8)
    mask_THW = np.zeros((FRAMES, HEIGHT, WIDTH), dtype=bool)
    for frame in range(FRAMES if person else 0):
        left = 16 + frame + number % 4
        mask_THW[frame, 12:36, left : left + 8] = True
    frames_THWC[mask_THW] = [255 * (channel == 2 - action) for channel in range(3)]
    return Sample(
        label=action,
        info=ClipInfo(
            name=f"{ACTIONS[action]}/clip{number:03d}",
            class_name=ACTIONS[action],
            fps=25.0,
            frame_count=FRAMES,
            width=WIDTH,
            height=HEIGHT,
            mask_width=WIDTH if masks else 0,
            mask_height=HEIGHT if masks else 0,
            person_share=float(person) if masks else None,
            source_sha256=f"{number:064x}",
        ),
        parts=tuple(encode_strips(frames_THWC)),
        masks=pack_masks(mask_THW) if masks else None,
        scene=np.eye(SCENE_COUNT, dtype=np.float16)[SCENES[scene]],
    )


def write_plain_dataset(folder: Path, subset: str, repeats: int, *, masks: bool = True, first_number: int = 0) -> Path:
    """``repeats`` times 7 clips of each action: 5 in its own scene, 1 in each of the other two."""
    with ShardWriter(folder, samples_per_shard=16) as writer:
        for number in range(21 * repeats):
            action, turn = number % 3, number // 3 % 7
            scene = action if turn < 5 else (action + turn - 4) % 3
            writer.write(plain_sample(first_number + number, action, scene, masks=masks))
        manifest = Manifest(dataset="plain", split="1", subset=subset, classes=ACTIONS, frame_height=HEIGHT, quality=95)
        writer.close(manifest)
    return folder


@pytest.fixture(scope="session")
def plain_train(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """42 clips with masks and scenes."""
    return write_plain_dataset(tmp_path_factory.mktemp("plain") / "train", "train", 2)


@pytest.fixture(scope="session")
def plain_test(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another 21 of the same kind."""
    return write_plain_dataset(tmp_path_factory.mktemp("plain") / "test", "test", 1, first_number=100)


@pytest.fixture(scope="session")
def plain_test_without_masks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Those of `plain_test`, packed without masks."""
    return write_plain_dataset(tmp_path_factory.mktemp("bare") / "test", "test", 1, masks=False, first_number=100)
