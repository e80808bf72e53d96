"""What is cut from each clip: pure functions of (seed, epoch, sample), the same on every machine and in every batch.

Shape suffixes: B clips (or windows) of a batch, T frames of a window, 2 (vertical, horizontal).
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from dali_pipelines.rectangles import draw_rectangles, require_area, require_aspect
from shards.checks import require_at_least
from shards.randomness import randint, uniform

Int64Array = NDArray[np.int64]
Array = TypeVar("Array", bound=Any)
"""Integers, of NumPy or of PyTorch."""

# Keys that keep the draws of one clip independent of each other.
_START_FRAME, _SCALE, _POSITION, _FLIP, _RECTANGLE, _STRIDE = range(6)

_REPEAT = 2**40
"""More clips than any data set has."""

# Where a crop sits in the frame, as shares of the room left (vertical, horizontal): four corners and the centre.
_CROP_POSITIONS = np.array([(0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0), (0.5, 0.5)])

# The same of the squares that are evaluated: the shorter side leaves no room.
_TEST_CROPS = {1: [0.5], 3: [0.0, 0.5, 1.0]}


@dataclass(frozen=True, kw_only=True)
class ClipConfig:
    """How a clip becomes a network's input (Choi et al., NeurIPS 2019, section 4.2)."""

    frames: int = 16
    """Frames in a window."""
    stride: int = 1
    """Distance between the window's frames in the stored clip."""
    stride_range: tuple[int, int] | None = None
    """Smallest and largest stride of training windows, which is drawn for each anew, as far as its clip has the frames;
    None: ``stride``, which evaluation always has."""
    size: int = 112
    """Height and width of the network's input, in pixels."""
    scales: tuple[float, ...] = (1.0, 2**-0.25, 2**-0.5, 2**-0.75, 0.5)
    """Sides of the square training crop, as shares of the frame's shorter side; each is as likely as the others."""
    crop_area: tuple[float, float] | None = None
    """Random resized crops in place of those squares: their smallest and largest area, as shares of the frame's."""
    crop_aspect: tuple[float, float] = (3 / 4, 4 / 3)
    """The smallest and largest width over height of random resized crops."""
    flip_probability: float = 0.5
    """How often a training clip is mirrored."""

    def __post_init__(self) -> None:
        require_at_least(1, frames=self.frames, stride=self.stride, size=self.size)
        strides = self.stride_range
        if strides is not None and not 1 <= strides[0] <= strides[1]:
            raise ValueError(f"stride_range must be two numbers from 1 on, the smaller one first, got {strides}")
        if not self.scales or not all(0 < scale <= 1 for scale in self.scales):
            raise ValueError(f"scales must be one or more numbers in (0, 1], got {self.scales}")
        require_area(crop_area=self.crop_area)
        require_aspect(crop_aspect=self.crop_aspect)
        if not 0 <= self.flip_probability <= 1:
            raise ValueError(f"flip_probability must be in [0, 1], got {self.flip_probability}")

    @property
    def span(self) -> int:
        """Stored frames from a window's first frame to its last, both included."""
        return (self.frames - 1) * self.stride + 1

    def strides_for(self, frame_count_B: Int64Array) -> tuple[Int64Array, Int64Array]:
        """The smallest and the largest stride of training windows in clips of so many frames.

        The largest is the last at which the window does not loop, but not below the smallest.
        """
        least, most = self.stride_range or (self.stride, self.stride)
        fitting_B = (frame_count_B - 1) // max(self.frames - 1, 1)
        return np.full_like(frame_count_B, least), np.clip(fitting_B, least, most)


LATER_OPTIONS: Mapping[str, Any] = {"stride_range": None, "crop_area": None, "crop_aspect": [3 / 4, 4 / 3]}
"""Options of a `ClipConfig` that it had not always, with what was done before, as JSON has it."""


@dataclass(frozen=True, kw_only=True)
class ProtocolConfig:
    """Which windows of a clip are evaluated; the prediction for the clip is their mean."""

    test_clips: int | None = None
    """Evaluate so many windows of a clip, spread evenly from its first frame to its last (a single one in the middle);
    None: all that do not overlap, as in the paper."""
    test_crops: Literal[1, 3] = 1
    """Squares cut from each of these windows: one in the centre, or three along the longer side of the frame."""

    def __post_init__(self) -> None:
        require_at_least(1, test_clips=self.test_clips)
        if self.test_crops not in _TEST_CROPS:
            raise ValueError(f"test_crops must be 1 or 3, got {self.test_crops}")


