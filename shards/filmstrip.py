"""Film strips: a clip as one baseline JPEG from which any frames can be cut and joined by copying bytes.

The frames are stacked top to bottom, one restart interval each (ITU-T T.81, B.2.1). Entropy coding starts afresh at
every restart marker, so a frame's scan is a run of bytes that means the same wherever it stands. With 4:2:2 chroma no
decoder mixes rows of neighbouring frames. An APP9 segment holds the frame table: a tag, a version byte, then N + 1
little-endian unsigned 32-bit offsets. Frame k's scan, with the marker that ends it, is the bytes
``offset[k] : offset[k + 1]`` counted from the end of the header.

Shape suffixes: N frames of a clip, T selected frames, H rows, W columns, C = 3 colours (RGB).
"""

import io
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shards.parts import DamagedPartError, locate_frames

MAX_STRIP_ROWS = 65500  # libjpeg's JPEG_MAX_DIMENSION; the format itself ends at 65,535
FRAME_HEIGHT_MULTIPLE = 16
MARKER_BYTES = 2

_TAG = b"FILMSTRIP\x00\x01"
_SOF0, _DRI, _SOS, _APP9 = 0xFFC0, 0xFFDD, 0xFFDA, 0xFFE9
_END_OF_IMAGE = b"\xff\xd9"
_RESTARTS = [bytes((0xFF, 0xD0 + k)) for k in range(8)]
_MCU_WIDTH, _MCU_HEIGHT = 16, 8  # 4:2:2
_AFTER_JFIF = 20  # SOI and the JFIF segment, which must come first


class DamagedStripError(DamagedPartError):
    """The bytes are not a whole film strip; the text says why."""


