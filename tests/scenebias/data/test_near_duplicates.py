"""Copies of a clip are found however they were made, other clips are not, and flat frames look like nothing."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from scenebias.data.frame_hashes import MIRRORED, FrameHashes, hash_dataset, hash_frames
from scenebias.data.near_duplicates import (
    LARGEST_DISTANCE,
    NearDuplicate,
    clip_distance,
    find_near_duplicates,
    matching_frames,
)
from shards.dataset import ShardDataset
from tools.trials.ready_samples import sample_from_frames, write_samples

HEIGHT, WIDTH, FPS = 96, 128, 25.0


def scene(seed: int, frame_count: int = 50) -> np.ndarray:
    """A soft random picture that the camera passes over, with a spot that moves: uint8 (N, H, W, 3)."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (9, 14, 3), dtype=np.uint8))
    picture = np.asarray(coarse.resize((2 * WIDTH, HEIGHT), Image.Resampling.BICUBIC))
    frames = np.stack([picture[:, frame : frame + WIDTH] for frame in range(frame_count)])
    for number, frame_HWC in enumerate(frames):
        top, left = 20 + number // 2, 10 + 2 * (number % 40)
        frame_HWC[top : top + 16, left : left + 10] = 255 * (seed % 2)
    return frames


def resized(frames: np.ndarray, height: int, width: int) -> np.ndarray:
    return np.stack([np.asarray(Image.fromarray(frame).resize((width, height))) for frame in frames])


def soft(frames: np.ndarray) -> np.ndarray:
    return np.stack([np.asarray(Image.fromarray(frame).filter(ImageFilter.GaussianBlur(2))) for frame in frames])


Pack = Callable[..., FrameHashes]


@pytest.fixture
def hashed(tmp_path: Path) -> Pack:
    """A function that packs clips and gives the hashes of their frames."""

    def make(*clips: np.ndarray, fps: float = FPS, quality: int = 85) -> FrameHashes:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        samples = (
            sample_from_frames(frames, name=f"a/{number}", fps=fps, quality=quality)
            for number, frames in enumerate(clips)
        )
        write_samples(folder, samples, ("a",))
        return hash_dataset(ShardDataset.open(folder), lambda done: None)

    return make


ALTERED: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "as it is": lambda frames: frames,
    "scaled": lambda frames: resized(frames, 48, 64),
    "of another aspect": lambda frames: resized(frames, 96, 100),
    "soft": soft,
    "brighter": lambda frames: np.clip(frames * 1.15 + 12, 0, 255).astype(np.uint8),
    "begun later": lambda frames: frames[15:],
    "ended sooner": lambda frames: frames[:30],
    "a part": lambda frames: frames[11:36],
}


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("how", ALTERED)
def test_a_copy_is_found_among_others_and_mirrored_ones_are_called_so(hashed: Pack, how: str, mirrored: bool) -> None:
    copy = ALTERED[how](scene(3))
    copy = np.ascontiguousarray(copy[:, :, ::-1] if mirrored else copy)
    originals, copies = hashed(*map(scene, range(6))), hashed(scene(17), copy, quality=30)
    (pair,) = find_near_duplicates(originals, copies)
    assert (pair.ours, pair.theirs, pair.mirrored) == (3, 1, mirrored)
    assert find_near_duplicates(copies, originals) == [NearDuplicate(1, 3, pair.distance, mirrored)]


def test_a_copy_at_another_frame_rate_is_found(hashed: Pack) -> None:
    originals = hashed(*map(scene, range(4)))
    (pair,) = find_near_duplicates(originals, hashed(scene(2)[1::2], fps=FPS / 2))
    assert pair.ours == 2


def test_half_of_the_shorter_clip_is_enough_and_a_quarter_is_not(hashed: Pack) -> None:
    first, second = scene(1), scene(2)
    half = np.concatenate([first[:30], second[:20]])
    quarter = np.concatenate([first[:12], second[:38]])
    originals = hashed(first)
    assert find_near_duplicates(originals, hashed(half))
    assert not find_near_duplicates(originals, hashed(quarter))


