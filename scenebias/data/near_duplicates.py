"""Clips that show the same pictures: re-encoded, scaled, mirrored, trimmed, or at another frame rate.

The distance of two clips is the median, over the hashes of either, of the bits by which each differs from the nearest
of the other: of both ways, and mirrored or not, the least. So half of the shorter clip must be in the longer.
Shape suffixes: F, G hashes of two data sets, T, U of two clips, P pairs.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scenebias.data.frame_hashes import MIRRORED, FrameHashes
from scenebias.reports.html import some_frames

LARGEST_DISTANCE = 10.0
"""Bits of 63. Copies lie below it, other clips mostly above 15."""
_BANDS = (0, 16, 32, 48)
_BAND_MASK = np.uint64(0xFFFF)
_PAIRS_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class NearDuplicate:
    """Two clips that look alike."""

    ours: int
    """The clip of the first data set."""
    theirs: int
    """The clip of the second."""
    distance: float
    """Bits, 0 to 63."""
    mirrored: bool
    """Whether one is the mirror image of the other."""


def find_near_duplicates(ours: FrameHashes, theirs: FrameHashes, *, same: bool = False) -> list[NearDuplicate]:
    """All pairs up to `LARGEST_DISTANCE`, the nearest first; of the ``same`` data set twice, each pair once.

    Pairs are looked at that have two frames equal in one of four bands of 16 bits, which are all that have two frames
    within 3 bits.
    """
    pairs = []
    for a, b in sorted(_candidates(ours, theirs)):
        if same and a >= b:
            continue
        hash_T, hash_U = ours.hash_F[ours.of(a)], theirs.hash_F[theirs.of(b)]
        plain, mirrored = clip_distance(hash_T, hash_U), clip_distance(hash_T ^ MIRRORED, hash_U)
        if min(plain, mirrored) <= LARGEST_DISTANCE:
            pairs.append(NearDuplicate(a, b, min(plain, mirrored), mirrored < plain))
    return sorted(pairs, key=lambda pair: pair.distance)


def clip_distance(hash_T: NDArray[np.uint64], hash_U: NDArray[np.uint64]) -> float:
    """The distance of two clips by their hashes, without regard to mirroring."""
    bits_TU = np.bitwise_count(hash_T[:, None] ^ hash_U[None])
    return float(min(np.median(bits_TU.min(axis=axis)) for axis in (0, 1)))


def matching_frames(
    pair: NearDuplicate, ours: FrameHashes, theirs: FrameHashes, count: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """At most ``count`` frames of ours and as many of theirs that look alike, spread over the clip with fewer."""
    of_ours, of_theirs = ours.of(pair.ours), theirs.of(pair.theirs)
    turned = MIRRORED if pair.mirrored else np.uint64(0)
    bits_TU = np.bitwise_count((ours.hash_F[of_ours] ^ turned)[:, None] ^ theirs.hash_F[of_theirs][None])
    fewer = 0 if bits_TU.shape[0] <= bits_TU.shape[1] else 1
    best = np.argsort(bits_TU.min(axis=1 - fewer), kind="stable")[: -(-bits_TU.shape[fewer] // 2)]
    chosen_K = np.sort(best)[some_frames(len(best), min(count, len(best)))]
    nearest_K = bits_TU.argmin(axis=1 - fewer)[chosen_K]
    places = (chosen_K, nearest_K) if fewer == 0 else (nearest_K, chosen_K)
    return ours.frame_F[of_ours][places[0]], theirs.frame_F[of_theirs][places[1]]


def _candidates(ours: FrameHashes, theirs: FrameHashes) -> set[tuple[int, int]]:
    """The pairs of clips of which two frames are alike and have a band in common."""
    found: set[tuple[int, int]] = set()
    for shift in _BANDS:
        band_G = theirs.hash_F >> np.uint64(shift) & _BAND_MASK
        order_G = np.argsort(band_G, kind="stable")
        sorted_G = band_G[order_G]
        for hash_F in (ours.hash_F, ours.hash_F ^ MIRRORED):
            band_F = hash_F >> np.uint64(shift) & _BAND_MASK
            first_F, end_F = (np.searchsorted(sorted_G, band_F, side=side) for side in ("left", "right"))
            for f_P, place_P in _joined(first_F, end_F):
                g_P = order_G[place_P]
                alike_P = np.bitwise_count(hash_F[f_P] ^ theirs.hash_F[g_P]) <= LARGEST_DISTANCE
                both_P2 = np.stack([ours.clip_F[f_P[alike_P]], theirs.clip_F[g_P[alike_P]]], axis=1)
                found.update(map(tuple, np.unique(both_P2, axis=0).tolist()))
    return found


def _joined(
    first_F: NDArray[np.int64], end_F: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Every f with every place from ``first_F[f]`` to ``end_F[f]``, some at a time."""
    count_F = end_F - first_F
    total_F = np.cumsum(count_F)
    begin = 0
    while begin < len(count_F):
        done = total_F[begin - 1] if begin else 0
        end = max(begin + 1, int(np.searchsorted(total_F, done + _PAIRS_AT_ONCE, side="right")))
        count_K = count_F[begin:end]
        f_P = np.repeat(np.arange(begin, end), count_K)
        rank_P = np.arange(len(f_P)) - np.repeat(np.cumsum(count_K) - count_K, count_K)
        yield f_P, first_F[f_P] + rank_P
        begin = end
