"""From windows to the stored bytes that they are decoded from.

Shape suffixes: B windows of a batch, T frames of a window; 2 (vertical, horizontal), 22 (start, end) of each.
"""

from collections.abc import Generator, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dali_pipelines.augmentation import ClipConfig, Windows, frame_indices
from shards.dataset import ShardDataset, StoredClip
from shards.errors import UserError
from shards.parts import CodedFrames


@dataclass(frozen=True)
class Piece:
    """Frames of one window that are decoded together: all of them, or those that lie in one video segment.

    The pieces of a window follow each other, and so do their frames.
    """

    window: int
    """Which window of the batch."""
    frames: slice
    """Which of the window's T frames."""
    coded: CodedFrames


@dataclass(frozen=True)
class Request:
    """The stored bytes of a batch of windows, and where to cut."""

    windows: Windows
    pieces: list[Piece]
    frame_size_B2: NDArray[np.int64]
    roi_B22: NDArray[np.int64]
    packed_masks: list[NDArray[np.uint8]]
    mask_roi_B22: NDArray[np.float64]
    has_mask_B: NDArray[np.bool_]


def read_requests(
    dataset: ShardDataset, config: ClipConfig, windows: Iterable[Windows]
) -> Generator[Request, None, None]:
    """Read one batch for each item of ``windows``.

    Raises:
        UserError: a clip cannot be read; the sentence names it.
    """
    no_mask = np.zeros((config.frames, 1, 1), np.uint8)
    for batch in windows:
        frame_size_B2 = dataset.frame_sizes[batch.sample_B]
        mask_size_B2 = np.array([dataset.mask_size(sample) for sample in batch.sample_B.tolist()])
        roi_B22 = batch.rois()
        stored = _read_clips(dataset, config, batch)
        yield Request(
            windows=batch,
            pieces=[piece for window, clip in enumerate(stored) for piece in _pieces(window, clip)],
            frame_size_B2=frame_size_B2,
            roi_B22=roi_B22,
            packed_masks=[no_mask if clip.masks is None else clip.masks for clip in stored],
            mask_roi_B22=roi_B22 * (np.maximum(mask_size_B2, 1) / frame_size_B2)[:, None],
            has_mask_B=np.array([clip.masks is not None for clip in stored]),
        )


def describe_clip(dataset: ShardDataset, sample: int) -> str:
    """Name a clip for a message about it."""
    try:
        clip = f"clip {dataset.info(sample).name!r}"
    except (UserError, OSError, ValueError):  # its description may be damaged as well
        clip = f"clip number {sample}"
    return f"{clip} in {dataset.directory}"


def _read_clips(dataset: ShardDataset, config: ClipConfig, windows: Windows) -> list[StoredClip]:
    frames_BT = frame_indices(config, windows, dataset.frame_counts[windows.sample_B])
    stored = []
    for sample, frames_T in zip(windows.sample_B.tolist(), frames_BT, strict=True):
        try:
            stored.append(dataset.read_clip(sample, frames_T))
        except UserError as error:
            raise UserError(f"{describe_clip(dataset, sample)}: {error}") from error
        except (OSError, ValueError) as error:
            raise UserError(
                f"{describe_clip(dataset, sample)} cannot be read ({error}); make the shards again"
            ) from error
    return stored


def _pieces(window: int, clip: StoredClip) -> list[Piece]:
    ends = np.cumsum([len(part.frames) for part in clip.parts]).tolist()
    return [Piece(window, slice(end - len(part.frames), end), part) for part, end in zip(clip.parts, ends, strict=True)]