def test_flat_frames_look_like_nothing_and_are_counted(hashed: Pack) -> None:
    black, white = np.zeros((10, HEIGHT, WIDTH, 3), np.uint8), np.full((10, HEIGHT, WIDTH, 3), 250, np.uint8)
    noisy = (128 + np.random.default_rng(0).normal(0, 3, black.shape)).astype(np.uint8)
    faded = np.concatenate([black, scene(1)])
    ours, theirs = hashed(black, white, noisy, faded), hashed(noisy, black, white, scene(5))
    assert ours.flat_clips == theirs.flat_clips == 3
    assert find_near_duplicates(ours, theirs) == []
    (pair,) = find_near_duplicates(ours, hashed(scene(1)))
    assert pair.ours == 3


def test_still_clips_are_alike_only_where_their_pictures_are(hashed: Pack) -> None:
    stills = [np.repeat(scene(seed)[:1], 20, axis=0) for seed in range(4)]
    pairs = find_near_duplicates(hashed(*stills), hashed(*stills[:2]))
    assert [(pair.ours, pair.theirs) for pair in pairs] == [(0, 0), (1, 1)]


def test_a_data_set_is_compared_with_itself_without_pairing_a_clip_with_itself(hashed: Pack) -> None:
    clips = hashed(scene(0), scene(1), scene(0)[5:])
    (pair,) = find_near_duplicates(clips, clips, same=True)
    assert (pair.ours, pair.theirs) == (0, 2)


def test_the_frames_that_match_show_the_same_moment(hashed: Pack) -> None:
    ours, theirs = hashed(scene(0), scene(1)), hashed(np.ascontiguousarray(scene(1)[10:40, :, ::-1]))
    (pair,) = find_near_duplicates(ours, theirs)
    frame_K, their_frame_K = matching_frames(pair, ours, theirs, 4)
    assert len(frame_K) == len(their_frame_K) == 4
    assert np.abs(frame_K - (their_frame_K + 10)).max() <= 4


@given(st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=5), st.lists(st.integers(0, 2**63 - 1), min_size=1))
def test_the_distance_is_the_median_of_the_nearest_bits(ours: list[int], theirs: list[int]) -> None:
    ways = ((ours, theirs), (theirs, ours))
    expected = min(np.median([min((a ^ b).bit_count() for b in those) for a in these]) for these, those in ways)
    as_hashes = (np.array(hashes, np.uint64) for hashes in (ours, theirs))
    assert clip_distance(*as_hashes) == expected


@given(st.integers(0, 2**32 - 1))
def test_every_pair_with_two_frames_within_three_bits_is_looked_at(seed: int) -> None:
    random = np.random.default_rng(seed)
    hash_F = random.integers(0, 2**63, 12, dtype=np.uint64) & ~np.uint64(1)
    flips = np.bitwise_or.reduce(np.uint64(1) << random.integers(1, 64, (12, 3), dtype=np.uint64), axis=1)
    clip_F, frame_F = np.repeat(np.arange(4), 3), np.tile(np.arange(3), 4)
    ours = FrameHashes(hash_F, clip_F, frame_F, 4)
    theirs = FrameHashes(hash_F ^ flips ^ MIRRORED, clip_F, frame_F, 4)
    pairs = [(pair.ours, pair.theirs) for pair in find_near_duplicates(ours, theirs) if pair.mirrored]
    assert {(clip, clip) for clip in range(4)} <= set(pairs)


def test_a_mirrored_frame_has_the_turned_bits() -> None:
    frames = scene(7)
    hash_T, tells_T = hash_frames(frames)
    mirrored_T, _ = hash_frames(np.ascontiguousarray(frames[:, :, ::-1]))
    assert tells_T.all()
    assert np.bitwise_count(hash_T ^ MIRRORED ^ mirrored_T).max() <= 2
    assert np.bitwise_count(hash_T ^ mirrored_T).min() > LARGEST_DISTANCE
