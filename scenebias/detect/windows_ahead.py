"""Windows of key frames, read and decoded by threads while the batch before them is computed.

Shape suffixes: B windows of a batch, T frames, H rows, W columns, C channels.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dali_pipelines.windows import ClipConfig
from scenebias.detect.key_frames import InputConfig, KeyFrames, Window, read_windows, training_window
from shards.checks import require_at_least
from shards.order import EpochOrder, rank_share

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class ReadingConfig:
    """How windows are made ahead; decides nothing of the result."""

    loader_threads: int = 2
    """Decoding threads of each process."""
    loader_prefetch: int = 2
    """Batches that each process makes ahead."""

    def __post_init__(self) -> None:
        require_at_least(1, loader_threads=self.loader_threads, loader_prefetch=self.loader_prefetch)


DEFAULT_READING = ReadingConfig()


def in_threads(work: Callable[[Item], Result], items: Iterable[Item], *, threads: int, ahead: int) -> Iterator[Result]:
    """What ``work`` makes of each of the ``items``, in their order, up to ``ahead`` of them before they are asked for.

    Items are drawn in the caller's thread. What is not begun when the iterator is closed is not made.
    """
    pool = ThreadPoolExecutor(threads, "window", initializer=torch.set_num_threads, initargs=(1,))
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


@dataclass(frozen=True, eq=False)
class TrainingWindows:
    """Every key frame of a data set once an epoch, in an order of the epoch's own that one integer decides."""

    key_frames: KeyFrames
    clip: ClipConfig
    input_config: InputConfig
    batch_size: int
    """Windows of a step, over all processes."""
    seed: int
    reading: ReadingConfig = DEFAULT_READING

    @property
    def order(self) -> EpochOrder:
        """Which key frames each step takes."""
        return EpochOrder(len(self.key_frames), self.batch_size, self.seed)

    @property
    def steps_per_epoch(self) -> int:
        return self.order.steps_per_epoch

    def batches(
        self, first_epoch: int, epochs: int, start_step: int, rank: int, world_size: int
    ) -> Iterator[list[Window]]:
        """One rank's share of every step from ``start_step`` of ``first_epoch`` to the end of epoch ``epochs`` - 1.

        Raises:
            UserError: a video is damaged, or its shard cannot be fetched.
        """
        order = self.order
        numbers = (
            (epoch, number)
            for epoch in range(first_epoch, epochs)
            for step in range(start_step if epoch == first_epoch else 0, order.steps_per_epoch)
            for number in order.rank_batch(epoch, step, rank, world_size).tolist()
        )
        ahead = self.reading.loader_prefetch * -(-self.batch_size // world_size)
        windows = in_threads(self._window, self._fetched(numbers), threads=self.reading.loader_threads, ahead=ahead)
        for epoch in range(first_epoch, epochs):
            for step in range(start_step if epoch == first_epoch else 0, order.steps_per_epoch):
                count = len(rank_share(order.positions(step), rank, world_size))
                yield [next(windows) for _ in range(count)]

    def _fetched(self, numbers: Iterator[tuple[int, int]]) -> Iterator[tuple[int, int]]:
        """The same, while shards of a remote data set are fetched before they are needed."""
        video_K = self.key_frames.video_K
        return self.key_frames.dataset.reading_ahead(numbers, lambda item: video_K[[item[1]]])

    def _window(self, item: tuple[int, int]) -> Window:
        epoch, number = item
        return training_window(self.key_frames, number, self.clip, self.input_config, self.seed, epoch)


@dataclass(frozen=True, eq=False)
class KeyFrameBatch:
    """Key frames with their windows, to be looked at."""

    number_B: NDArray[np.int64]
    """Which of the `KeyFrames`, neighbours."""
    clip_BTHWC: Tensor
    """uint8, whole frames."""


def evaluation_batches(
    key_frames: KeyFrames,
    clip: ClipConfig,
    input_size: tuple[int, int],
    batch_size: int,
    *,
    rank: int = 0,
    world_size: int = 1,
    reading: ReadingConfig = DEFAULT_READING,
) -> Iterator[KeyFrameBatch]:
    """One rank's share of all key frames, each once whatever the number of ranks; raises as `read_windows`."""
    mine = rank_share(range(len(key_frames)), rank, world_size)
    batches = (np.array(mine[start : start + batch_size]) for start in range(0, len(mine), batch_size))
    fetched = key_frames.dataset.reading_ahead(batches, lambda number_B: key_frames.video_K[number_B])
    work = partial(_evaluation_batch, key_frames, clip, input_size)
    return in_threads(work, fetched, threads=reading.loader_threads, ahead=reading.loader_prefetch)


def _evaluation_batch(
    key_frames: KeyFrames, clip: ClipConfig, input_size: tuple[int, int], number_B: NDArray[np.int64]
) -> KeyFrameBatch:
    video_B, frame_B = key_frames.video_K[number_B], key_frames.first_K[number_B]
    windows = [
        read_windows(
            key_frames.dataset,
            video,
            frame_B[video_B == video],
            key_frames.placement(video, input_size),
            clip,
            input_size,
        )
        for video in np.unique(video_B).tolist()  # key frames are in the order of their videos
    ]
    return KeyFrameBatch(number_B, torch.cat(windows))
