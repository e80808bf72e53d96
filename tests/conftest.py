"""Fixtures that every test may use."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings

from shards.codecs.registry import Codec
from shards.format.focus import Focus
from shards.format.manifest import Manifest
from shards.format.sample import SCENE_COUNT, Sample
from tests.project import ROOT
from tools.trials.ready_samples import sample_from_frames, write_samples

# The networks of the tests are so small that threads only get in each other's way.
torch.set_num_threads(1)

# How long an example takes says more about what else the machine does.
settings.register_profile("without deadline", deadline=None)
settings.load_profile("without deadline")

LONGEST_FIRST = (
    "tests/tools/test_make_shards.py",
    "tests/scenebias/training/test_survival.py",
    "tests/shards/packing/test_pack_processes.py",
    "tests/shards/packing/test_entry_points.py",
    "tests/scenebias/study",
    "tests/scenebias/annotators/networks/test_person_networks.py",
    "tests/tools/test_slurm.py",
    "tests/scenebias/distributed/test_launch.py",
    "tests/scenebias/transfer/test_command.py",
    "tests/scenebias/training/test_processes.py",
    "tests/scenebias/benchmark/loading/test_peers.py",
    "tests/scenebias/benchmark/gpu_check/test_processes.py",
    "tests/scenebias/benchmark/gpu_check/test_measured_checks.py",
    "tests/scenebias/test_import_weights.py",
    "tests/scenebias/debiasing/test_every_objective.py",
    "tests/scenebias/evaluation/test_probes.py",
    "tests/tools",
    "tests/scenebias/training",
    "tests/scenebias/demo",
    "tests/shards/storage",
    "tests/test_advice.py",
)
"""Files and folders in which a file takes ten seconds and more."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first: with ``--dist=loadfile``, what comes last keeps one process busy and the others idle."""
    longest = [ROOT / name for name in LONGEST_FIRST]

    @cache
    def place(file: Path) -> int:
        return next((place for place, path in enumerate(longest) if file.is_relative_to(path)), len(longest))

    items.sort(key=lambda item: place(item.path))


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
    codec: Codec = "filmstrip",
    frames_per_part: int = 20,
) -> Sample:
    """A clip of smooth noise with a moving rectangle as its human."""
    random = np.random.default_rng(number)
    coarse = random.integers(0, 256, (frame_count, height // 8, -(-width // 8), 3), dtype=np.uint8)
    mask_height, mask_width = height // 2, width // 2
    mask_NHW = np.zeros((frame_count, mask_height, mask_width), dtype=bool)
    for frame in range(frame_count):
        left = frame % (mask_width - 4)
        mask_NHW[frame, 4:-4, left : left + 4] = frame % 10 != number % 10
    weights = random.random(SCENE_COUNT)
    label = number % len(CLASSES)
    return sample_from_frames(
        coarse.repeat(8, axis=1).repeat(8, axis=2)[:, :, :width],
        name=f"{CLASSES[label]}/clip{number:02d}",
        label=label,
        mask_NHW=mask_NHW if masks else None,
        scene=(weights / weights.sum()).astype(np.float16) if scene else None,
        codec=codec,
        crf=30,
        frames_per_part=frames_per_part,
        source_sha256=f"{number:064x}",
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
    samples = (
        make_synthetic_sample(number, frame_counts.get(number, 20 + number), width=width, masks=number != 5)
        for number, width in enumerate((71, 64, 85) * 4)
    )
    write_samples(directory, samples, CLASSES, samples_per_shard=5)
    return directory


@pytest.fixture(scope="session")
def tiny_test_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another 7 clips of the classes of `tiny_dataset`, its subset "test"."""
    directory = tmp_path_factory.mktemp("tiny-test") / "dataset"
    samples = (make_synthetic_sample(number, 16 + 5 * (number % 5)) for number in range(20, 27))
    write_samples(directory, samples, CLASSES, subset="test", samples_per_shard=4)
    return directory


def focused_copy(folder: Path, copy: Path) -> Path:
    """The data set of ``folder``, as if it showed squares around people."""
    shutil.copytree(folder, copy)
    replace(Manifest.load(copy), focus=Focus("person", 1.3)).save(copy)
    return copy