@dataclass(frozen=True)
class Windows:
    """What to cut from B clips: a range of frames, the same rectangle of each, mirrored or not. Arrays of length B."""

    sample_B: Int64Array
    """Which clip of the data set."""
    window_B: Int64Array
    """Which of the clip's evaluation windows, crops of the same frames following each other; 0 in training."""
    repeat_B: Int64Array
    """How often a training clip was shown in this step before, each time cut anew; 0 in evaluation."""
    start_frame_B: Int64Array
    """The window's first frame in the stored clip."""
    stride_B: Int64Array
    """Distance between the window's frames in the stored clip."""
    top_B: Int64Array
    """The rectangle's first row, in pixels of the stored frame."""
    left_B: Int64Array
    """The rectangle's first column."""
    height_B: Int64Array
    """The rectangle's rows."""
    width_B: Int64Array
    """The rectangle's columns; as many as rows, but for random resized crops."""
    flip_B: NDArray[np.bool_]
    """Whether the frames are mirrored, left to right."""

    def __len__(self) -> int:
        return len(self.sample_B)

    def __getitem__(self, index: slice | Int64Array) -> "Windows":
        return Windows(*(getattr(self, field.name)[index] for field in fields(self)))

    def with_window(self, index: int, other: "Windows") -> "Windows":
        """The same windows with the only one of ``other`` at ``index``."""
        values = {field.name: getattr(self, field.name).copy() for field in fields(self)}
        for name, value_B in values.items():
            value_B[index] = getattr(other, name)[0]
        return Windows(**values)

    @property
    def showing_B(self) -> Int64Array:
        """As of `showings`."""
        return showings(self.sample_B, self.repeat_B)

    def rois(self) -> Int64Array:
        """Start and end corner (vertical, horizontal) of every rectangle, (B, 2, 2); mirrored, right to left."""
        right_B = self.left_B + self.width_B
        start_B2 = np.stack([self.top_B, np.where(self.flip_B, right_B, self.left_B)], axis=-1)
        end_B2 = np.stack([self.top_B + self.height_B, np.where(self.flip_B, self.left_B, right_B)], axis=-1)
        return np.stack([start_B2, end_B2], axis=1)


def showings(sample_B: Array, repeat_B: Array) -> Array:
    """Numbers that name the random draws of clips, shown for the first time (repeat 0) or once more.

    For the first time it is that of the clip; all others are larger.
    """
    return sample_B + repeat_B * _REPEAT


def repeats_of(showing_B: Int64Array) -> Int64Array:
    """The repeats in `showings`."""
    return showing_B // _REPEAT


def draw_training_windows(
    config: ClipConfig,
    *,
    seed: int,
    epoch: int,
    sample_B: Int64Array,
    frame_count_B: Int64Array,
    frame_size_B2: Int64Array,
    repeat_B: Int64Array | None = None,
) -> Windows:
    """Draw a random window, crop and flip for every clip; a draw depends on (seed, epoch, sample, repeat) alone.

    ``frame_count_B`` and ``frame_size_B2`` (height, width) describe the stored clips ``sample_B``.
    ``repeat_B``: as of `Windows`; None: every clip is shown for the first time. Clips shorter than a window start at
    frame 0 and loop.
    """
    repeat_B = np.zeros_like(sample_B) if repeat_B is None else repeat_B
    showing_B = showings(sample_B, repeat_B)

    def key(draw: int) -> tuple[int, int, Int64Array, int]:
        return seed, epoch, showing_B, draw

    if config.crop_area is None:
        scale_B = np.asarray(config.scales)[randint(len(config.scales), *key(_SCALE))]
        position_B2 = _CROP_POSITIONS[randint(len(_CROP_POSITIONS), *key(_POSITION))]
        height_B = width_B = np.maximum(np.rint(scale_B * frame_size_B2.min(axis=1)).astype(np.int64), 1)
        top_B, left_B = _corners(frame_size_B2, height_B, position_B2).T
    else:
        drawn = draw_rectangles(config.crop_area, config.crop_aspect, frame_size_B2, *key(_RECTANGLE))
        top_B, left_B, height_B, width_B = drawn.top_B, drawn.left_B, drawn.height_B, drawn.width_B
    least_B, most_B = config.strides_for(frame_count_B)
    stride_B = least_B + randint(most_B - least_B + 1, *key(_STRIDE))
    span_B = (config.frames - 1) * stride_B + 1
    return Windows(
        sample_B=sample_B,
        window_B=np.zeros_like(sample_B),
        repeat_B=repeat_B,
        start_frame_B=randint(np.maximum(frame_count_B - span_B + 1, 1), *key(_START_FRAME)),
        stride_B=stride_B,
        top_B=top_B,
        left_B=left_B,
        height_B=height_B,
        width_B=width_B,
        flip_B=uniform(*key(_FLIP)) < config.flip_probability,
    )