@dataclass(frozen=True, eq=False)
class StripHeader:
    """What the bytes before a strip's scan say.

    Attributes:
        frame_count: N.
        frame_height: Rows of one frame.
        width: Columns.
        offsets: uint32 (N + 1,), the frame table.
        header_bytes: Where the scan begins.
        jpeg_header: The header without the frame table, ready for a JPEG of another number of frames.
        rows_position: Where ``jpeg_header`` holds its number of rows.
    """

    frame_count: int
    frame_height: int
    width: int
    offsets: NDArray[np.uint32]
    header_bytes: int
    jpeg_header: bytes
    rows_position: int

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read the header at the start of ``data``, which may end anywhere after it.

        Raises:
            DamagedStripError: the bytes are not the header of a film strip.
        """
        try:
            segments = _segments(data)
            table_start, table_end = segments[_APP9]
            sof_start, _ = segments[_SOF0]
            rows, width = struct.unpack_from(">HH", data, sof_start + 5)
            (restart_interval,) = struct.unpack_from(">H", data, segments[_DRI][0] + 4)
            _, header_bytes = segments[_SOS]
        except (struct.error, KeyError) as error:
            raise DamagedStripError("not a film strip: its JPEG header is cut short or lacks a segment") from error
        table = data[table_start + 4 + len(_TAG) : table_end]
        if not data.startswith(_TAG, table_start + 4) or len(table) % 4:
            raise DamagedStripError("not a film strip: its frame table is of another kind or version")
        offsets = np.frombuffer(table, dtype="<u4")
        frame_count = len(offsets) - 1
        if frame_count < 1 or rows % frame_count or sof_start < table_end:
            raise DamagedStripError(f"damaged film strip: {rows} rows do not hold {frame_count} frames")
        frame_height = rows // frame_count
        if restart_interval != _mcus(frame_height, width):
            raise DamagedStripError(f"damaged film strip: restart interval {restart_interval} is not one frame")
        return cls(
            frame_count=frame_count,
            frame_height=frame_height,
            width=width,
            offsets=offsets,
            header_bytes=header_bytes,
            jpeg_header=data[:table_start] + data[table_end:header_bytes],
            rows_position=sof_start + 5 - (table_end - table_start),
        )


@dataclass(frozen=True)
class Strip:
    """A strip whose bytes are fetched as needed: ``read(start, size)`` returns exactly that part of it."""

    frame_count: int
    header_bytes: int
    read: Callable[[int, int], bytes]

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        header = StripHeader.parse(data)
        return cls(header.frame_count, header.header_bytes, lambda start, size: data[start : start + size])


def encode_strips(frames_NHWC: NDArray[np.uint8], quality: int = 85, *, max_rows: int = MAX_STRIP_ROWS) -> list[bytes]:
    """Encode the frames of one clip, uint8 RGB, as one strip or, above ``max_rows`` rows in all, as several.

    All strips but the last hold the same number of frames, and all have the same coding tables.

    Raises:
        ValueError: no frames, another dtype or shape, H not a multiple of 16, or a frame too large for one strip.
    """
    if frames_NHWC.dtype != np.uint8 or frames_NHWC.ndim != 4 or frames_NHWC.shape[3] != 3 or not frames_NHWC.size:
        raise ValueError(f"frames must be uint8 (N, H, W, 3), got {frames_NHWC.dtype} {frames_NHWC.shape}")
    height, width = frames_NHWC.shape[1:3]
    if height % FRAME_HEIGHT_MULTIPLE:
        raise ValueError(f"frame height must be a multiple of {FRAME_HEIGHT_MULTIPLE}, got {height}")
    if height > max_rows or width > MAX_STRIP_ROWS or _mcus(height, width) > 0xFFFF:
        raise ValueError(f"a frame of {width}x{height} does not fit into one strip of {max_rows} rows")
    frames_per_strip = max_rows // height
    return [
        _encode_strip(frames_NHWC[start : start + frames_per_strip], quality)
        for start in range(0, len(frames_NHWC), frames_per_strip)
    ]


def select_frames(strips: Sequence[Strip], frame_indices: NDArray[np.int64]) -> bytes:
    """Join frames of one clip into one JPEG of T * H rows, in any order and with any repetition.

    Each strip that holds wanted frames is asked for its header and for one span of bytes, from the first wanted frame
    to the last.

    Args:
        strips: The strips of the clip, in order.
        frame_indices: (T,), counted from the first frame of the first strip.

    Raises:
        ValueError: no index, an index outside the clip, or more rows than a JPEG may have.
        DamagedStripError: a strip's header or frame table is damaged, or the strips are not of one clip.
    """
    strip_numbers, frames = locate_frames([strip.frame_count for strip in strips], frame_indices)
    scans: list[bytes] = [b""] * len(frames)
    joined: StripHeader | None = None
    for number in sorted(set(strip_numbers.tolist())):
        places = np.flatnonzero(strip_numbers == number)
        strip = strips[number]
        header = StripHeader.parse(strip.read(0, strip.header_bytes))
        if joined is not None and not _can_join(header, joined):
            raise DamagedStripError("the strips of one clip differ in frame size or coding tables")
        joined = header
        frame_scans = _read_scans(strip, header, frames[places])
        for place, scan in zip(places.tolist(), frame_scans, strict=True):
            scans[place] = scan
    assert joined is not None
    return _join(joined, scans)


def decode_strip(jpeg: bytes, frame_height: int) -> NDArray[np.uint8]:
    """Decode a strip or a selection with Pillow: uint8 RGB (T, H, W, 3)."""
    with Image.open(io.BytesIO(jpeg)) as image:
        return np.asarray(image.convert("RGB")).reshape(-1, frame_height, image.width, 3)


def check_strip(data: bytes) -> StripHeader:
    """Check a whole strip: its header, its frame table against its restart markers, and that it decodes.

    Raises:
        DamagedStripError: what is wrong with it.
    """
    header = StripHeader.parse(data)
    scan = np.frombuffer(data, dtype=np.uint8, offset=header.header_bytes)
    if not np.array_equal(header.offsets, _frame_offsets(scan)) or not data.endswith(_END_OF_IMAGE):
        raise DamagedStripError("damaged film strip: the frame table does not match the restart markers")
    strip = Strip.from_bytes(data)
    for start in range(0, header.frame_count, 64):
        indices = np.arange(start, min(start + 64, header.frame_count))
        try:
            decode_strip(select_frames([strip], indices), header.frame_height)
        except OSError as error:
            raise DamagedStripError(f"damaged film strip: frames {start} and on do not decode ({error})") from error
    return header


def _segments(data: bytes) -> dict[int, tuple[int, int]]:
    """Start and end of the header's segments by marker, up to the start of the scan."""
    segments: dict[int, tuple[int, int]] = {}
    position = 2
    marker = 0
    while marker != _SOS:
        marker, size = struct.unpack_from(">HH", data, position)
        segments[marker] = (position, position + 2 + size)
        position += 2 + size
    if position > len(data):
        raise struct.error("the last segment is cut short")
    return segments


