"""Clips are the same material where they share a frame of a video, and nowhere else."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from shards.material import WHOLE_END, Material

Range = tuple[int, int, int]
"""Video, first frame, end."""
RANGES = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 12), st.one_of(st.integers(0, 14), st.just(WHOLE_END))), max_size=8
)
VIDEOS = (7, 2**64 - 1, 0, 2**63)
"""What stands for the videos, as large as such numbers become."""
LONG = 20
"""Frames of every video, as far as the test looks."""


def material(ranges: list[Range]) -> Material:
    return Material(
        np.array([VIDEOS[video] for video, _, _ in ranges], np.uint64),
        np.array([start for _, start, _ in ranges], np.int64),
        np.array([end for _, _, end in ranges], np.int64),
    )


def frames(ranges: list[Range]) -> set[tuple[int, int]]:
    """Every frame that is in one of them."""
    return {(VIDEOS[video], frame) for video, start, end in ranges for frame in range(start, min(end, LONG))}


def frames_of(found: Material) -> set[tuple[int, int]]:
    rows = zip(found.source_N.tolist(), found.start_N.tolist(), found.end_N.tolist(), strict=True)
    return {(video, frame) for video, start, end in rows for frame in range(start, min(end, LONG))}


@given(RANGES, RANGES)
def test_a_clip_is_shared_if_one_of_its_frames_is(ours: list[Range], theirs: list[Range]) -> None:
    expected = [bool(frames([one]) & frames(theirs)) for one in ours]
    assert material(ours).shared_with(material(theirs)).tolist() == expected


@given(RANGES, RANGES)
def test_merging_and_joining_keep_every_frame_once(ours: list[Range], theirs: list[Range]) -> None:
    joined = material(ours).joined_with(material(theirs))
    assert frames_of(joined) == frames(ours) | frames(theirs)
    rows = list(zip(joined.source_N.tolist(), joined.start_N.tolist(), joined.end_N.tolist(), strict=True))
    assert all(start < end for _, start, end in rows)
    assert all(a[0] < b[0] or (a[0] == b[0] and a[2] < b[1]) for a, b in pairwise(rows))


@given(RANGES)
def test_what_is_not_known_is_told_and_shares_nothing(ours: list[Range]) -> None:
    unknown = [(0, 0, 0)]
    both = material(ours + unknown)
    assert not both.is_known
    assert both.known_N.tolist() == [start < end for _, start, end in ours] + [False]
    assert not both.shared_with(material(unknown)).any()
    assert not material(unknown).shared_with(both).any()


def test_tens_of_thousands_of_videos_are_told_apart() -> None:
    random = np.random.default_rng(0)
    count = 80_000
    source_N = random.integers(0, 2**64, count, dtype=np.uint64)
    ours = Material(source_N, np.zeros(count, np.int64), np.full(count, WHOLE_END))
    theirs = Material(source_N[::-1][: count // 2] + np.uint64(1), np.zeros(count // 2, np.int64), ours.end_N[::2])
    assert ours.shared_with(ours).all()
    assert not ours.shared_with(theirs).any()
