"""Video segments: a run of a clip's frames as an MP4 file that decodes without any other.

One key frame, and after it frames that look back only: frames leave a decoder in the order in which they are stored,
and a decoder that wants the first k decodes k. The pixels are 8-bit 4:2:0 in the colours of BT.601 in limited range,
tagged so: what decoders fall back to where they ignore tags. The same frames give the same bytes.

Shape suffixes: N frames of a segment, F selected frames, H rows, W columns, C = 3 colours (RGB).
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, cast

import av
import numpy as np
from av.container import InputContainer
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, Interpolation, VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from shards.codecs.parts import DamagedPartError, PartHeader

VideoCodec = Literal["h264", "hevc", "vp9"]

LEAST_SIDE = 32

_EXACT = Interpolation.ACCURATE_RND
# DALI's decoder on a CPU converts in this very way, so that both give the same pixels.
_TO_RGB = Interpolation.BILINEAR | Interpolation.FULL_CHR_H_INT | _EXACT
_TO_YUV = Interpolation.BICUBIC | Interpolation.FULL_CHR_H_INP | _EXACT


class DamagedSegmentError(DamagedPartError):
    """The bytes are not a whole video segment; the text says why."""


@dataclass(frozen=True)
class _Encoder:
    """An encoder of FFmpeg and its settings; all run in one thread, or the bytes would differ from run to run."""

    library: str
    """Its name in FFmpeg."""
    options: dict[str, str]
    """What it is told beside the constant rate factor."""
    default_crf: int
    """The constant rate factor where none is asked for."""
    highest_crf: int = 51
    """The greatest constant rate factor that it takes."""


_ENCODERS: dict[VideoCodec, _Encoder] = {
    "h264": _Encoder(
        "libx264",
        {
            "preset": "medium",
            "tune": "fastdecode",  # decodes up to twice as fast for 9 % more bytes
            "bf": "0",
            # Even on one thread x264's macroblock tree gives other bytes from run to run.
            "x264-params": "mbtree=0:scenecut=0:keyint=infinite",
        },
        default_crf=20,
    ),
    "hevc": _Encoder(
        "libx265",
        {
            "preset": "veryfast",  # as small as slower presets at this size
            "x265-params": ":".join(
                [
                    "bframes=0:scenecut=0:keyint=-1",
                    # With cutree x265 writes past the end of a buffer at some widths below 50. Where a side is just one
                    # coding tree unit it reads memory that it never wrote, and the bytes differ from run to run.
                    "cutree=0:ctu=16",
                    "pools=none:frame-threads=1:wpp=0",
                    "info=0:log-level=none",
                ]
            ),
        },
        default_crf=22,
    ),
    "vp9": _Encoder(
        "libvpx-vp9",
        {
            "deadline": "realtime",  # encodes three times as fast as "good" for 10 % more bytes
            "cpu-used": "6",
            "row-mt": "0",
            "lag-in-frames": "0",
            "auto-alt-ref": "0",
            "g": "9999",
            "b": "0",
        },
        default_crf=28,
        highest_crf=63,
    ),
}


def choose_crf(codec: VideoCodec, crf: int | None) -> int:
    """Return ``crf`` or, where it is None, the codec's default; they give about the same quality.

    Raises:
        ValueError: it is outside the encoder's range; 0 is lossless, which few decoders can read.
    """
    encoder = _ENCODERS[codec]
    if crf is None:
        return encoder.default_crf
    if not 1 <= crf <= encoder.highest_crf:
        raise ValueError(f"crf must be 1 to {encoder.highest_crf} for {codec}, got {crf}")
    return crf


def encode_segment(frames_NHWC: NDArray[np.uint8], codec: VideoCodec, *, crf: int, fps: float) -> bytes:
    """Encode uint8 RGB frames as one segment.

    Args:
        frames_NHWC: The frames.
        codec: How to code them.
        crf: Constant rate factor, in the encoder's range: lower is better and larger.
        fps: Frames a second, above 0.

    Raises:
        ValueError: no frames, another dtype or shape, or a side that is odd or below `LEAST_SIDE`.
    """
    if frames_NHWC.dtype != np.uint8 or frames_NHWC.ndim != 4 or frames_NHWC.shape[3] != 3 or not frames_NHWC.size:
        raise ValueError(f"frames must be uint8 (N, H, W, 3), got {frames_NHWC.dtype} {frames_NHWC.shape}")
    height, width = frames_NHWC.shape[1:3]
    if height % 2 or width % 2 or min(height, width) < LEAST_SIDE:
        raise ValueError(f"frames of a video must have even sides of {LEAST_SIDE} or more, got {width}x{height}")
    encoder = _ENCODERS[codec]
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        options = encoder.options | {"crf": str(crf), "flags": "+bitexact+cgop"}
        rate = Fraction(fps).limit_denominator(1001)
        stream = cast(VideoStream, container.add_stream(encoder.library, rate=rate, options=options))
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        context = stream.codec_context
        context.thread_count = 1
        context.color_range, context.colorspace = ColorRange.MPEG, Colorspace.SMPTE170M
        context.color_primaries, context.color_trc = ColorPrimaries.SMPTE170M, ColorTrc.SMPTE170M
        reformatter = VideoReformatter()
        for frame in frames_NHWC:
            picture = reformatter.reformat(
                av.VideoFrame.from_ndarray(frame, format="rgb24"),
                format="yuv420p",
                dst_colorspace=Colorspace.SMPTE170M,
                dst_color_range=ColorRange.MPEG,
                interpolation=_TO_YUV,
                threads=1,
            )
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return buffer.getvalue()


def segment_header(data: bytes, codec: VideoCodec) -> PartHeader:
    """Read what the container says; decodes no more than a player does to open it.

    Raises:
        DamagedSegmentError: it cannot be opened, or holds no video of ``codec``.
    """
    with _open(data) as container:
        stream = container.streams.video[0]
        if stream.codec_context.name != codec:
            raise DamagedSegmentError(f"a video segment of codec {stream.codec_context.name}, not {codec}")
        return PartHeader(stream.frames, stream.height, stream.width)


def decode_segment(data: bytes, frames: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Decode frames of a segment, in any order and with any repetition: uint8 RGB (F, H, W, C).

    All frames up to the last of them are decoded.

    Raises:
        DamagedSegmentError: they cannot all be decoded.
    """
    selected: NDArray[np.uint8] | None = None
    reformatter = VideoReformatter()
    last = int(frames.max())
    for number, picture in enumerate(_decode(data)):
        places = np.flatnonzero(frames == number)
        if places.size:
            rgb = reformatter.reformat(picture, format="rgb24", interpolation=_TO_RGB, threads=1).to_ndarray()
            if selected is None:
                selected = np.empty((len(frames), *rgb.shape), np.uint8)
            selected[places] = rgb
        if number == last:
            assert selected is not None
            return selected
    raise DamagedSegmentError(f"damaged video segment: it ends before frame {last}")


def check_segment(data: bytes, codec: VideoCodec) -> None:
    """Check a whole segment: that it can be opened, and that as many frames decode as its container promises.

    Raises:
        DamagedSegmentError: what is wrong with it.
    """
    header = segment_header(data, codec)
    decoded = sum(1 for _ in _decode(data))
    if decoded != header.frame_count:
        raise DamagedSegmentError(f"damaged video segment: {decoded} of {header.frame_count} frames decode")


def _decode(data: bytes) -> Iterator[av.VideoFrame]:
    with _open(data) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        stream.codec_context.options = {"err_detect": "explode"}
        for frame in container.decode(stream):
            if frame.is_corrupt:
                raise DamagedSegmentError("damaged video segment: a frame of it is damaged")
            yield frame


@contextmanager
def _open(data: bytes) -> Iterator[InputContainer]:
    try:
        with av.open(io.BytesIO(data), "r", format="mp4") as container:
            if not container.streams.video:
                raise DamagedSegmentError("not a video segment: it holds no video")
            yield container
    except av.FFmpegError as error:
        raise DamagedSegmentError(f"not a video segment, or a damaged one ({error.strerror})") from error
