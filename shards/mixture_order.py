"""Which clips of several data sets each step takes: a pure function of (seed, epoch, step), at any world size.

A run goes through one sequence of positions, epoch after epoch. They are dealt to the sets evenly, and each set's clips
fill its positions in turn: a pass over the set, in an order of its own, then the next. So a set's passes need not end
where epochs do.

Shape suffixes: B clips of a step or of a rank's share of it, M data sets.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from shards.checks import require_at_least
from shards.order import EpochOrder, rank_share
from shards.randomness import Permutation, hash_uint64

# Keep the orders of the sets, and the layouts of the steps, apart from each other.
_SET_STREAM, _LAYOUT_STREAM = 0x5E700, 0x5E701


class MixedClips(NamedTuple):
    """Clips of several data sets."""

    set_B: NDArray[np.int64]
    """Which set each is of."""
    sample_B: NDArray[np.int64]
    """Its number in that set."""
    pass_B: NDArray[np.int64]
    """How often the run has gone through all of the set before."""


def deal(counts: Sequence[int], places: Iterable[int]) -> NDArray[np.int64]:
    """How many of the first ``places`` positions each of M sets has, for each of the rising ``places``: (places, M).

    ``counts`` are those of all positions. What a set has differs by less than one from its even share of the places.
    Each set's next clip has a first and a last place where this holds; of those that may come the most urgent do (the
    windows of Baruah et al., "Proportionate progress", Algorithmica 1996, and earliest deadline first).
    """
    total = sum(counts)
    dealt = [0] * len(counts)
    rows = []
    for place in places:
        dealt = [max(before, place * count // total) for before, count in zip(dealt, counts, strict=True)]
        may_come = [number for number, count in enumerate(counts) if dealt[number] * total < place * count]
        may_come.sort(key=lambda number: -(-(dealt[number] + 1) * total // counts[number]))
        left = place - sum(dealt)
        assert 0 <= left <= len(may_come), "an even share is always possible"
        for number in may_come[:left]:
            dealt[number] += 1
        rows.append(dealt)
    return np.array(rows, dtype=np.int64).reshape(-1, len(counts))


def apportion(total: int, weights: Sequence[float]) -> tuple[int, ...]:
    """Whole numbers that sum to ``total``, each less than one from its share by ``weights`` (largest remainders)."""
    whole = sum(weights)
    shares = [total * weight / whole for weight in weights]
    counts = [int(share) for share in shares]
    by_remainder = sorted(range(len(shares)), key=lambda number: counts[number] - shares[number])
    for number in by_remainder[: total - sum(counts)]:
        counts[number] += 1
    return tuple(counts)


@dataclass(frozen=True, eq=False)
class MixtureOrder:
    """The order of several data sets: in every epoch so many clips of each, every clip of a set before any of it twice.

    After any step of a run what came of a set differs by less than one clip from its share of what came of all. A step
    lays its clips out at random, so that neighbours are of any sets. Batches are as large as those of an `EpochOrder`
    of as many samples. Eight bytes a step and set are kept.
    """

    sample_counts: tuple[int, ...]
    """Samples in each of M data sets."""
    clips_per_epoch: tuple[int, ...]
    """How many of them an epoch takes, at least 1; more than there are: some come several times."""
    global_batch_size: int
    """Upper limit of the samples of one step over all ranks."""
    seed: int = 0
    """Seed of the shuffle."""
    shard_starts: tuple[NDArray[np.int64] | tuple[int, ...], ...] | None = None
    """Of each set, as of `EpochOrder`; needed only with ``shuffle_window_shards``."""
    shuffle_window_shards: int | None = None
    """As of `EpochOrder`, within each set."""
    group_size: int = 1
    """As of `EpochOrder`."""

    def __post_init__(self) -> None:
        if len(self.sample_counts) != len(self.clips_per_epoch):
            raise ValueError(
                f"clips_per_epoch must have a number for each of {len(self.sample_counts)} data sets, got"
                f" {len(self.clips_per_epoch)}"
            )
        for count in self.clips_per_epoch:
            require_at_least(1, clips_per_epoch=count)
        assert self.steps, "checks the others"
        assert self._orders, "checks those of the sets"

    @cached_property
    def steps(self) -> EpochOrder:
        """Cuts the positions of an epoch into steps; the samples that it has at them mean nothing."""
        return EpochOrder(sum(self.clips_per_epoch), self.global_batch_size, seed=self.seed, group_size=self.group_size)

    @property
    def steps_per_epoch(self) -> int:
        """As of `EpochOrder`."""
        return self.steps.steps_per_epoch

    def counts_in(self, step: int) -> NDArray[np.int64]:
        """How many clips of each set one step takes, over all ranks: (M,); the same in every epoch."""
        before, after = self._dealt[step : step + 2]
        return after - before

    def global_batch(self, epoch: int, step: int) -> MixedClips:
        """Return the clips of one step over all ranks."""
        return self._clips_at(epoch, step, self.steps.positions(step))

    def rank_batch(self, epoch: int, step: int, rank: int, world_size: int) -> MixedClips:
        """Return what `rank_share` gives one rank of the global batch."""
        share = rank_share(self.steps.positions(step), rank, world_size, self.group_size)
        return self._clips_at(epoch, step, share)

    @cached_property
    def _orders(self) -> tuple[EpochOrder, ...]:
        """One for each set, whose epochs are the passes over it."""
        starts = self.shard_starts or (None,) * len(self.sample_counts)
        return tuple(
            EpochOrder(
                count,
                self.global_batch_size,
                seed=int(hash_uint64(self.seed, _SET_STREAM, number)),
                shard_starts=starts[number],
                shuffle_window_shards=self.shuffle_window_shards,
            )
            for number, count in enumerate(self.sample_counts)
        )

    @cached_property
    def _dealt(self) -> NDArray[np.int64]:
        """What the sets have of the positions before every step, then before the epoch's end: (steps + 1, M)."""
        ends = (self.steps.positions(step).stop for step in range(self.steps_per_epoch))
        return deal(self.clips_per_epoch, (0, *ends))

    def _clips_at(self, epoch: int, step: int, places: range) -> MixedClips:
        require_at_least(0, epoch=epoch)
        positions = self.steps.positions(step)
        layout = Permutation(len(positions), hash_uint64(self.seed, epoch, step, _LAYOUT_STREAM))
        laid_out = np.repeat(np.arange(len(self.sample_counts)), self.counts_in(step))[
            layout(np.arange(len(positions)))
        ]
        mine = slice(places.start - positions.start, places.stop - positions.start)
        set_B = laid_out[mine]
        sample_B, pass_B = np.empty_like(set_B), np.empty_like(set_B)
        for number in np.unique(set_B).tolist():
            is_its = set_B == number
            first = epoch * self.clips_per_epoch[number] + self._dealt[step, number]
            turns = first + np.cumsum(laid_out == number)[mine][is_its] - 1
            pass_B[is_its], places_in_pass = np.divmod(turns, self.sample_counts[number])
            sample_B[is_its] = self._samples(number, pass_B[is_its], places_in_pass)
        return MixedClips(set_B, sample_B, pass_B)

    def _samples(self, number: int, pass_B: NDArray[np.int64], place_B: NDArray[np.int64]) -> NDArray[np.int64]:
        sample_B = np.empty_like(place_B)
        for one in np.unique(pass_B).tolist():
            of_pass = pass_B == one
            sample_B[of_pass] = self._orders[number].samples_at(one, place_B[of_pass])
        return sample_B
