"""A data set whose clips are so plain that a measure's value can be counted by hand.

Shape suffixes: T frames, H rows, W columns.
"""

from pathlib import Path

import numpy as np
import pytest

from shards.format.sample import SCENE_COUNT, Sample
from tools.trials.ready_samples import sample_from_frames, write_samples

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
    return sample_from_frames(
        frames_THWC,
        name=f"{ACTIONS[action]}/clip{number:03d}",
        label=action,
        mask_NHW=mask_THW if masks else None,
        scene=np.eye(SCENE_COUNT, dtype=np.float16)[SCENES[scene]],
        source_sha256=f"{number:064x}",
    )


def write_plain_dataset(folder: Path, subset: str, repeats: int, *, masks: bool = True, first_number: int = 0) -> Path:
    """``repeats`` times 7 clips of each action: 5 in its own scene, 1 in each of the other two."""
    samples = []
    for number in range(21 * repeats):
        action, turn = number % 3, number // 3 % 7
        scene = action if turn < 5 else (action + turn - 4) % 3
        samples.append(plain_sample(first_number + number, action, scene, masks=masks))
    write_samples(folder, samples, ACTIONS, dataset="plain", subset=subset, quality=95, samples_per_shard=16)
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
