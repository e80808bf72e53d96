"""webdataset with JPEGs in its tars, decoded by simplejpeg: film strips, or frames of the same height one by one.

simplejpeg with its fast transforms is the fastest decoder that was found for them, measured on 2 cores of an AMD EPYC,
in clips of 16 frames a second and core. Whole strips, as a JPEG decoder cannot seek: simplejpeg 280 (250 with its
exact transforms), OpenCV 250, torchvision 195. Single frames: simplejpeg 690 (630), OpenCV 600, torchvision 330.
"""

from functools import partial

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from torch import Tensor

from scenebias.benchmark.loading.peers.cutting import pick
from scenebias.benchmark.loading.peers.tars import Components, TarKind, open_tars
from scenebias.benchmark.loading.setting import Setting
from scenebias.benchmark.loading.windows import ClipWindow
from shards.codecs.masks import npy_array, npy_bytes
from shards.codecs.registry import FILMSTRIP
from shards.format.sample import find_parts

FRAMES, ENDS = "jpegs", "ends.npy"
QUALITY = 85
decode_fast = partial(simplejpeg.decode_jpeg, fastdct=True, fastupsample=True)


def store_strips(setting: Setting, window: ClipWindow, components: Components) -> Components:
    """The film strips of the shards, byte by byte."""
    del setting, window
    return {name: components[name] for name in find_parts(components, FILMSTRIP)}


def decode_strips(components: Components, window: ClipWindow) -> Tensor:
    """Decode every strip that the window touches, whole."""
    wanted, start = [], 0
    for name in find_parts(components, FILMSTRIP):
        rows, *_ = simplejpeg.decode_jpeg_header(components[name])
        end = start + rows // window.frame_height
        if start <= window.last and end > window.first:
            frames_FHWC = decode_fast(components[name]).reshape(end - start, window.frame_height, -1, 3)
            wanted.append(frames_FHWC[max(window.first - start, 0) : window.last + 1 - start])
        start = end
    return pick(wanted[0] if len(wanted) == 1 else np.concatenate(wanted), window)


def store_frames(setting: Setting, window: ClipWindow, components: Components) -> Components:
    """Every frame as a JPEG of its own, one after another in a component, and where each ends in another.

    A tar member for every frame would cost webdataset more than decoding it.
    """
    jpegs = []
    for name in find_parts(components, FILMSTRIP):
        frames_FHWC = simplejpeg.decode_jpeg(components[name]).reshape(-1, *_frame_shape(setting, window))
        jpegs += [simplejpeg.encode_jpeg(frame_HWC, QUALITY, colorsubsampling="420") for frame_HWC in frames_FHWC]
    ends = np.cumsum([len(jpeg) for jpeg in jpegs])
    return {FRAMES: b"".join(jpegs), ENDS: npy_bytes(ends)}


def decode_frames(components: Components, window: ClipWindow) -> Tensor:
    """Decode the window's frames and no others."""
    ends = npy_array(components[ENDS])
    starts = np.concatenate([[0], ends[:-1]])
    data = memoryview(components[FRAMES])
    bounds = [(int(starts[frame]), int(ends[frame])) for frame in range(window.first, window.last + 1)]
    height, width, *_ = simplejpeg.decode_jpeg_header(data[slice(*bounds[0])])
    frames_FHWC: NDArray[np.uint8] = np.empty((len(bounds), height, width, 3), np.uint8)
    for frame_HWC, (start, end) in zip(frames_FHWC, bounds, strict=True):
        decode_fast(data[start:end], buffer=frame_HWC)
    return pick(frames_FHWC, window)


def _frame_shape(setting: Setting, window: ClipWindow) -> tuple[int, int, int]:
    height, width = setting.dataset.frame_sizes[window.sample].tolist()
    return height, width, 3


open_strips = partial(open_tars, TarKind(store_strips, decode_strips))
open_frames = partial(open_tars, TarKind(store_frames, decode_frames))
