"""Small packed data sets with known pixels."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from shards.codecs.registry import Codec
from shards.dataset import ShardDataset
from shards.format.sample import SCENE_COUNT, Sample
from tools.trials.ready_samples import sample_from_frames, write_samples

CLASSES = ("run", "swim", "throw")
MakeDataset = Callable[..., ShardDataset]


def smooth_frames(seed: int, frame_count: int, height: int, width: int) -> np.ndarray:
    """Moving waves: no two frames are alike, and JPEG keeps them well."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    time = np.arange(frame_count)[:, None, None]
    waves = [
        np.sin(x / random.uniform(4, 12) + y / random.uniform(4, 12) + time * random.uniform(0.3, 1)) for _ in range(3)
    ]
    return (127.5 + 120 * np.stack(waves, axis=-1)).astype(np.uint8)


def build_sample(
    seed: int,
    *,
    frame_count: int = 20,
    size: tuple[int, int] = (48, 64),
    frames: np.ndarray | None = None,
    masks: np.ndarray | None = None,
    scene: bool = True,
    quality: int = 85,
    codec: Codec = "filmstrip",
) -> Sample:
    """One sample; ``masks``: bool (N, h, w). A video segment has 8 frames."""
    frames = smooth_frames(seed, frame_count, *size) if frames is None else frames
    label = seed % len(CLASSES)
    scene_label = np.random.default_rng(seed).dirichlet(np.ones(SCENE_COUNT)).astype(np.float16) if scene else None
    return sample_from_frames(
        frames,
        name=f"{CLASSES[label]}/clip_{seed}",
        label=label,
        mask_NHW=masks,
        scene=scene_label,
        fps=30.0,
        codec=codec,
        quality=quality,
        frames_per_part=1000 if codec == "filmstrip" else 8,
    )


def build_masks(seed: int, frame_count: int, size: tuple[int, int]) -> np.ndarray:
    """A rectangle that is somewhere else in every frame."""
    random = np.random.default_rng(seed)
    masks = np.zeros((frame_count, *size), bool)
    for mask in masks:
        top, left = random.integers(0, size[0] // 2), random.integers(0, size[1] // 2)
        mask[top : top + size[0] // 2, left : left + size[1] // 2] = True
    return masks


@pytest.fixture(scope="session")
def make_sample() -> Callable[..., Sample]:
    """The function `build_sample`."""
    return build_sample


@pytest.fixture(scope="session")
def random_masks() -> Callable[..., np.ndarray]:
    """The function `build_masks`."""
    return build_masks


@pytest.fixture(scope="session")
def make_dataset(tmp_path_factory: pytest.TempPathFactory) -> MakeDataset:
    """Packs samples and opens the data set."""

    def make(samples: list[Sample], *, samples_per_shard: int = 7) -> ShardDataset:
        directory: Path = tmp_path_factory.mktemp("shards")
        write_samples(directory, samples, CLASSES, dataset="waves", samples_per_shard=samples_per_shard)
        return ShardDataset.open(directory)

    return make


VIDEO_FRAME_COUNTS = (20, 5, 8, 9, 31, 17, 12, 40)


@pytest.fixture(scope="session")
def video_waves(make_dataset: MakeDataset) -> Callable[[Codec], ShardDataset]:
    """Makes (once) a data set of 8 clips of 5 to 40 frames in segments of 8, with masks; clip 2 has none."""

    @cache
    def make(codec: Codec) -> ShardDataset:
        samples = []
        for seed, frame_count in enumerate(VIDEO_FRAME_COUNTS):
            size = (48, 64) if seed % 3 else (64, 50)
            masks = None if seed == 2 else build_masks(seed, frame_count, (size[0] // 2, size[1] // 2))
            samples.append(build_sample(seed, frame_count=frame_count, size=size, masks=masks, codec=codec))
        return make_dataset(samples, samples_per_shard=3)

    return make


@pytest.fixture(scope="session")
def waves(make_dataset: MakeDataset) -> ShardDataset:
    """23 clips of two sizes and 5 to 50 frames, with masks and scenes; sample 4 has no mask, sample 6 no scene."""
    samples = []
    for seed in range(23):
        frame_count = 5 + 2 * seed
        size = (48, 64) if seed % 3 else (64, 48)
        masks = None if seed == 4 else build_masks(seed, frame_count, (size[0] // 2, size[1] // 2))
        samples.append(build_sample(seed, frame_count=frame_count, size=size, masks=masks, scene=seed != 6))
    return make_dataset(samples)
