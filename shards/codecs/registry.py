"""The codecs that a clip may be stored with, and what the rest of the format asks of each.

A film strip is made for reading: any of its frames can be cut out. Video is several times smaller, but a reader has to
fetch a whole segment, and to decode it up to the last frame that it wants.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from shards.checks import require_at_least
from shards.codecs.filmstrip import (
    BAND_ROWS,
    MAX_STRIP_ROWS,
    DamagedStripError,
    Strip,
    StripHeader,
    check_strip,
    decode_strip,
    encode_strips,
    select_frames,
)
from shards.codecs.parts import CodedFrames, PartHeader, StoredPart, locate_frames
from shards.codecs.video_segments import (
    LEAST_SIDE,
    DamagedSegmentError,
    VideoCodec,
    check_segment,
    choose_crf,
    decode_segment,
    encode_segment,
    segment_header,
)

Codec = Literal["filmstrip", VideoCodec]
FILMSTRIP: Literal["filmstrip"] = "filmstrip"


class ClipEncoder(Protocol):
    """Encodes a clip part by part."""

    @property
    def frames_per_part(self) -> int:
        """Frames in every part of a clip but its last, which may have fewer."""
        ...

    def encode(self, frames_NHWC: NDArray[np.uint8], fps: float) -> bytes:
        """Encode the frames of one part, uint8 RGB; the same frames give the same bytes.

        Raises:
            ValueError: no frames, too many, or of a dtype or shape that the codec cannot store.
        """
        ...


class PartFormat(Protocol):
    """How parts of one codec are looked into, read and decoded."""

    component: str
    """Name of the component that holds a part, without the part's number."""

    def header(self, data: bytes) -> PartHeader:
        """Read the header of a part; raises DamagedPartError."""
        ...

    def check(self, data: bytes) -> None:
        """Decode all of a part; raises DamagedPartError."""
        ...

    def select(
        self, parts: Sequence[StoredPart], frame_indices: NDArray[np.int64], rows: range
    ) -> tuple[CodedFrames, ...]:
        """Fetch frames of one clip; those of the results, one after another, are the wanted ones in their order.

        ``rows`` are those of every frame that are wanted; where the codec cannot cut there, more are given.

        Raises:
            ValueError: no index, or one outside the clip.
            DamagedPartError: a part that is needed is damaged.
        """
        ...

    def decode(self, coded: CodedFrames) -> NDArray[np.uint8]:
        """Decode, on the CPU, to uint8 RGB (F, H, W, 3), H as many as ``coded.rows``; raises DamagedPartError."""
        ...


@dataclass(frozen=True)
class FilmStripEncoder:
    """Encodes film strips of frames of ``height`` rows."""

    quality: int
    """JPEG quality, 1 to 95."""
    height: int
    """Rows of a frame."""

    @property
    def frames_per_part(self) -> int:
        return MAX_STRIP_ROWS // self.height

    def encode(self, frames_NHWC: NDArray[np.uint8], fps: float) -> bytes:
        del fps  # pictures have none
        strip, *more = encode_strips(frames_NHWC, self.quality)
        if more:
            raise ValueError(f"{len(frames_NHWC)} frames do not fit into one film strip")
        return strip


@dataclass(frozen=True)
class VideoEncoder:
    """Encodes video segments."""

    codec: VideoCodec
    """Which video codec."""
    crf: int
    """Constant rate factor: lower is better and larger."""
    frames_per_part: int
    """Frames in every segment of a clip but its last, which may have fewer."""

    def encode(self, frames_NHWC: NDArray[np.uint8], fps: float) -> bytes:
        return encode_segment(frames_NHWC, self.codec, crf=self.crf, fps=fps)


