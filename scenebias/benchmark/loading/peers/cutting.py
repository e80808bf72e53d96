"""Crop, resize and mirror, as every PyTorch user does it: torchvision.transforms.v2.

Frames that lie channels-last in memory are resized several times as fast, so that is how the decoders' frames come.

Shape suffixes: T frames, C colours, H and W of the decoded frame, h and w of the stored mask, S of the output.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as transforms

from scenebias.benchmark.loading.setting import ClipItem
from scenebias.benchmark.loading.windows import ClipWindow


def cut_clip(frames_TCHW: Tensor, window: ClipWindow, size: int) -> Tensor:
    """Cut the window's crop out of every uint8 frame: (T, S, S, C)."""
    return _cut(frames_TCHW, window, size, InterpolationMode.BILINEAR).permute(0, 2, 3, 1)


def cut_mask(packed_Thw8: NDArray[np.uint8], window: ClipWindow, size: int) -> Tensor:
    """Cut the window's crop out of every bit-packed mask: bool (T, S, S)."""
    mask_T1hw = torch.from_numpy(np.unpackbits(packed_Thw8, axis=-1))[:, None]
    return _cut(mask_T1hw, window, size, InterpolationMode.NEAREST_EXACT)[:, 0].view(torch.bool)


def _cut(frames_TCHW: Tensor, window: ClipWindow, size: int, interpolation: InterpolationMode) -> Tensor:
    cut_TCSS = transforms.resized_crop(frames_TCHW, *window.crop_at(frames_TCHW.shape[2]), [size, size], interpolation)
    return transforms.horizontal_flip(cut_TCSS) if window.flip else cut_TCSS


def no_mask(window: ClipWindow, size: int) -> Tensor:
    """For a clip without masks."""
    return torch.zeros((len(window.frames_T), size, size), dtype=torch.bool)


def in_order(frames_FHWC: NDArray[np.uint8], window: ClipWindow) -> NDArray[np.uint8]:
    """The window's frames (T, H, W, C) of all from its first to its last in time; no copy where those are the same."""
    wanted_T = window.frames_T - window.first
    return frames_FHWC if np.array_equal(wanted_T, np.arange(len(frames_FHWC))) else frames_FHWC[wanted_T]


def pick(frames_FHWC: NDArray[np.uint8], window: ClipWindow) -> Tensor:
    """The same (T, C, H, W), channels last in memory."""
    return torch.from_numpy(in_order(frames_FHWC, window)).permute(0, 3, 1, 2)


def item_of(window: ClipWindow, clip_TSSC: Tensor, mask: Tensor) -> ClipItem:
    """The clip with its labels."""
    return ClipItem(
        torch.tensor(window.sample), clip_TSSC, mask, torch.from_numpy(window.scene_S), torch.tensor(window.label)
    )


class MaskFiles:
    """One .npy file of bit-packed masks a clip, read through a memory map: only the window's frames are touched."""

    def __init__(self, folder: Path, size: int) -> None:
        self._folder = folder
        self._size = size

    @classmethod
    def write(cls, folder: Path, masks: Mapping[int, bytes], size: int) -> "MaskFiles":
        """Store ``masks``, the content of an .npy file for every sample that has them."""
        folder.mkdir(exist_ok=True)
        for sample, data in masks.items():
            (folder / f"{sample}.npy").write_bytes(data)
        return cls(folder, size)

    def cut(self, window: ClipWindow) -> Tensor:
        """The window's masks: bool (T, S, S)."""
        path = self._folder / f"{window.sample}.npy"
        if not path.exists():
            return no_mask(window, self._size)
        return cut_mask(np.load(path, mmap_mode="r")[window.frames_T], window, self._size)
