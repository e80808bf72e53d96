"""What augmentation costs: the time that it takes a clip, to be compared with that of a training step.

In training it is spent in a thread beside the step; a CPU that the step keeps busy altogether pays it in full.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

import torch

from dali_pipelines.clip_decoder import ClipBatch
from dali_pipelines.loader import TrainLoader
from dali_pipelines.windows import ClipConfig
from scenebias.augment.batch import augment
from scenebias.augment.config import AugmentConfig
from scenebias.benchmark.training.stand_ins import StepTimes
from scenebias.training.recipes import STRONG_AUGMENTATION
from shards.dataset import ShardDataset

Augmentation = Literal[
    "random_resized_crop", "stride_range", "rand_augment", "jitter", "grey", "erasing", "swin_strong_set"
]
AUGMENTATIONS: tuple[Augmentation, ...] = get_args(Augmentation)

LOADED: dict[str, dict[str, Any]] = {
    "random_resized_crop": {"crop_area": (0.08, 1.0)},
    "stride_range": {"stride_range": (1, 4)},
}
"""Those that decide what is decoded, as fields of `ClipConfig`: all of the loading is measured."""
CHANGED: dict[str, AugmentConfig] = {
    "rand_augment": AugmentConfig(rand_augment=2),
    "jitter": AugmentConfig(jitter_brightness=0.4, jitter_contrast=0.4, jitter_saturation=0.4, jitter_hue=0.1),
    "grey": AugmentConfig(grey_probability=1.0),
    "erasing": AugmentConfig(erasing_probability=1.0),
    "swin_strong_set": STRONG_AUGMENTATION,
}
"""Those that change pixels: of every clip, but for the set of a recipe, which is taken as it is."""


def loading_turn(
    dataset: ShardDataset, clip: ClipConfig, batch_size: int, steps: int, device: torch.device, threads: int
) -> Callable[[], StepTimes]:
    """A turn of loading so many steps, alone, from the first: with nothing made ahead."""
    loader = TrainLoader(dataset, clip, global_batch_size=batch_size, device=device, threads=threads)
    return lambda: _timed(lambda: (len(batch.label_B) for _, batch in zip(range(steps), loader, strict=False)), device)


def augmenting_turn(config: AugmentConfig, batches: list[ClipBatch], device: torch.device) -> Callable[[], StepTimes]:
    """A turn of augmenting batches that are in memory, each of them as of another epoch."""
    return lambda: _timed(
        lambda: (len(augment(batch, config, seed=0, epoch=epoch).label_B) for epoch, batch in enumerate(batches)),
        device,
    )


def augmentation_turns(
    names: Sequence[Augmentation],
    loader: TrainLoader,
    batches: list[ClipBatch],
    clip: ClipConfig,
    device: torch.device,
    threads: int,
) -> dict[str, Callable[[], StepTimes]]:
    """A turn for each of ``names``, and where one of them is of loading, one of loading as ``clip`` says, "loading"."""
    ways: dict[str, ClipConfig] = {name: replace(clip, **LOADED[name]) for name in names if name in LOADED}
    if ways:
        ways = {"loading": clip, **ways}
    turns = {
        name: loading_turn(loader.dataset, way, loader.clips_in_step(1), len(batches), device, threads)
        for name, way in ways.items()
    }
    return turns | {str(name): augmenting_turn(CHANGED[name], batches, device) for name in names if name in CHANGED}


def _timed(run: Callable[[], Iterable[int]], device: torch.device) -> StepTimes:
    """The times of the second of two passes; ``run`` makes batches and tells how many clips each has."""
    times = StepTimes()
    for number in range(2):
        begun_s = time.perf_counter()
        clips = sum(run())
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        elapsed_s = time.perf_counter() - begun_s
        times.write("step", number, {"step_s": elapsed_s, "clips_per_s": clips / elapsed_s})
    return times