class EvaluationWindows:
    """The windows of every clip that ``protocol`` asks for, numbered clip by clip: squares of the shorter side.

    Every clip has at least one window; one that is too short for ``test_clips`` different ones has fewer, and one that
    is shorter than a window loops. ``frame_counts`` (N,) and ``frame_sizes`` (N, 2) (height, width) describe the stored
    clips. Holds one number a clip: windows are made as they are taken.
    """

    def __init__(
        self,
        config: ClipConfig,
        frame_counts: Int64Array,
        frame_sizes: Int64Array,
        protocol: ProtocolConfig | None = None,
    ) -> None:
        protocol = protocol or ProtocolConfig()
        self._config = config
        self._test_clips = protocol.test_clips
        self._crop_positions = np.array(_TEST_CROPS[protocol.test_crops])
        self._frame_counts = frame_counts
        self._frame_sizes = frame_sizes
        self._first_windows = np.zeros(len(frame_counts) + 1, dtype=np.int64)  # of every clip, then their number
        np.cumsum(self._start_counts(frame_counts) * len(self._crop_positions), out=self._first_windows[1:])

    def __len__(self) -> int:
        return int(self._first_windows[-1])

    def __getitem__(self, numbers: slice | Int64Array) -> Windows:
        """The windows of these numbers, each at least 0 and below the length."""
        if isinstance(numbers, slice):
            taken = range(len(self))[numbers]
            numbers = np.arange(taken.start, taken.stop, taken.step)
        sample_B = self.samples(numbers)
        window_B = numbers - self._first_windows[sample_B]
        frame_size_B2 = self._frame_sizes[sample_B]
        side_B = frame_size_B2.min(axis=1)
        time_B, crop_B = np.divmod(window_B, len(self._crop_positions))
        corner_B2 = _corners(frame_size_B2, side_B, self._crop_positions[crop_B, None])
        return Windows(
            sample_B=sample_B,
            window_B=window_B,
            repeat_B=np.zeros_like(sample_B),
            start_frame_B=self._start_frames(time_B, self._frame_counts[sample_B]),
            stride_B=np.full_like(sample_B, self._config.stride),
            top_B=corner_B2[:, 0],
            left_B=corner_B2[:, 1],
            height_B=side_B,
            width_B=side_B,
            flip_B=np.zeros(len(sample_B), dtype=bool),
        )

    def samples(self, number_B: Int64Array) -> Int64Array:
        """Which clip of the data set each of these window numbers is of."""
        return np.searchsorted(self._first_windows, number_B, side="right") - 1

    def _room(self, frame_counts: Int64Array) -> Int64Array:
        return np.maximum(frame_counts - self._config.span, 0)

    def _start_counts(self, frame_counts: Int64Array) -> Int64Array:
        room = self._room(frame_counts)
        if self._test_clips is None:
            return room // (self._config.frames * self._config.stride) + 1
        return np.minimum(self._test_clips, room + 1)

    def _start_frames(self, time_B: Int64Array, frame_count_B: Int64Array) -> Int64Array:
        if self._test_clips is None:
            return time_B * self._config.frames * self._config.stride
        room_B = self._room(frame_count_B)
        if self._test_clips == 1:
            return room_B // 2
        return time_B * room_B // np.maximum(self._start_counts(frame_count_B) - 1, 1)


def frame_indices(config: ClipConfig, windows: Windows, frame_count_B: Int64Array) -> Int64Array:
    """The stored frames of every window, (B, T); clips that are too short start again from their first frame."""
    frames_BT = windows.start_frame_B[:, None] + np.arange(config.frames) * windows.stride_B[:, None]
    return frames_BT % frame_count_B[:, None]


def _corners(frame_size_B2: Int64Array, side_B: Int64Array, position_B2: NDArray[np.float64]) -> Int64Array:
    return np.floor((frame_size_B2 - side_B[:, None]) * position_B2).astype(np.int64)
