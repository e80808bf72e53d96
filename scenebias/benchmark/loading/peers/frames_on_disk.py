"""The way of the original code: all frames as JPEG files of the videos' own size, and their human-masked copies beside.

The model is fed both streams, so the second takes the place of the masks. Pillow decodes in worker processes,
torchvision.transforms.v2 cuts. Measured: stacking the pictures first and cutting them all at once is 1.4 times as fast
as cutting one Pillow image after another.
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from scenebias.benchmark.loading.peers.cutting import cut_clip, item_of
from scenebias.benchmark.loading.peers.original_videos import read_frames
from scenebias.benchmark.loading.peers.stored_samples import stored_masks
from scenebias.benchmark.loading.peers.worker_processes import load_in_workers
from scenebias.benchmark.loading.setting import ClipItem, Pass, Setting
from scenebias.benchmark.loading.windows import ClipWindow
from shards.codecs.masks import npy_array

QUALITY = 90
STREAMS = ("clean", "masked")


class FramesOnDisk(Dataset[ClipItem]):
    """One item for each of ``windows``; in the place of its masks is the masked clip."""

    def __init__(self, windows: list[ClipWindow], folder: Path, size: int) -> None:
        self._windows, self._folder, self._size = windows, folder, size

    def __len__(self) -> int:
        return len(self._windows)

    def __getitem__(self, index: int) -> ClipItem:
        window = self._windows[index]
        clean, masked = (self._read(stream, window) for stream in STREAMS)
        return item_of(window, clean, masked)

    def _read(self, stream: str, window: ClipWindow) -> Tensor:
        paths = [frame_path(self._folder, stream, window.sample, frame) for frame in window.frames_T.tolist()]
        frames_THWC = np.stack([np.asarray(Image.open(path)) for path in paths])
        return cut_clip(torch.from_numpy(frames_THWC).permute(0, 3, 1, 2), window, self._size)


def open_pass(setting: Setting) -> Pass:
    """Extract the frames and start the loader."""
    folder = setting.folder / "frames_on_disk"
    masks = stored_masks(setting)

    def extract(window: ClipWindow) -> None:
        stored = masks.get(window.sample)
        extract_frames(setting.video_of(window), window, None if stored is None else npy_array(stored), folder)

    with ThreadPoolExecutor(setting.workers) as threads:
        for _ in threads.map(extract, setting.windows):
            pass
    loader = load_in_workers(FramesOnDisk(setting.windows, folder, setting.clip.size), setting, setting.batch_size)
    return lambda: iter(loader)


def extract_frames(video: Path, window: ClipWindow, packed_masks: NDArray[np.uint8] | None, folder: Path) -> None:
    """Store those frames of a video that the window needs, as they are and with the people painted over."""
    for stream in STREAMS:
        frame_path(folder, stream, window.sample, 0).parent.mkdir(parents=True, exist_ok=True)
    for frame, image_HWC in enumerate(read_frames(video, window.first, window.last + 1), window.first):
        masked_HWC = image_HWC if packed_masks is None else paint_over(image_HWC, packed_masks[frame])
        for stream, image in zip(STREAMS, (image_HWC, masked_HWC), strict=True):
            Image.fromarray(image).save(frame_path(folder, stream, window.sample, frame), quality=QUALITY)


def paint_over(image_HWC: NDArray[np.uint8], packed_hw8: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Fill the people with the frame's mean colour."""
    height, width = image_HWC.shape[:2]
    bits = Image.fromarray(np.unpackbits(packed_hw8, axis=-1)).resize((width, height), Image.Resampling.NEAREST)
    mean_C = image_HWC.mean(axis=(0, 1)).astype(np.uint8)
    return np.where(np.asarray(bits)[..., None] > 0, mean_C, image_HWC)


def frame_path(folder: Path, stream: str, sample: int, frame: int) -> Path:
    """The file of one frame."""
    return folder / stream / f"{sample:09d}" / f"{frame:05d}.jpg"
