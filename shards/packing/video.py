"""Decode a video once, from its first frame to its last, into RGB frames of any height.

Frames look as FFmpeg and most players show them:

- turned and mirrored by the display matrix, and stretched by the pixel aspect ratio; the width follows from the height
  and that display aspect, rounded to an even number;
- in the colours of their tags: YCbCr of BT.601, BT.709 or BT.2020, limited or full range. Without tags that is BT.601
  in limited range; grey pixels are always full range. HDR is not tone-mapped, transparency is dropped;
- as they are coded: in a video of variable rate none is repeated or dropped, so that annotated frame numbers hold.
  Interlaced frames keep their two fields. Where the resolution changes, the shape of the first frame stays.

Damage is found where the decoder or the container notices it. VP8, VP9 and HEVC have no check of their own: changed
bytes inside a frame may pass as odd pixels.
"""

import math
import stat
import struct
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

import av
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from av.video.reformatter import Interpolation, VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from shards.format.sample import Crop

LEAST_DELIVERED = 0.9
"""The least share of what is wanted: annotated ends are often off by a few frames, and promised durations rounded."""
LAST_FRAME_S = 0.05
"""How long a last frame is shown where the container does not say."""
MAX_ASPECT = 10
"""The widest (and, as its inverse, the tallest) display aspect: beyond it the pixel aspect is nonsense."""
MAX_PIXELS = 8192 * 4320
"""The largest frame, 8K: beyond it a few frames would fill the memory."""

_DECODER_OPTIONS = {"max_pixels": str(MAX_PIXELS)}
_HEADERS_WITH_DURATION = ("matroska,webm", "flv", "asf")
# Area averaging does not alias when it shrinks; when it enlarges, bicubic is sharper.
_SHRINK = Interpolation.AREA | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
_ENLARGE = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
# Matrix coefficients, ISO/IEC 23091-2.
_MATRIX_UNSPECIFIED, _MATRIX_RESERVED = 2, 3
_MATRICES = (0, 1, _MATRIX_UNSPECIFIED, 4, 5, 6, 7, 9)


class BrokenClipError(Exception):
    """A video from which the wanted frames cannot all be decoded; the text says why."""


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
    """Average frame rate of the video."""

    def width_at(self, height: int) -> int:
        """The width, even, of a frame scaled to ``height``."""
        return max(2, 2 * round(height * self.aspect.numerator / self.aspect.denominator / 2))


class Frame:
    """One decoded frame, not scaled yet."""

    def __init__(self, decoded: av.VideoFrame, display: "_Display") -> None:
        self._decoded = decoded
        self._display = display

    def rgb(self, height: int, crop: Crop | None = None) -> NDArray[np.uint8]:
        """Turn, stretch and scale to uint8 (height, info.width_at(height), 3): red, green and blue.

        With ``crop``, a square on the screen, cut it out first and scale it to (height, height, 3).
        """
        return self._display.rgb(self._decoded, height, crop)


