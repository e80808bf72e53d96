"""Which samples each step takes: a pure function of (seed, epoch, step), the same at any world size."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from shards.checks import require_at_least
from shards.randomness import Permutation, hash_uint64


def rank_share(positions: range, rank: int, world_size: int, group_size: int = 1) -> range:
    """Return the contiguous part of ``positions`` that one rank takes: whole groups of neighbours.

    The positions are cut into groups of ``group_size`` from their end. What is left at the start is a group of its own,
    but a single position is no group and joins the one after it. So the parts of all ranks, cut by the same rule each
    by itself (`partners`), are the groups of the whole. The numbers of groups differ by at most one between ranks; a
    part is empty where there are fewer groups than ranks.
    """
    require_at_least(1, world_size=world_size, group_size=group_size)
    if not 0 <= rank < world_size:
        raise ValueError(f"rank must be in range({world_size}), got {rank}")
    groups = _group_count(len(positions), group_size)
    # From the end: of the groups, the first alone may have another size.
    first, last = (
        len(positions) - (groups - bound) * group_size if bound else 0
        for bound in (share * groups // world_size for share in (rank, rank + 1))
    )
    return positions[first:last]


def partners(count: int, group_size: int) -> NDArray[np.int64]:
    """Return for each of ``count`` neighbouring positions another one of its group, as `rank_share` cuts groups.

    The next one; after the last of a group comes its first. A position that is alone in its group is its own.
    """
    require_at_least(1, group_size=group_size)
    position = np.arange(count)
    group = _groups(count, group_size)
    is_last = np.append(np.diff(group) > 0, True)[:count]
    first = np.searchsorted(group, group)
    return np.where(is_last, first, position + 1)


def repeated(count: int, repeats: int, group_size: int = 1) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Show each of ``count`` neighbouring positions ``repeats`` times: which it is, and for which time (from 0).

    A group, as `rank_share` cuts them, is shown as a whole before it is shown again: a, b, a, b, then c, d, c, d. So
    what the parts of all ranks become, each by itself, is what the whole becomes, and so are the `partners` in it.
    """
    require_at_least(1, repeats=repeats, group_size=group_size)
    position, repeat = np.tile(np.arange(count), repeats), np.repeat(np.arange(repeats), count)
    order = np.lexsort((position, repeat, _groups(count, group_size)[position]))
    return position[order], repeat[order]


def _groups(count: int, group_size: int) -> NDArray[np.int64]:
    """Which group each position is in, ascending."""
    from_end = (count - 1 - np.arange(count)) // group_size
    return np.maximum(_group_count(count, group_size) - 1 - from_end, 0)


