"""How a decoded frame is shown: upright, in its aspect and its colours, as a whole or cut, at any height."""

import math
from collections import defaultdict
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Self

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from shards.decoding.refusal import BrokenClipError, refusal
from shards.format.sample import Crop

# Area averaging does not alias when it shrinks; when it enlarges, bicubic is sharper.
_SHRINK = Interpolation.AREA | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
_ENLARGE = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
# Matrix coefficients, ISO/IEC 23091-2.
_MATRIX_UNSPECIFIED, _MATRIX_RESERVED = 2, 3
_MATRICES = (0, 1, _MATRIX_UNSPECIFIED, 4, 5, 6, 7, 9)


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """What is known of a video once its first frame is decoded."""

    height: int
    """Height of the frame after rotation, before the pixels are stretched: masks have this size."""
    width: int
    """Width of that frame."""
    aspect: Fraction
    """Width over height, as displayed."""
    fps: float
    """Average frame rate of the video; `UNKNOWN_FPS` where the container says none that can be believed."""

    def width_at(self, height: int) -> int:
        """The width, even, of a frame scaled to ``height``."""
        return max(2, 2 * round(height * self.aspect.numerator / self.aspect.denominator / 2))


@dataclass(frozen=True)
class Orientation:
    """How a decoded frame becomes upright: first swap its axes, then mirror it left to right, then top to bottom."""

    transposed: bool
    """Whether rows and columns change places."""
    left_right: bool
    """Whether it is then mirrored left to right."""
    top_bottom: bool
    """Whether it is then mirrored top to bottom."""

    @classmethod
    def of(cls, frame: av.VideoFrame) -> Self:
        """Read the display matrix, which maps x to ax + cy and y to bx + dy (ISO/IEC 14496-12, tkhd)."""
        try:
            matrix: Any = frame.side_data.get("DISPLAYMATRIX")
            a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].tolist() if matrix else (1, 0, 0, 0, 1)
        except ValueError:  # PyAV opens no side data beside a kind that it does not know, as Exif in Motion JPEG
            angle = math.radians(frame.rotation)
            a, b, c, d = math.cos(angle), -math.sin(angle), math.sin(angle), math.cos(angle)
        if abs(b) + abs(c) > abs(a) + abs(d):
            return cls(True, c < 0, b < 0)
        return cls(False, a < 0, d < 0)

    def undo(self, crop: Crop, height: int, width: int) -> tuple[int, int, int, int]:
        """Where ``crop`` of an upright frame, of this size, lies in the decoded one: left, top, right, bottom."""
        left, right = crop.left, crop.left + crop.width
        top, bottom = crop.top, crop.top + crop.height
        if self.left_right:
            left, right = width - right, width - left
        if self.top_bottom:
            top, bottom = height - bottom, height - top
        return (top, left, bottom, right) if self.transposed else (left, top, right, bottom)

    def apply(self, frame_HWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if self.transposed:
            frame_HWC = frame_HWC.swapaxes(0, 1)
        upright_HWC = frame_HWC[:: -1 if self.top_bottom else 1, :: -1 if self.left_right else 1]
        return np.ascontiguousarray(upright_HWC)


class Display:
    """Shows decoded frames at any height. It keeps what the scaler prepares for each height."""

    def __init__(self, info: VideoInfo, orientation: Orientation) -> None:
        self._info = info
        self._orientation = orientation
        self._scalers: defaultdict[int, VideoReformatter] = defaultdict(VideoReformatter)

    def rgb(self, frame: av.VideoFrame, height: int, crop: Crop | None) -> NDArray[np.uint8]:
        if frame.colorspace not in _MATRICES:
            if frame.colorspace != _MATRIX_RESERVED:
                raise BrokenClipError(f"colours by matrix {frame.colorspace} of ISO/IEC 23091-2 cannot be converted")
            frame.colorspace = _MATRIX_UNSPECIFIED
        if frame.interlaced_frame:
            # The scaler would shrink the two fields apart, and every other line would show another moment.
            frame = _filtered(frame, "setfield", "prog")
        if crop is None:
            width = self._info.width_at(height)
        else:
            frame, width = self._cut(frame, crop), height
        scaled_height, scaled_width = (width, height) if self._orientation.transposed else (height, width)
        with refusal():
            scaled = self._scalers[height].reformat(
                frame,
                width=scaled_width,
                height=scaled_height,
                format="gbrp",  # the scaler writes planes in half of the time that packed pixels take
                interpolation=_SHRINK if frame.height > scaled_height else _ENLARGE,
                threads=1,
            )
        return self._orientation.apply(scaled.to_ndarray().astype(np.uint8, copy=False))

    def _cut(self, frame: av.VideoFrame, crop: Crop) -> av.VideoFrame:
        """``crop`` of the upright first frame, cut out of a decoded frame; of one of another size, the same share."""
        height, width = self._info.height, self._info.width
        edges = self._orientation.undo(crop, height, width)
        if self._orientation.transposed:
            height, width = width, height
        left, right = (round(x * frame.width / width) for x in edges[::2])
        top, bottom = (round(y * frame.height / height) for y in edges[1::2])
        # "exact" counts single pixels in subsampled formats too.
        return _filtered(frame, "crop", f"{max(1, right - left)}:{max(1, bottom - top)}:{left}:{top}:exact=1")


def _filtered(frame: av.VideoFrame, name: str, arguments: str) -> av.VideoFrame:
    """What one of FFmpeg's filters makes of a frame."""
    graph = av.filter.Graph()
    graph.threads = 1
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1))
    graph.link_nodes(source, graph.add(name, arguments), graph.add("buffersink")).configure()
    graph.vpush(frame)
    return graph.vpull()
