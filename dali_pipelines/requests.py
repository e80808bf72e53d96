"""From windows to the stored bytes that they are decoded from.

Shape suffixes: B windows of a batch, T frames of a window; 2 (vertical, horizontal), 22 (start, end) of each.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import NDArray

from dali_pipelines.faults import Faults
from dali_pipelines.windows import ClipConfig, Windows, frame_indices
from shards.clip import StoredClip
from shards.codecs.parts import CodedFrames
from shards.dataset import ShardDataset
from shards.errors import DamagedClipError

Redraw = Callable[[int, int], Windows]
"""Draws one window from another clip in place of ``showing`` (as of `Windows`); ``attempt`` counts the clips tried."""

MOST_ATTEMPTS = 10


@dataclass(frozen=True)
class Draw:
    """What to read for one batch."""

    windows: Windows
    """The batch's."""
    redraw: Redraw | None = None
    """For clips that cannot be read or decoded; None: there is no other to take."""
    skipped_count: int = 0
    """In how many windows another clip has taken the place of the one that was to be there."""

    def with_window(self, index: int, window: Windows) -> "Draw":
        """The same with another clip at ``index``."""
        return replace(self, windows=self.windows.with_window(index, window), skipped_count=self.skipped_count + 1)


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
    """Their bytes, and what else their decoder must know."""


@dataclass(frozen=True)
class Request:
    """The stored bytes of a batch of windows, and where to cut."""

    draw: Draw
    """What it was read for."""
    pieces: list[Piece]
    """All that is to be decoded, window by window."""
    decoded_B22: NDArray[np.int64]
    """The rectangle of the stored frames that is decoded: it holds the crop, and more where a codec cannot cut."""
    roi_B22: NDArray[np.int64]
    """The crop, in pixels of what is decoded; a reversed range mirrors."""
    packed_masks: list[NDArray[np.uint8]]
    """Of every window (T, h, ceil(w / 8)), bits along x; zeros (T, 1, 1) where the clip has no mask."""
    mask_roi_B22: NDArray[np.float64]
    """The crop, in pixels of the stored masks."""
    has_mask_B: NDArray[np.bool_]
    """Whether the clip comes with a mask."""

    @property
    def windows(self) -> Windows:
        return self.draw.windows

    def alone(self, piece: Piece) -> "Request":
        """A batch of one piece of this."""
        window = slice(piece.window, piece.window + 1)
        return Request(
            draw=Draw(self.windows[window]),
            pieces=[replace(piece, window=0)],
            decoded_B22=self.decoded_B22[window],
            roi_B22=self.roi_B22[window],
            packed_masks=self.packed_masks[window],
            mask_roi_B22=self.mask_roi_B22[window],
            has_mask_B=self.has_mask_B[window],
        )


class RequestReader:
    """Reads batch after batch, and other clips in place of those that cannot be read.

    ``faults`` decides whether a clip may be passed over.
    ``cut_columns``: whether the decoder passes over the columns outside the crop; bands outside it never reach it.
    ``whole_frames``: neither is done, all of every frame is decoded.
    ``check_crc``: as of `ShardDataset.read_clip`.
    """

    def __init__(
        self,
        dataset: ShardDataset,
        config: ClipConfig,
        faults: Faults,
        *,
        cut_columns: bool,
        whole_frames: bool = False,
        check_crc: bool,
    ) -> None:
        self._dataset = dataset
        self._config = config
        self._faults = faults
        self._cut_columns = cut_columns and not whole_frames
        self._whole_frames = whole_frames
        self._check_crc = check_crc
        self._no_mask = np.zeros((config.frames, 1, 1), np.uint8)

    def read(self, draw: Draw) -> Request:
        """Read the clips of one batch.

        Raises:
            DamagedClipError: a clip cannot be read and may not be passed over; the sentence names it.
            UserError: too many cannot be read, or a shard cannot be fetched.
        """
        stored = []
        frames_BT = self._frames(draw.windows)
        for window in range(len(frames_BT)):
            try:
                clip = self._read_clip(draw.windows, window, frames_BT[window])
            except DamagedClipError as error:
                draw, clip = self._substitute(draw, window, error)
            stored.append(clip)
        return self._request(draw, stored)

    def replace(self, request: Request, faults: Mapping[int, DamagedClipError]) -> Request:
        """Read other clips in place of those windows that cannot be decoded, for the reasons given.

        Raises:
            UserError, DamagedClipError: as of `read`.
        """
        draw = request.draw
        for window, error in faults.items():
            draw, _ = self._substitute(draw, window, error)
        return self.read(draw)

    def _substitute(self, draw: Draw, window: int, error: DamagedClipError) -> tuple[Draw, StoredClip]:
        broken, showing = int(draw.windows.sample_B[window]), int(draw.windows.showing_B[window])
        for attempt in range(MOST_ATTEMPTS):
            if draw.redraw is None:
                raise error
            self._faults.pass_over(broken, error)
            drawn = draw.redraw(showing, attempt)
            try:
                clip = self._read_clip(drawn, 0, self._frames(drawn)[0])
            except DamagedClipError as another:
                broken, error = int(drawn.sample_B[0]), another
            else:
                return draw.with_window(window, drawn), clip
        raise error

    def _frames(self, windows: Windows) -> NDArray[np.int64]:
        return frame_indices(self._config, windows, self._dataset.frame_counts[windows.sample_B])

    def _read_clip(self, windows: Windows, window: int, frames_T: NDArray[np.int64]) -> StoredClip:
        sample, top = int(windows.sample_B[window]), int(windows.top_B[window])
        rows = range(top, top + int(windows.height_B[window]))
        if self._whole_frames:
            rows = range(int(self._dataset.frame_sizes[sample, 0]))
        return self._dataset.read_clip(sample, frames_T, rows, check_crc=self._check_crc)

    def _request(self, draw: Draw, stored: list[StoredClip]) -> Request:
        windows = draw.windows
        frame_size_B2 = self._dataset.frame_sizes[windows.sample_B]
        mask_size_B2 = self._dataset.mask_sizes(windows.sample_B)
        stored_roi_B22 = windows.rois()
        decoded_B22 = np.zeros_like(stored_roi_B22)
        decoded_B22[:, :, 0] = [(clip.parts[0].rows.start, clip.parts[0].rows.stop) for clip in stored]
        decoded_B22[:, 1, 1] = frame_size_B2[:, 1]
        if self._cut_columns:
            decoded_B22[:, :, 1] = np.sort(stored_roi_B22[:, :, 1], axis=1)
        return Request(
            draw=draw,
            pieces=[piece for window, clip in enumerate(stored) for piece in _pieces(window, clip)],
            decoded_B22=decoded_B22,
            roi_B22=stored_roi_B22 - decoded_B22[:, :1],
            packed_masks=[self._no_mask if clip.masks is None else clip.masks for clip in stored],
            mask_roi_B22=stored_roi_B22 * (np.maximum(mask_size_B2, 1) / frame_size_B2)[:, None],
            has_mask_B=np.array([clip.masks is not None for clip in stored]),
        )


def _pieces(window: int, clip: StoredClip) -> list[Piece]:
    bounds = pairwise(accumulate((len(part.frames) for part in clip.parts), initial=0))
    return [Piece(window, slice(*bound), part) for part, bound in zip(clip.parts, bounds, strict=True)]
