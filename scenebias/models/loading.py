"""A trained model for other programs: ``scenebias.load(weights).predict(frames_NHWC)``.

Shape suffixes: N frames of a clip, H rows, W columns, C colours; B windows, T frames of a window, S side of the input;
A actions.
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
from scenebias.models.action_model import ActionModel, class_probabilities
from scenebias.models.backbones import AnyBackbone
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
        (window_BTSSC,) = self.batches(frames_NHWC, len(frames_NHWC))  # there are no more windows than frames
        return window_BTSSC

    def batches(self, frames_NHWC: NDArray[np.uint8] | Tensor, batch_size: int) -> Iterator[Tensor]:
        """The same, ``batch_size`` windows at a time."""
        frames = torch.as_tensor(frames_NHWC)
        if frames.dtype != torch.uint8 or frames.ndim != 4 or frames.shape[3] != 3 or not frames.numel():
            raise ValueError(f"frames must be uint8 (N, H, W, 3), got {frames.dtype} {tuple(frames.shape)}")
        side = self.clip.size
        squares = list(self._squares(*frames.shape[:3]))
        for start in range(0, len(squares), batch_size):
            batch = squares[start : start + batch_size]
            window_BTSSC = torch.empty(len(batch), self.clip.frames, side, side, 3, dtype=torch.uint8)
            for window_TSSC, (frame_T, roi_22) in zip(window_BTSSC, batch, strict=True):
                crop_clip(frames[frame_T], roi_22, window_TSSC)
            yield window_BTSSC

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


class LoadedModel(NamedTuple):
    """A model in evaluation mode, the names of its outputs, and what makes its input."""

    model: ActionModel
    classes: tuple[str, ...]
    """The actions, in the order of the model's outputs."""
    transform: ClipTransform
    """From the frames of a clip to what ``model`` takes."""

    def predict(self, frames_NHWC: NDArray[np.uint8] | Tensor, batch_size: int = 8) -> NDArray[np.float64]:
        """The probabilities of the classes for a clip: the mean softmax over its windows, float64 (A,).

        ``frames_NHWC`` are RGB, uint8, of any number and size, on the CPU; ``batch_size`` windows are looked at at a
        time.

        Raises:
            ValueError: the frames are of another shape or type, or there are none.
        """
        batches = self.transform.batches(frames_NHWC, batch_size)
        return np.concatenate([self.window_probabilities(window_BTSSC) for window_BTSSC in batches]).mean(axis=0)

    def window_probabilities(self, window_BTSSC: Tensor) -> NDArray[np.float64]:
        """The softmax for each window that ``transform`` has cut: float64 (B, A)."""
        with torch.inference_mode():
            return class_probabilities(self.model, window_BTSSC.to(self.model.scale.device)).cpu().numpy()


def load_model(weights: Path, device: torch.device | str = "cpu", backbone: AnyBackbone | None = None) -> LoadedModel:
    """See `scenebias.load`."""
    model, metadata = load_weights(weights, backbone)
    model.to(device).to(memory_format=torch.channels_last_3d).eval()
    return LoadedModel(model, metadata.classes, ClipTransform(clip_config_of(metadata)))
