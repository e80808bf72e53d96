"""A trained model for other programs: ``model, classes, transform = scenebias.load(weights)``.

Shape suffixes: N frames of a clip, H rows, W columns, C colours; B windows, T frames of a window, S side of the input.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dali_pipelines.cropping import crop_clip, crop_mask
from dali_pipelines.windows import ClipConfig, EvaluationWindows, frame_indices
from scenebias.models.action_model import ActionModel
from scenebias.models.weights import clip_config_of, load_weights


@dataclass(frozen=True)
class ClipTransform:
    """Cuts a clip as the model's test clips are cut: all windows that do not overlap, the centre square of each frame.

    Frames after the last whole window are left out; a clip that is shorter than a window loops. On frames as they are
    stored in shards it gives what `EvalLoader` does.
    """

    clip: ClipConfig

    def __call__(self, frames_NHWC: NDArray[np.uint8] | Tensor) -> Tensor:
        """What the model takes: uint8 (B, T, S, S, 3), of any number of RGB frames, uint8 (N, H, W, 3), of any size.

        Raises:
            ValueError: the frames are of another shape or type, or there are none.
        """
        frames = torch.as_tensor(frames_NHWC)
        if frames.dtype != torch.uint8 or frames.ndim != 4 or frames.shape[3] != 3 or not frames.numel():
            raise ValueError(f"frames must be uint8 (N, H, W, 3), got {frames.dtype} {tuple(frames.shape)}")
        squares = list(self._squares(*frames.shape[:3]))
        window_BTSSC = torch.empty(len(squares), self.clip.frames, self.clip.size, self.clip.size, 3, dtype=torch.uint8)
        for window_TSSC, (frame_T, roi_22) in zip(window_BTSSC, squares, strict=True):
            crop_clip(frames[frame_T], roi_22, window_TSSC)
        return window_BTSSC

    def masks(self, mask_NHW: NDArray[np.bool_]) -> Tensor:
        """The masks of frames, of the same size as these, cut like them: bool (B, T, S, S)."""
        squares = list(self._squares(*mask_NHW.shape))
        window_BTSS = np.empty((len(squares), self.clip.frames, self.clip.size, self.clip.size), np.uint8)
        for window_TSS, (frame_T, roi_22) in zip(window_BTSS, squares, strict=True):
            crop_mask(np.packbits(mask_NHW[frame_T], axis=-1), roi_22.astype(np.float64), window_TSS)
        return torch.from_numpy(window_BTSS.view(np.bool_))

    def _squares(self, count: int, height: int, width: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """The frames of every window, and the corners of its square."""
        counts = np.array([count])
        windows = EvaluationWindows(self.clip, counts, np.array([[height, width]]))[:]
        yield from zip(frame_indices(self.clip, windows, counts), windows.rois(), strict=True)


class Pretrained(NamedTuple):
    """A model, the names of its outputs, and what makes its input.

    ``model(transform(frames_NHWC)).softmax(dim=1).mean(dim=0)`` are the probabilities of the classes for a clip.
    """

    model: ActionModel
    classes: tuple[str, ...]
    transform: ClipTransform


def load_pretrained(weights: Path) -> Pretrained:
    """See `scenebias.load`."""
    model, metadata = load_weights(weights)
    model.to(memory_format=torch.channels_last_3d).eval()
    return Pretrained(model, metadata.classes, ClipTransform(clip_config_of(metadata)))
