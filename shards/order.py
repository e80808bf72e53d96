"""Which samples each step takes: a pure function of (seed, epoch, step), the same at any world size."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from shards.randomness import Permutation, hash_uint64


@dataclass(frozen=True, eq=False)
class EpochOrder:
    """The order of one data set: every sample exactly once an epoch, in batches whose sizes differ by at most one.

    Attributes:
        sample_count: Samples in the data set, N.
        global_batch_size: Upper limit of the samples of one step over all ranks, B.
        seed: Seed of the shuffle.
        shuffle: False keeps the stored order.
        shard_starts: First sample of every shard, then N; needed only with ``shuffle_window_shards``.
        shuffle_window_shards: None shuffles over the whole data set. A number W permutes the shards, then the samples
            within each group of W consecutive shards of that order, so that reads stay within W files at a time.
    """

    sample_count: int
    global_batch_size: int
    seed: int = 0
    shuffle: bool = True
    shard_starts: NDArray[np.int64] | tuple[int, ...] | None = None
    shuffle_window_shards: int | None = None

    def __post_init__(self) -> None:
        for name in ("sample_count", "global_batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.shuffle_window_shards is None:
            return
        if self.shuffle_window_shards < 1:
            raise ValueError(f"shuffle_window_shards must be at least 1 or None, got {self.shuffle_window_shards}")
        if self.shard_starts is None:
            raise ValueError("shard_starts is needed when shuffle_window_shards is given")
        starts = np.asarray(self.shard_starts)
        if len(starts) < 2 or starts[0] != 0 or starts[-1] != self.sample_count or np.any(np.diff(starts) < 1):
            raise ValueError(f"shard_starts must rise from 0 to sample_count = {self.sample_count}")

    @cached_property
    def steps_per_epoch(self) -> int:
        """Steps in one epoch, the same for every rank: ceil(N / B)."""
        return -(-self.sample_count // self.global_batch_size)

    def positions(self, step: int) -> range:
        """Return which positions of the epoch's order one step takes, over all ranks; the same in every epoch."""
        if not 0 <= step < self.steps_per_epoch:
            raise ValueError(f"step must be in range({self.steps_per_epoch}), got {step}")
        start, stop = (bound * self.sample_count // self.steps_per_epoch for bound in (step, step + 1))
        return range(start, stop)

    def global_batch(self, epoch: int, step: int) -> NDArray[np.int64]:
        """Return the samples of one step over all ranks: shape (b,), b <= B."""
        if epoch < 0:
            raise ValueError(f"epoch must be at least 0, got {epoch}")
        positions = np.asarray(self.positions(step))
        if not self.shuffle:
            return positions
        key = hash_uint64(self.seed, epoch)
        if self.shuffle_window_shards is None:
            return Permutation(self.sample_count, key)(positions)
        return self._shuffle_in_windows(positions, key, self.shuffle_window_shards)

    def rank_batch(self, epoch: int, step: int, rank: int, world_size: int) -> NDArray[np.int64]:
        """Return the contiguous slice of the global batch that one rank takes.

        Sizes differ by at most one between ranks; a rank's slice is empty when the batch has fewer samples than ranks.
        """
        if world_size < 1:
            raise ValueError(f"world_size must be at least 1, got {world_size}")
        if not 0 <= rank < world_size:
            raise ValueError(f"rank must be in range({world_size}), got {rank}")
        batch = self.global_batch(epoch, step)
        return batch[rank * len(batch) // world_size : (rank + 1) * len(batch) // world_size]

    def _shuffle_in_windows(
        self, positions: NDArray[np.int64], key: NDArray[np.uint64], window_shards: int
    ) -> NDArray[np.int64]:
        starts = np.asarray(self.shard_starts, dtype=np.int64)
        shard_count = len(starts) - 1
        shards = Permutation(shard_count, key)(np.arange(shard_count))
        shard_bounds = np.concatenate([[0], np.cumsum(np.diff(starts)[shards])])  # where each shard lies in the epoch
        window_bounds = np.append(shard_bounds[:-1:window_shards], self.sample_count)

        windows = np.searchsorted(window_bounds, positions, side="right") - 1
        shuffled = np.empty_like(positions)
        for window in np.unique(windows):
            first, end = window_bounds[window : window + 2]
            inside = windows == window
            permutation = Permutation(int(end - first), hash_uint64(key, window))
            shuffled[inside] = first + permutation(positions[inside] - first)
        place = np.searchsorted(shard_bounds, shuffled, side="right") - 1
        return starts[shards[place]] + shuffled - shard_bounds[place]
