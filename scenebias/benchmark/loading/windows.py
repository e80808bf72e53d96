"""Which windows of which clips are measured: the same ones for every loader.

Shape suffixes: T frames of a window, S scenes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dali_pipelines.windows import ClipConfig, Windows, draw_training_windows, frame_indices
from shards.dataset import ShardDataset
from shards.format.sample import SCENE_COUNT
from shards.order import EpochOrder

SEED = 0
EPOCH = 0


@dataclass(frozen=True, eq=False)
class ClipWindow:
    """What every loader is to make of one clip; it travels to worker processes."""

    sample: int
    """Its number in the data set."""
    name: str
    fps: float
    label: int
    scene_S: NDArray[np.float32]
    frames_T: NDArray[np.int64]
    """Frames of the clip, which are also those of its original video."""
    frame_height: int
    """Rows of the stored frame, in whose pixels ``top``, ``left``, ``height`` and ``width`` of the crop are."""
    top: int
    left: int
    height: int
    width: int
    flip: bool

    @property
    def first(self) -> int:
        """The first frame in time."""
        return int(self.frames_T.min())

    @property
    def last(self) -> int:
        """The last frame in time."""
        return int(self.frames_T.max())

    def crop_at(self, frame_height: int) -> tuple[int, int, int, int]:
        """Top, left, height and width of the crop in whole pixels of frames that are ``frame_height`` rows high."""
        scale = frame_height / self.frame_height
        top, left, height, width = (round(value * scale) for value in (self.top, self.left, self.height, self.width))
        return top, left, max(height, 1), max(width, 1)


def measured_steps(dataset: ShardDataset, batch_size: int, steps: int) -> range:
    """The last ``steps`` steps of an epoch, at most all: a loader that ends its epoch can be used again at once."""
    total = EpochOrder(sample_count=len(dataset), global_batch_size=batch_size, seed=SEED).steps_per_epoch
    return range(max(0, total - steps), total)


def plan_windows(dataset: ShardDataset, clip: ClipConfig, batch_size: int, steps: int) -> list[Windows]:
    """The windows that our loader cuts in those steps, batch by batch."""
    order = EpochOrder(sample_count=len(dataset), global_batch_size=batch_size, seed=SEED)
    batches = [order.global_batch(EPOCH, step) for step in measured_steps(dataset, batch_size, steps)]
    return [
        draw_training_windows(
            clip,
            seed=SEED,
            epoch=EPOCH,
            sample_B=sample_B,
            frame_count_B=dataset.frame_counts[sample_B],
            frame_size_B2=dataset.frame_sizes[sample_B],
        )
        for sample_B in batches
    ]


def describe_windows(dataset: ShardDataset, clip: ClipConfig, batches: list[Windows]) -> list[ClipWindow]:
    """One description for every window, in order."""
    described = []
    for batch in batches:
        frames_BT = frame_indices(clip, batch, dataset.frame_counts[batch.sample_B])
        for index, sample in enumerate(batch.sample_B.tolist()):
            info = dataset.info(sample)
            scenes = dataset.scenes
            described.append(
                ClipWindow(
                    sample=sample,
                    name=info.name,
                    fps=info.fps,
                    label=int(dataset.labels[sample]),
                    scene_S=(
                        np.zeros(SCENE_COUNT, np.float32) if scenes is None else scenes[sample].astype(np.float32)
                    ),
                    frames_T=frames_BT[index],
                    frame_height=info.height,
                    top=int(batch.top_B[index]),
                    left=int(batch.left_B[index]),
                    height=int(batch.height_B[index]),
                    width=int(batch.width_B[index]),
                    flip=bool(batch.flip_B[index]),
                )
            )
    return described
