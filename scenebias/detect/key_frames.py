"""Key frames of packed videos: which ones there are, their order, and the window and boxes of each.

Shape suffixes: K key frames, B windows of a batch, T frames of a window, F frames of a video, H rows and W columns of
the input, h and w of what frames fill of it, C channels, 4 corners of a box (left, top, right, bottom).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dali_pipelines.cropping import crop_clip
from dali_pipelines.windows import ClipConfig
from scenebias.detection.instances import FrameBoxes
from scenebias.models.action_model import MEAN_C
from shards.checks import require_at_least
from shards.dataset import ShardDataset
from shards.errors import UserError
from shards.format.truth import box_corners
from shards.randomness import randint, uniform

_MARGIN_COLOUR = torch.tensor([round(255 * mean) for mean in MEAN_C], dtype=torch.uint8)
"""About zero once it is normalised."""

# Keys that keep the draws of one key frame independent of each other.
_WHICH, _FLIP = range(2)


@dataclass(frozen=True, kw_only=True)
class InputConfig:
    """How whole frames become the input of a detector."""

    input_height: int | None = None
    """Rows of the input; None: the size of the weights' clips."""
    input_width: int | None = None
    """Columns of the input; None: 4/3 of the rows, the shape of most data sets' videos. A frame keeps its own shape:
    it is made as large as fits, at the top left, and what is left over is grey."""

    def __post_init__(self) -> None:
        require_at_least(16, input_height=self.input_height, input_width=self.input_width)

    def size(self, clip: ClipConfig) -> tuple[int, int]:
        """Rows and columns of the input of weights whose clips are so."""
        height = self.input_height or clip.size
        return height, self.input_width or -(-height * 4 // 3)


DEFAULT_INPUT = InputConfig()


@dataclass(frozen=True)
class Placement:
    """Where in the input the frames of a video are shown: at its top left, mirrored or not."""

    frame_size: tuple[int, int]
    """Height and width of a stored frame."""
    shown_size: tuple[int, int]
    """Rows and columns of the input that it fills."""
    mirrored: bool = False

    @classmethod
    def within(cls, frame_size: tuple[int, int], input_size: tuple[int, int], mirrored: bool = False) -> "Placement":
        """As large as fits; to whole pixels of its own shape."""
        scale = min(size / length for size, length in zip(input_size, frame_size, strict=True))
        rows, columns = (
            min(max(round(length * scale), 1), size) for size, length in zip(input_size, frame_size, strict=True)
        )
        return cls(frame_size, (rows, columns), mirrored)

    def to_input(self, box_N4: Tensor) -> Tensor:
        """Boxes in stored pixels as such of the input."""
        return self._mirror(box_N4 * self._scale(box_N4))

    def to_frame(self, box_N4: Tensor) -> Tensor:
        """Boxes of the input in stored pixels, none beyond the frame."""
        moved_N4 = self._mirror(box_N4) / self._scale(box_N4)
        return moved_N4.clamp(box_N4.new_zeros(4), box_N4.new_tensor([*self.frame_size[::-1]] * 2))

    def _scale(self, like: Tensor) -> Tensor:
        (height, width), (rows, columns) = self.frame_size, self.shown_size
        return like.new_tensor([columns / width, rows / height] * 2)

    def _mirror(self, box_N4: Tensor) -> Tensor:
        if not self.mirrored:
            return box_N4
        left_N, top_N, right_N, bottom_N = box_N4.unbind(dim=1)
        columns = self.shown_size[1]
        return torch.stack([columns - right_N, top_N, columns - left_N, bottom_N], dim=1)


@dataclass(frozen=True, eq=False)
class KeyFrames:
    """The frames of a data set's videos of which it is known where actors are, in groups of neighbours.

    Frames without a box are among them, unless the labels know of none but key frames. A key frame stands for its
    group: the first of it, or in training another one in every epoch.
    """

    dataset: ShardDataset
    rows: Sequence[NDArray]
    """`BOX_DTYPE` (M,), the true boxes of every video, in stored pixels; empty where nobody looked for any."""
    video_K: NDArray[np.int64]
    """Which video each group is of."""
    frames: Sequence[NDArray[np.int64]]
    """The frames of each group, ascending."""

    @classmethod
    def of(cls, dataset: ShardDataset, every: int = 1) -> "KeyFrames":
        """The key frames of a data set, groups of ``every`` neighbours.

        Raises:
            ValueError: ``every`` is below 1.
            UserError: nobody looked for boxes in any of its videos, or a shard is damaged.
        """
        require_at_least(1, every=every)
        rows, videos, frames = [], [], []
        for video, frame_count in enumerate(dataset.frame_counts.tolist()):
            truth = dataset.truth(video)
            rows.append(truth.boxes_of(0, frame_count))
            if truth.boxes is None:
                continue
            known = np.unique(rows[-1]["frame"]) if truth.key_frames_only else np.arange(frame_count)
            groups = [known[start : start + every].astype(np.int64) for start in range(0, len(known), every)]
            videos += [video] * len(groups)
            frames += groups
        if not frames:
            raise UserError(
                f"{dataset.location} has no boxes of actors: pack it from a source that has them (see"
                " tools/make_shards.py)"
            )
        return cls(dataset, rows, np.array(videos, np.int64), frames)

    def __len__(self) -> int:
        return len(self.frames)

    @cached_property
    def first_K(self) -> NDArray[np.int64]:
        """The first frame of every group."""
        return np.array([group[0] for group in self.frames], np.int64)

    def drawn(self, number: int, seed: int, epoch: int) -> int:
        """The frame that stands for a group in an epoch of training."""
        group = self.frames[number]
        return int(group[randint(len(group), seed, epoch, number, _WHICH)])

    def truth(self, video: int, frame: int) -> FrameBoxes:
        """The true boxes of a frame, in stored pixels."""
        first, end = np.searchsorted(self.rows[video]["frame"], [frame, frame + 1])
        return frame_boxes(self.rows[video][first:end])

    def placement(self, video: int, input_size: tuple[int, int], mirrored: bool = False) -> Placement:
        """Where the frames of a video are shown in such an input."""
        height, width = self.dataset.frame_sizes[video].tolist()
        return Placement.within((height, width), input_size, mirrored)


def frame_boxes(rows: NDArray) -> FrameBoxes:
    """True boxes as `FrameBoxes`, of rows of `BOX_DTYPE`."""
    return FrameBoxes(
        frame_N=torch.from_numpy(rows["frame"].astype(np.int64)),
        box_N4=torch.from_numpy(box_corners(rows)),
        label_N=torch.from_numpy(rows["label"].astype(np.int64)),
    )


def window_frames(frame_N: NDArray[np.int64], clip: ClipConfig, frame_count: int) -> NDArray[np.int64]:
    """The frames of the windows in whose middle these frames stand, (N, T): the first and last frame are repeated.

    Of an even number of frames the middle is the later one of the two.
    """
    offset_T = (np.arange(clip.frames) - clip.frames // 2) * clip.stride
    return (frame_N[:, None] + offset_T).clip(0, frame_count - 1)


def read_windows(
    dataset: ShardDataset,
    video: int,
    frame_N: NDArray[np.int64],
    placement: Placement,
    clip: ClipConfig,
    input_size: tuple[int, int],
) -> Tensor:
    """The windows of some key frames of one video, uint8 (N, T, H, W, C): each frame is decoded and resized once.

    Raises:
        UserError: the video is damaged, or its shard cannot be fetched.
    """
    frame_NT = window_frames(frame_N, clip, int(dataset.frame_counts[video]))
    needed_F, place_NT = np.unique(frame_NT, return_inverse=True)
    decoded_FHWC = torch.from_numpy(dataset.decode(video, dataset.read_clip(video, needed_F)))
    input_FHWC = placed_frames(decoded_FHWC, placement, input_size)
    return input_FHWC[torch.from_numpy(place_NT.reshape(frame_NT.shape))]


def placed_frames(decoded_FHWC: Tensor, placement: Placement, input_size: tuple[int, int]) -> Tensor:
    """Frames of a video as a detector is shown them, uint8 (F, H, W, C)."""
    (height, width), (rows, columns) = placement.frame_size, placement.shown_size
    roi_22 = np.array([[0, width], [height, 0]] if placement.mirrored else [[0, 0], [height, width]])
    shown_FhwC = torch.empty(len(decoded_FHWC), rows, columns, 3, dtype=torch.uint8)
    crop_clip(decoded_FHWC, roi_22, shown_FhwC)  # which writes into memory without gaps alone
    input_FHWC = _MARGIN_COLOUR.repeat(len(decoded_FHWC), *input_size, 1)
    input_FHWC[:, :rows, :columns] = shown_FhwC
    return input_FHWC


@dataclass(frozen=True, eq=False)
class Window:
    """A key frame with its window and boxes, as a detector is given it."""

    clip_THWC: Tensor
    """uint8."""
    truth: FrameBoxes
    """In pixels of the input."""


def training_window(
    key_frames: KeyFrames, number: int, clip: ClipConfig, config: InputConfig, seed: int, epoch: int
) -> Window:
    """A key frame as it is shown in an epoch of training: a function of its arguments alone."""
    video, size = int(key_frames.video_K[number]), config.size(clip)
    frame = key_frames.drawn(number, seed, epoch)
    truth = key_frames.truth(video, frame)
    mirrored = bool(uniform(seed, epoch, number, _FLIP) < clip.flip_probability)
    placement = key_frames.placement(video, size, mirrored)
    clip_1THWC = read_windows(key_frames.dataset, video, np.array([frame]), placement, clip, size)
    return Window(clip_1THWC[0], replace(truth, box_N4=placement.to_input(truth.box_N4)))
