"""webdataset with videos in its tars: what a user of it in this field has, decoded by torchcodec.

torchcodec is the fastest decoder that was found for them, measured on 2 cores of an AMD EPYC, in clips of 16 frames a
second and core: of the original 320x240 videos torchcodec gave 75 to 80, SPDL 67, OpenCV 56, decord 53 and PyAV 33.
"""

from functools import partial

import numpy as np
from torch import Tensor

from scenebias.benchmark.loading.peers.original_videos import read_frames
from scenebias.benchmark.loading.peers.tars import Components, TarKind, open_tars
from scenebias.benchmark.loading.peers.torchcodec_videos import decode_window
from scenebias.benchmark.loading.setting import Setting
from scenebias.benchmark.loading.windows import ClipWindow
from shards.codecs.video_segments import choose_crf, encode_segment

VIDEO = "mp4"


def store_original(setting: Setting, window: ClipWindow, components: Components) -> Components:
    """The original video, byte by byte."""
    del components
    return {VIDEO: setting.video_of(window).read_bytes()}


def store_small(setting: Setting, window: ClipWindow, components: Components) -> Components:
    """The original video as H.264 with as many rows as the shards store."""
    del components
    frames_NHWC = np.stack(list(read_frames(setting.video_of(window), height=window.frame_height)))
    return {VIDEO: encode_segment(frames_NHWC, "h264", crf=choose_crf("h264", None), fps=window.fps)}


def decode_video(components: Components, window: ClipWindow) -> Tensor:
    """Decode as much of the video as the window needs."""
    return decode_window(components[VIDEO], window)


open_original = partial(open_tars, TarKind(store_original, decode_video))
open_small = partial(open_tars, TarKind(store_small, decode_video))
