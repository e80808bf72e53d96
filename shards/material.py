"""What clips are made of: which frames of which video, whatever they are called and wherever they were packed.

Two clips share material where they come from the same file, by its checksum, and their ranges of frames overlap.
Disjoint parts of one video are not the same material. N: clips, or ranges.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray

WHOLE_END = (1 << 32) - 1
"""The end of a range that goes as far as its video."""
_SPAN = 1 << 33
"""More than any frame number: source and frame in one sortable integer."""


@dataclass(frozen=True, eq=False)
class Material:
    """Ranges of frames of videos."""

    source_N: NDArray[np.uint64]
    """Which video: the last 8 bytes of the SHA-256 of its file, as a big-endian number. Two files in 100,000 have the
    same with a probability of 3e-10."""
    start_N: NDArray[np.int64]
    """The first frame."""
    end_N: NDArray[np.int64]
    """The frame after the last, at most `WHOLE_END`; not after ``start_N`` where nothing is known of the clip."""

    @classmethod
    def empty(cls) -> Self:
        """No range at all."""
        return cls(np.empty(0, np.uint64), np.empty(0, np.int64), np.empty(0, np.int64))

    def __len__(self) -> int:
        return len(self.source_N)

    @property
    def known_N(self) -> NDArray[np.bool_]:
        """bool (N,): of which clips the source is known."""
        return self.end_N > self.start_N

    @property
    def is_known(self) -> bool:
        """Whether the source of every clip is known."""
        return bool(self.known_N.all())

    @cached_property
    def merged(self) -> "Material":
        """The same frames as disjoint ranges, sorted by source and start; what is not known is left out."""
        known_N = self.known_N
        source_N, start_N, end_N = self.source_N[known_N], self.start_N[known_N], self.end_N[known_N]
        order_N = np.lexsort((start_N, source_N))
        source_N, start_N, end_N = source_N[order_N], start_N[order_N], end_N[order_N]
        offset_N = np.unique(source_N, return_inverse=True)[1] * _SPAN
        reach_N = np.maximum.accumulate(offset_N + end_N)
        begins_N = np.ones(len(source_N), np.bool_)
        begins_N[1:] = offset_N[1:] + start_N[1:] > reach_N[:-1]
        last_N = np.append(begins_N[1:], True)[: len(begins_N)]
        return Material(source_N[begins_N], start_N[begins_N], (reach_N - offset_N)[last_N])

    def joined_with(self, other: "Material") -> "Material":
        """What is in either, merged."""
        return Material(
            np.concatenate([self.source_N, other.source_N]),
            np.concatenate([self.start_N, other.start_N]),
            np.concatenate([self.end_N, other.end_N]),
        ).merged

    def shared_with(self, other: "Material") -> NDArray[np.bool_]:
        """bool (N,): which of these share a frame with any of ``other``. False where the source is not known."""
        theirs = other.merged
        if not len(theirs):
            return np.zeros(len(self), np.bool_)
        sources, their_rank_M = np.unique(theirs.source_N, return_inverse=True)
        rank_N = np.minimum(np.searchsorted(sources, self.source_N), len(sources) - 1)
        # Their ranges are disjoint: the last that begins before one of ours ends is the one that reaches furthest.
        begins_M = their_rank_M * _SPAN + theirs.start_N
        candidate_N = np.maximum(np.searchsorted(begins_M, rank_N * _SPAN + self.end_N, side="left") - 1, 0)
        same_source_N = theirs.source_N[candidate_N] == self.source_N
        begins_before_N = theirs.start_N[candidate_N] < self.end_N
        return self.known_N & same_source_N & begins_before_N & (theirs.end_N[candidate_N] > self.start_N)
