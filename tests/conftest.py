"""Fixtures that every test may use."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings

from shards.codecs.filmstrip import encode_strips
from shards.codecs.masks import pack_masks
from shards.format.manifest import Manifest
from shards.format.sample import SCENE_COUNT, ClipInfo, Sample
from shards.format.writer import ShardWriter
from tests.project import ROOT

# The networks of the tests are so small that threads only get in each other's way.
torch.set_num_threads(1)

# How long an example takes says more about what else the machine does.
settings.register_profile("without deadline", deadline=None)
settings.load_profile("without deadline")

LONGEST_FIRST = (
    "tests/tools/test_make_shards.py",
    "tests/scenebias/training/test_survival.py",
    "tests/shards/packing/test_pack.py",
    "tests/scenebias/study",
    "tests/scenebias/annotators/networks/test_person_networks.py",
    "tests/scenebias/transfer/test_command.py",
    "tests/scenebias/training/test_processes.py",
    "tests/scenebias/benchmark/loading/test_peers.py",
    "tests/tools",
    "tests/scenebias/training",
    "tests/scenebias/demo",
    "tests/shards/storage",
)
"""Files and folders in which a file takes ten seconds and more."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first: with ``--dist=loadfile``, what comes last keeps one process busy and the others idle."""
    longest = [ROOT / name for name in LONGEST_FIRST]

    def place(item: pytest.Item) -> int:
        return next((place for place, path in enumerate(longest) if item.path.is_relative_to(path)), len(longest))

    items.sort(key=place)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real videos, masks and labels beside the checkout; the test is skipped where it is absent."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"real data not found: {folder} does not exist")
    return folder


CLASSES = ("clap", "jump", "wave")


def make_synthetic_sample(
    number: int,
    frame_count: int = 24,
    *,
    height: int = 48,
    width: int = 71,
    masks: bool = True,
    scene: bool = True,
    max_rows: int = 48 * 20,
) -> Sample:
    """A clip of smooth noise with a moving rectangle as its human; strips hold 20 frames unless told otherwise."""
    random = np.random.default_rng(number)
    coarse = random.integers(0, 256, (frame_count, height // 8, -(-width // 8), 3), dtype=np.uint8)
    frames_NHWC = coarse.repeat(8, axis=1).repeat(8, axis=2)[:, :, :width]
    mask_height, mask_width = height // 2, width // 2
    mask_NHW = np.zeros((frame_count, mask_height, mask_width), dtype=bool)
    for frame in range(frame_count):
        left = frame % (mask_width - 4)
        mask_NHW[frame, 4:-4, left : left + 4] = frame % 10 != number % 10
    weights = random.random(SCENE_COUNT)
    return Sample(
        label=number % len(CLASSES),
        info=ClipInfo(
            name=f"{CLASSES[number % len(CLASSES)]}/clip{number:02d}",
            class_name=CLASSES[number % len(CLASSES)],
            fps=25.0,
            frame_count=frame_count,
            width=width,
            height=height,
            mask_width=mask_width if masks else 0,
            mask_height=mask_height if masks else 0,
            person_share=float(mask_NHW.any(axis=(1, 2)).mean()) if masks else None,
            source_sha256=f"{number:064x}",
        ),
        parts=tuple(encode_strips(frames_NHWC, max_rows=max_rows)),
        masks=pack_masks(mask_NHW) if masks else None,
        scene=(weights / weights.sum()).astype(np.float16) if scene else None,
    )


@pytest.fixture(scope="session")
def synthetic_sample() -> Callable[..., Sample]:
    """The function `make_synthetic_sample`."""
    return make_synthetic_sample


@pytest.fixture(scope="session")
def tiny_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A packed data set of 12 clips: 3 classes, 5 clips a shard, 48 rows, several odd widths, masks and scenes.

    Clip 3 has 9 frames, clip 7 has 75 in four strips, clip 5 has no masks, and the others have 20 to 31.
    """
    directory = tmp_path_factory.mktemp("tiny") / "dataset"
    frame_counts = {3: 9, 7: 75}
    with ShardWriter(directory, samples_per_shard=5) as writer:
        for number in range(12):
            frame_count = frame_counts.get(number, 20 + number)
            width = (71, 64, 85)[number % 3]
            writer.write(make_synthetic_sample(number, frame_count, width=width, masks=number != 5))
        writer.close(
            Manifest(dataset="synthetic", split="1", subset="train", classes=CLASSES, frame_height=48, quality=85)
        )
    return directory


@pytest.fixture(scope="session")
def tiny_test_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another 7 clips of the classes of `tiny_dataset`, its subset "test"."""
    directory = tmp_path_factory.mktemp("tiny-test") / "dataset"
    with ShardWriter(directory, samples_per_shard=4) as writer:
        for number in range(20, 27):
            writer.write(make_synthetic_sample(number, 16 + 5 * (number % 5)))
        writer.close(
            Manifest(dataset="synthetic", split="1", subset="test", classes=CLASSES, frame_height=48, quality=85)
        )
    return directory