def _group_count(count: int, group_size: int) -> int:
    rest = count % group_size
    return max(count // group_size + (rest > 1), min(count, 1))


class _ShardOrder(NamedTuple):
    """How the shards follow each other in one epoch."""

    shard_bounds: NDArray[np.int64]
    """Position of the first sample of every shard in that order, then N."""
    window_bounds: NDArray[np.int64]
    """Those of every window of shards."""
    shifts: NDArray[np.int64]
    """What is added to a position in a shard to get the sample there."""


@dataclass(frozen=True, eq=False)
class EpochOrder:
    """The order of one data set: every sample exactly once an epoch, in batches of about the same size.

    All but the first of an epoch take multiples of `evenness` samples, and their sizes differ by one such multiple at
    most: so ranks have even shares, of few different sizes, where their number divides it. What is left of the samples
    comes with the first batch.

    Any step of any epoch is found at once. A step costs time for its own samples; with ``shuffle_window_shards``, the
    first step of an epoch costs time for the shards as well.
    """

    sample_count: int
    """Samples in the data set, N."""
    global_batch_size: int
    """Upper limit of the samples of one step over all ranks, B."""
    seed: int = 0
    """Seed of the shuffle."""
    shuffle: bool = True
    """False keeps the stored order."""
    shard_starts: NDArray[np.int64] | tuple[int, ...] | None = None
    """First sample of every shard, then N; needed only with ``shuffle_window_shards``."""
    shuffle_window_shards: int | None = None
    """None shuffles over the whole data set. A number W permutes the shards, then the samples within each group of W
    consecutive shards of that order, so that reads stay within W files at a time."""
    group_size: int = 1
    """Neighbours of the order that a rank takes together (see `rank_share`); the order stays the same."""

    def __post_init__(self) -> None:
        require_at_least(1, sample_count=self.sample_count, global_batch_size=self.global_batch_size)
        require_at_least(1, group_size=self.group_size)
        if self.shuffle_window_shards is None:
            return
        require_at_least(1, shuffle_window_shards=self.shuffle_window_shards)
        if self.shard_starts is None:
            raise ValueError("shard_starts is needed when shuffle_window_shards is given")
        starts = np.asarray(self.shard_starts)
        if len(starts) < 2 or starts[0] != 0 or starts[-1] != self.sample_count or np.any(np.diff(starts) < 1):
            raise ValueError(f"shard_starts must rise from 0 to sample_count = {self.sample_count}")

    @cached_property
    def evenness(self) -> int:
        """What the sizes of batches are multiples of: the largest power of two that divides B and is no more than B/8.

        It depends on B alone, so that a step has the same samples at any world size; 1 for small or odd B.
        """
        B = int(self.global_batch_size)
        return math.gcd(B, 1 << ((max(8, B) // 8).bit_length() - 1))

    @cached_property
    def steps_per_epoch(self) -> int:
        """Steps in one epoch, the same for every rank: ceil(N / B)."""
        return -(-self.sample_count // self.global_batch_size)

    def positions(self, step: int) -> range:
        """Return which positions of the epoch's order one step takes, over all ranks; the same in every epoch."""
        if not 0 <= step < self.steps_per_epoch:
            raise ValueError(f"step must be in range({self.steps_per_epoch}), got {step}")
        multiples, rest = divmod(self.sample_count, self.evenness)
        start, stop = (
            rest + bound * multiples // self.steps_per_epoch * self.evenness if bound else 0
            for bound in (step, step + 1)
        )
        return range(start, stop)

    @property
    def batch_sizes(self) -> tuple[int, int]:
        """How many samples the smallest and the largest step of an epoch take, over all ranks."""
        multiples, rest = divmod(self.sample_count, self.evenness)
        fewest, larger_steps = divmod(multiples, self.steps_per_epoch)
        first, least, most = (fewest * self.evenness + more for more in (rest, 0, self.evenness))
        sizes = {first}
        if larger_steps:
            sizes.add(most)
        if self.steps_per_epoch - larger_steps > 1:
            sizes.add(least)
        return min(sizes), max(sizes)

    def global_batch(self, epoch: int, step: int) -> NDArray[np.int64]:
        """Return the samples of one step over all ranks: shape (b,), b <= B."""
        return self.samples_at(epoch, np.asarray(self.positions(step), dtype=np.int64))

    def rank_batch(self, epoch: int, step: int, rank: int, world_size: int) -> NDArray[np.int64]:
        """Return what `rank_share` gives one rank of the global batch."""
        share = rank_share(self.positions(step), rank, world_size, self.group_size)
        return self.samples_at(epoch, np.asarray(share, dtype=np.int64))

    def samples_at(self, epoch: int, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the samples at some positions of an epoch's order, each in ``range(sample_count)``."""
        require_at_least(0, epoch=epoch)
        if not self.shuffle:
            return positions
        if self.shuffle_window_shards is None:
            return Permutation(self.sample_count, self._key(epoch))(positions)
        return self._shuffle_in_windows(epoch, positions)

    def _key(self, epoch: int) -> NDArray[np.uint64]:
        return hash_uint64(self.seed, epoch)

    def _shuffle_in_windows(self, epoch: int, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        shard_bounds, window_bounds, shifts = self._shard_order(epoch)
        windows = np.searchsorted(window_bounds, positions, side="right") - 1
        shuffled = np.empty_like(positions)
        for window in np.unique(windows):
            first, end = window_bounds[window : window + 2]
            inside = windows == window
            permutation = Permutation(int(end - first), hash_uint64(self._key(epoch), window))
            shuffled[inside] = first + permutation(positions[inside] - first)
        return shuffled + shifts[np.searchsorted(shard_bounds, shuffled, side="right") - 1]

    @cached_property
    def _shard_order(self) -> Callable[[int], _ShardOrder]:
        return lru_cache(maxsize=1)(self._shuffle_shards)  # steps come epoch by epoch

    def _shuffle_shards(self, epoch: int) -> _ShardOrder:
        starts = np.asarray(self.shard_starts, dtype=np.int64)
        shard_count = len(starts) - 1
        shards = Permutation(shard_count, self._key(epoch))(np.arange(shard_count))
        bounds = np.concatenate([[0], np.cumsum(np.diff(starts)[shards])])
        window_bounds = np.append(bounds[: -1 : self.shuffle_window_shards], self.sample_count)
        return _ShardOrder(bounds, window_bounds, starts[shards] - bounds[:-1])
