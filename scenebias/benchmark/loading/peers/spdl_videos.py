"""SPDL on the original videos: its own demuxing, decoding and filtering in threads, which it runs without the GIL.

Measured on JHMDB's clips and found no faster: scaling with torchvision instead of SPDL's filter graph, fast_bilinear
scaling, more threads than cores.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from spdl import io
from spdl.io.utils import get_ffmpeg_versions
from spdl.pipeline import PipelineBuilder
from torch.utils.data import default_collate

from scenebias.benchmark.loading.peers.cutting import MaskFiles, in_order, item_of
from scenebias.benchmark.loading.peers.stored_samples import stored_masks
from scenebias.benchmark.loading.setting import ClipItem, Pass, Setting
from scenebias.benchmark.loading.windows import ClipWindow

get_ffmpeg_versions()  # a RuntimeError where there is no FFmpeg, which SPDL says only when a video is opened


def decode_window(video: Path, window: ClipWindow, size: int) -> NDArray[np.uint8]:
    """The window of a video, cropped, scaled and mirrored: (T, S, S, C)."""
    half_frame_s = 0.5 / window.fps
    start_s = max(window.first / window.fps - half_frame_s, 0.0)
    packets = io.demux_video(str(video), timestamp=(start_s, window.last / window.fps + half_frame_s))
    codec = packets.codec
    assert codec is not None, "packets that were just demuxed know their codec"
    top, left, height, width = window.crop_at(codec.height)
    steps = [f"crop={width}:{height}:{left}:{top}:exact=1", f"scale={size}:{size}:flags=bilinear"]
    steps += ["hflip"] if window.flip else []
    frames = io.decode_packets(packets, filter_desc=",".join([*steps, "format=pix_fmts=rgb24"]))
    return in_order(io.to_numpy(io.convert_frames(frames)), window)


def open_pass(setting: Setting) -> Pass:
    """Store the masks; the threads start with every pass anew, in a millisecond."""
    size = setting.clip.size
    masks = MaskFiles.write(setting.folder / "masks", stored_masks(setting), size)

    def load(window: ClipWindow) -> ClipItem:
        clip_TSSC = torch.from_numpy(decode_window(setting.video_of(window), window, size))
        return item_of(window, clip_TSSC, masks.cut(window))

    def run() -> Iterator[ClipItem]:
        builder: Any = PipelineBuilder()
        pipeline = (
            builder.add_source(setting.windows)
            .pipe(load, concurrency=setting.workers)
            .aggregate(setting.batch_size)
            .pipe(default_collate)
            .add_sink(setting.prefetch)
            .build(num_threads=setting.workers + 1, max_failures=0)  # one thread more, for the collation
        )
        with pipeline.auto_stop():
            yield from pipeline

    return run