class FilmStripFormat:
    """Film strips; only the wanted frames are read, and only the bands that hold wanted rows are kept."""

    component = "frames.jpg"

    def header(self, data: bytes) -> PartHeader:
        header = StripHeader.parse(data)
        return PartHeader(header.frame_count, header.frame_height, header.width, header.header_bytes)

    def check(self, data: bytes) -> None:
        check_strip(data)

    def select(
        self, parts: Sequence[StoredPart], frame_indices: NDArray[np.int64], rows: range
    ) -> tuple[CodedFrames, ...]:
        strips = [Strip(part.frame_count, part.header_bytes, part.read) for part in parts]
        bands = range(rows.start // BAND_ROWS * BAND_ROWS, -(-rows.stop // BAND_ROWS) * BAND_ROWS)
        return (CodedFrames(select_frames(strips, frame_indices, bands), np.arange(len(frame_indices)), bands),)

    def decode(self, coded: CodedFrames) -> NDArray[np.uint8]:
        try:
            return decode_strip(coded.data, len(coded.rows))[coded.frames]
        except OSError as error:
            raise DamagedStripError(f"damaged film strip: it does not decode ({error})") from error


@dataclass(frozen=True)
class VideoFormat:
    """Video segments, which are read as a whole."""

    codec: VideoCodec
    """Which video codec."""
    component = "video.mp4"

    def header(self, data: bytes) -> PartHeader:
        return segment_header(data, self.codec)

    def check(self, data: bytes) -> None:
        check_segment(data, self.codec)

    def select(
        self, parts: Sequence[StoredPart], frame_indices: NDArray[np.int64], rows: range
    ) -> tuple[CodedFrames, ...]:
        del rows  # a decoder needs all of a segment
        part_numbers, frames = locate_frames([part.frame_count for part in parts], frame_indices)
        segments = {number: _read_whole(parts[number]) for number in dict.fromkeys(part_numbers.tolist())}
        # A clip that is shorter than the selection starts again, and so may come back to a segment.
        run_starts = np.flatnonzero(np.diff(part_numbers)) + 1
        runs = zip(np.split(part_numbers, run_starts), np.split(frames, run_starts), strict=True)
        all_rows = range(parts[0].frame_height)
        return tuple(CodedFrames(segments[int(numbers[0])], run, all_rows) for numbers, run in runs)

    def decode(self, coded: CodedFrames) -> NDArray[np.uint8]:
        return decode_segment(coded.data, coded.frames)


def clip_encoder(codec: Codec, *, quality: int, crf: int | None, segment_frames: int, height: int) -> ClipEncoder:
    """Make the encoder of a codec.

    Args:
        codec: One of `Codec`.
        quality: JPEG quality of film strips, 1 to 95.
        crf: Constant rate factor of video, 1 to 51 (vp9: to 63): lower is better and larger. None: 20 for h264, 22 for
            hevc, 28 for vp9, which look about the same.
        segment_frames: Frames in a video segment.
        height: Rows of a frame.

    Raises:
        ValueError: an unknown codec, or an option of it is out of range.
    """
    if codec == FILMSTRIP:
        return FilmStripEncoder(quality, height)
    part_format(codec)
    chosen_crf = choose_crf(codec, crf)
    if height < LEAST_SIDE:
        raise ValueError(f"height must be at least {LEAST_SIDE} for {codec}, got {height}")
    require_at_least(1, segment_frames=segment_frames)
    return VideoEncoder(codec, chosen_crf, segment_frames)


def part_format(codec: str) -> PartFormat:
    """Return the format of a codec's parts; a ValueError for a codec that is none of `Codec`."""
    if codec not in _FORMATS:
        raise ValueError(f"codec must be one of {', '.join(_FORMATS)}, got {codec!r}")
    return _FORMATS[codec]


_FORMATS: dict[str, PartFormat] = {FILMSTRIP: FilmStripFormat()} | {
    codec: VideoFormat(codec) for codec in get_args(VideoCodec)
}


def _read_whole(part: StoredPart) -> bytes:
    """Read a part and compare its checksum: decoders make grey or black frames of damaged video, without a word."""
    data = part.read(0, part.size)
    if zlib.crc32(data) != part.crc32:
        raise DamagedSegmentError("damaged video segment: its checksum is wrong")
    return data