class Video:
    """The frames of one video; use it as ``with open_video(path) as video``."""

    def __init__(self, container: InputContainer, path: Path) -> None:
        self._container = container
        self._path = path
        self._stream = _video_stream(container)
        self._decoded = self._decode()
        first = next(self._decoded, None)
        if first is None:
            raise BrokenClipError("no frames")
        self._first = first
        orientation = _Orientation.of(first)
        height, width = first.height, first.width
        aspect = Fraction(width, height) * (self._stream.sample_aspect_ratio or 1)
        if orientation.transposed:
            height, width, aspect = width, height, 1 / aspect
        if not 1 / MAX_ASPECT <= aspect <= MAX_ASPECT:
            raise BrokenClipError(f"shown {float(aspect):.3g} times as wide as high: no sensible shape for a video")
        rate = self._stream.average_rate or self._stream.guessed_rate
        if not rate:
            raise BrokenClipError("no frame rate")
        self.info = VideoInfo(height=height, width=width, aspect=aspect, fps=float(rate))
        self._display = _Display(self.info, orientation)

    def frames(self, start_frame: int | None = None, end_frame: int | None = None) -> Iterator[Frame]:
        """Yield the frames ``start_frame <= n < end_frame``, one at a time; may be called once.

        A tenth of the wanted frames may be lacking at the end: annotated ends are often a little off.

        Raises:
            BrokenClipError: a frame is damaged, the file was cut short, or it ends well before ``end_frame``.
        """
        start_frame = start_frame or 0
        count = 0
        for count, decoded in enumerate(self._all_frames(), start=1):
            if count > start_frame:
                yield Frame(decoded, self._display)
            if count == end_frame:
                return
        wanted = 1 if end_frame is None else end_frame - start_frame
        if count - start_frame < LEAST_DELIVERED * wanted:
            raise BrokenClipError(f"ends after {count} frames, but {start_frame + wanted} are needed")

    def _all_frames(self) -> Iterator[av.VideoFrame]:
        yield self._first
        yield from self._decoded

    def _decode(self) -> Iterator[av.VideoFrame]:
        with _refusal():
            yield from self._decode_packets()

    def _decode_packets(self) -> Iterator[av.VideoFrame]:
        packet_count = frame_count = end = 0
        # Sound is read along: the promised duration is that of the longest stream.
        for packet in self._container.demux():
            if packet.pts is not None:
                end = max(end, packet.pts + (packet.duration or 0))
            if packet.stream is not self._stream:
                continue
            if packet.is_corrupt:
                raise BrokenClipError(f"cut short or damaged after {frame_count} frames")
            if packet.size:
                packet_count += 1
            elif packet.dts is not None:  # a frame that the recorder dropped; to the decoder it would mean the end
                continue
            for frame in self._stream.decode(packet):
                if frame.is_corrupt:  # the decoder painted over what it could not read
                    raise BrokenClipError(f"damaged in frame {frame_count}")
                frame_count += 1
                yield frame
        self._check_end(packet_count, end)

    def _check_end(self, packet_count: int, end: int) -> None:
        """Raise BrokenClipError where the container promises more than was read from it."""
        name = self._container.format.name
        promised = 0
        if name.startswith("mov"):
            # The index is without what an edit list takes out.
            promised = sum(entry.size > 0 for entry in self._stream.index_entries)
        elif name == "avi" and _riff_is_cut(self._path):
            promised = self._stream.frames  # with those that the recorder dropped
        if packet_count < promised:
            raise BrokenClipError(f"cut short: {packet_count} of {promised} frames are in the file")
        if name in _HEADERS_WITH_DURATION and self._container.duration:
            promised_s = self._container.duration / av.time_base
            end_s = float(end * (self._stream.time_base or 0))  # the same in all streams of these containers
            if end_s < LEAST_DELIVERED * promised_s - LAST_FRAME_S:
                raise BrokenClipError(f"cut short: {end_s:.1f} of {promised_s:.1f} s are in the file")


@dataclass(frozen=True)
class _Orientation:
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


class _Display:
    """Shows decoded frames at any height. It keeps what the scaler prepares for each height."""

    def __init__(self, info: VideoInfo, orientation: _Orientation) -> None:
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
        with _refusal():
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


def _video_stream(container: InputContainer) -> VideoStream:
    """The first stream of moving pictures, made ready to decode."""
    if container.format.name == "image2" or container.format.name.endswith("_pipe"):
        raise BrokenClipError("a picture, not a video")
    streams = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    if not streams:
        raise BrokenClipError("no video stream")
    codec = streams[0].codec_context
    if codec is None:
        raise BrokenClipError("coded in a way that FFmpeg does not know")
    if codec.width * codec.height > MAX_PIXELS:
        raise BrokenClipError(f"frames of {codec.width}x{codec.height} pixels are larger than 8K")
    # One thread a decoder: packing runs one process a core.
    codec.thread_count = 1
    codec.options = dict(_DECODER_OPTIONS)
    if codec.name == "mjpeg":  # unlike other decoders it conceals errors without saying so
        codec.options |= {"err_detect": "explode"}
    return streams[0]


def _riff_is_cut(path: Path) -> bool:
    """Whether a file in RIFF, as AVI is, ends before its header says."""
    with path.open("rb") as file:
        _, byte_count = struct.unpack("<4sI", file.read(8))
    return path.stat().st_size < 8 + byte_count


@contextmanager
def open_video(path: Path) -> Iterator[Video]:
    """Open ``path`` for decoding.

    Raises:
        BrokenClipError: it cannot be read, is no video, or cannot be decoded.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise BrokenClipError(f"cannot be read ({error.strerror})") from error
    if not stat.S_ISREG(status.st_mode):  # to open a pipe could take for ever
        raise BrokenClipError("not a regular file")
    if not status.st_size:
        raise BrokenClipError("empty file")
    with _refusal():
        container = av.open(
            f"file:{path}",  # a colon in its name makes no protocol
            options=_DECODER_OPTIONS,
            metadata_errors="replace",  # names and titles in old AVI files are often in no known encoding
        )
    with container:
        yield Video(container, path)


@contextmanager
def _refusal() -> Iterator[None]:
    """Whatever FFmpeg cannot do inside comes out as BrokenClipError."""
    try:
        yield
    except av.FFmpegError as error:
        raise BrokenClipError(f"cannot be decoded ({error.strerror})") from error
