"""DataLoader + torchcodec + torchvision.transforms.v2 on the original videos; the masks in a file beside each.

Measured on JHMDB's clips and found no faster: ``seek_mode="approximate"`` (exact mode's scan of so short a file costs
nothing to speak of), more worker processes than cores; slower by a tenth: ffmpeg's own threads.
"""

from pathlib import Path

import torchcodec
from torch import Tensor
from torch.utils.data import Dataset
from torchcodec.decoders import VideoDecoder

from scenebias.benchmark.loading.peers.cutting import MaskFiles, cut_clip, item_of, pick
from scenebias.benchmark.loading.peers.stored_samples import stored_masks
from scenebias.benchmark.loading.peers.worker_processes import load_in_workers
from scenebias.benchmark.loading.setting import ClipItem, Pass, Setting
from scenebias.benchmark.loading.windows import ClipWindow

if torchcodec.ffmpeg_major_version is None:  # torchcodec says so only when a video is opened
    raise RuntimeError("torchcodec finds no FFmpeg: install FFmpeg with its shared libraries")


class TorchcodecVideos(Dataset[ClipItem]):
    """One item for each of ``windows``."""

    def __init__(self, windows: list[ClipWindow], videos: list[Path], masks: MaskFiles, size: int) -> None:
        self._windows, self._videos, self._masks, self._size = windows, videos, masks, size

    def __len__(self) -> int:
        return len(self._windows)

    def __getitem__(self, index: int) -> ClipItem:
        window = self._windows[index]
        frames_TCHW = decode_window(self._videos[index], window)
        return item_of(window, cut_clip(frames_TCHW, window, self._size), self._masks.cut(window))


def decode_window(source: Path | bytes, window: ClipWindow) -> Tensor:
    """The window's frames, uint8 (T, C, H, W), of a video file or of its content."""
    decoder = VideoDecoder(source, dimension_order="NHWC", num_ffmpeg_threads=1, seek_mode="exact")
    return pick(decoder.get_frames_in_range(window.first, window.last + 1).data.numpy(), window)


def open_pass(setting: Setting) -> Pass:
    """Store the masks and start the loader."""
    masks = MaskFiles.write(setting.folder / "masks", stored_masks(setting), setting.clip.size)
    videos = [setting.video_of(window) for window in setting.windows]
    data = TorchcodecVideos(setting.windows, videos, masks, setting.clip.size)
    loader = load_in_workers(data, setting, setting.batch_size)
    return lambda: iter(loader)
