"""Perceptual hashes of the frames of a data set: pictures that look alike have hashes that differ in few bits.

A hash is the signs of the 63 lowest frequencies of the frame's brightness, without its mean. That is pHash (Zauner,
Implementation and Benchmarking of Perceptual Image Hash Functions, 2010), with 0 for their median, which is near it.
Scale, aspect, quality and brightness hardly change them, and a mirrored frame has those of odd horizontal frequencies
turned round. Shape suffixes: T frames of a clip, F hashes of a data set, H rows, W columns, C colours.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dctn

from shards.dataset import ShardDataset

FREQUENCIES = 8
"""Per axis, the mean among them: together the bits of a hash."""
HASHES_PER_S, LEAST_HASHES = 4.0, 8
"""Of a short clip so many as it has frames for: two trims of one are not hashed at the same moments."""
SIDE = 32
LEAST_CONTRAST = 6.0
"""Standard deviation of the brightness, of 255 levels, below which a frame is flat and tells nothing."""
_BITS = 1 << np.arange(FREQUENCIES**2, dtype=np.uint64)
_BITS[0] = 0  # of the mean
MIRRORED = np.uint64(_BITS.reshape(FREQUENCIES, FREQUENCIES)[:, 1::2].sum())
"""The bits that turn round in a mirrored frame."""


@dataclass(frozen=True, eq=False)
class FrameHashes:
    """The hashes of the frames of a data set that tell something, clip by clip."""

    hash_F: NDArray[np.uint64]
    clip_F: NDArray[np.int64]
    """The clip that each is of, rising."""
    frame_F: NDArray[np.int64]
    """Which of its frames."""
    clip_count: int
    """Clips of the data set."""

    def of(self, clip: int) -> slice:
        """Where those of a clip are."""
        return slice(*np.searchsorted(self.clip_F, [clip, clip + 1]).tolist())

    @property
    def flat_clips(self) -> int:
        """Clips of which no frame tells anything: flat, black or white ones."""
        return self.clip_count - len(np.unique(self.clip_F))


def hash_frames(frame_THWC: NDArray[np.uint8]) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
    """The hashes of RGB frames, uint64 (T,), and which of them have enough contrast to tell something, bool (T,)."""
    grey_THW = np.stack(
        [
            np.asarray(Image.fromarray(frame).convert("L").resize((SIDE, SIDE), Image.Resampling.BOX), np.float32)
            for frame in frame_THWC
        ]
    )
    frequency_TYX = dctn(grey_THW, axes=(1, 2), norm="ortho")[:, :FREQUENCIES, :FREQUENCIES]
    hash_T = (frequency_TYX.reshape(len(grey_THW), -1) > 0) @ _BITS
    return hash_T, grey_THW.std(axis=(1, 2)) >= LEAST_CONTRAST


def hash_dataset(dataset: ShardDataset, done: Callable[[int], None]) -> FrameHashes:
    """Hash `HASHES_PER_S` frames a second of every clip, at least `LEAST_HASHES`; ``done`` is told how many clips are.

    Raises:
        UserError: a clip is damaged, or its shard cannot be fetched.
    """
    hashes, clips, frames = [], [], []
    for batch in dataset.reading_ahead(np.arange(len(dataset)).reshape(-1, 1)):
        i = int(batch[0])
        frame_T = _frames_to_hash(int(dataset.frame_counts[i]), dataset.info(i).fps)
        hash_T, tells_T = hash_frames(dataset.decode(i, dataset.read_clip(i, frame_T)))
        hashes.append(hash_T[tells_T])
        frames.append(frame_T[tells_T])
        clips.append(np.full(int(tells_T.sum()), i))
        done(i + 1)
    return FrameHashes(np.concatenate(hashes), np.concatenate(clips), np.concatenate(frames), len(dataset))


def _frames_to_hash(frame_count: int, fps: float) -> NDArray[np.int64]:
    count = min(max(LEAST_HASHES, round(frame_count / fps * HASHES_PER_S)), frame_count)
    return ((np.arange(count) + 0.5) * frame_count / count).astype(np.int64)