def _mcus(height: int, width: int) -> int:
    """Minimum coded units in one frame."""
    return height // _MCU_HEIGHT * -(-width // _MCU_WIDTH)


def _frame_offsets(scan: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """Where each interval of a scan begins, and where the last one ends; 0xFF is a marker unless 0x00 follows."""
    markers = np.flatnonzero((scan[:-1] == 0xFF) & (scan[1:] != 0))
    return np.concatenate([[0], markers + MARKER_BYTES]).astype("<u4")


def _encode_strip(frames_NHWC: NDArray[np.uint8], quality: int) -> bytes:
    count, height, width, _ = frames_NHWC.shape
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(frames_NHWC).reshape(count * height, width, 3)).save(
        buffer,
        "JPEG",
        quality=quality,
        subsampling="4:2:2",
        optimize=False,  # the standard Huffman tables, so that scans of several strips can be joined
        restart_marker_rows=height // _MCU_HEIGHT,
    )
    jpeg = buffer.getvalue()
    scan_start = _segments(jpeg)[_SOS][1]
    offsets = _frame_offsets(np.frombuffer(jpeg, dtype=np.uint8, offset=scan_start))
    assert len(offsets) == count + 1
    payload = _TAG + offsets.tobytes()
    table = struct.pack(">HH", _APP9, len(payload) + 2) + payload
    return jpeg[:_AFTER_JFIF] + table + jpeg[_AFTER_JFIF:]


def _read_scans(strip: Strip, header: StripHeader, frames: NDArray[np.int64]) -> list[bytes]:
    """Return the scans of some frames without the markers that end them."""
    starts = header.offsets[frames].tolist()
    ends = header.offsets[frames + 1].tolist()
    if any(start + MARKER_BYTES >= end for start, end in zip(starts, ends, strict=True)):
        raise DamagedStripError("damaged film strip: its frame table does not rise")
    base = min(starts)
    span = strip.read(header.header_bytes + base, max(ends) - base)
    return [span[start - base : end - base - MARKER_BYTES] for start, end in zip(starts, ends, strict=True)]


def _can_join(one: StripHeader, other: StripHeader) -> bool:
    after_rows = one.rows_position + 2
    return (
        one.frame_height == other.frame_height
        and one.jpeg_header[: one.rows_position] == other.jpeg_header[: other.rows_position]
        and one.jpeg_header[after_rows:] == other.jpeg_header[after_rows:]
    )


def _join(header: StripHeader, scans: list[bytes]) -> bytes:
    rows = len(scans) * header.frame_height
    if rows > MAX_STRIP_ROWS:
        raise ValueError(
            f"{len(scans)} frames of {header.frame_height} rows exceed a JPEG's {MAX_STRIP_ROWS} rows; select fewer"
        )
    position = header.rows_position
    parts = [header.jpeg_header[:position], struct.pack(">H", rows), header.jpeg_header[position + 2 :]]
    for k, scan in enumerate(scans):
        parts += (scan, _RESTARTS[k % 8])
    parts[-1] = _END_OF_IMAGE
    return b"".join(parts)
