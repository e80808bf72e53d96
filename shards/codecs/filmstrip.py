"""Film strips: a clip as one baseline JPEG from which any frames can be cut and joined by copying bytes.

The frames are stacked top to bottom, with a restart interval (ITU-T T.81, B.2.1) for every band of 8 rows. Entropy
coding starts afresh at every restart marker, so a band's scan is a run of bytes that means the same wherever it stands.
A reader takes the frames it wants, and of these only the bands its crop touches: what is not copied is not decoded,
and a decoder spends its time on bits. The markers make a strip 0.7 % larger. With 4:2:2 chroma no decoder mixes rows
of neighbouring bands.

An APP9 segment holds the frame table: a tag, a version byte, then N + 1 little-endian unsigned 32-bit offsets. Frame
k's scan, with the marker that ends it, is the bytes ``offset[k] : offset[k + 1]`` counted from the end of the header.
Where its bands begin is seen from the markers.

Shape suffixes: N frames of a clip, T selected frames, H rows, W columns, C = 3 colours (RGB), K bands of a selection.
"""

import io
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shards.codecs.parts import DamagedPartError, locate_frames

MAX_STRIP_ROWS = 65500  # libjpeg's JPEG_MAX_DIMENSION; the format itself ends at 65,535
FRAME_HEIGHT_MULTIPLE = 16
BAND_ROWS = 8
"""Rows of a band: of one minimum coded unit at 4:2:2."""

_TAG = b"FILMSTRIP\x00\x02"
_SOF0, _DRI, _SOS, _APP9 = 0xFFC0, 0xFFDD, 0xFFDA, 0xFFE9
_END_OF_IMAGE = b"\xff\xd9"
_RESTARTS, _END = np.arange(0xD0, 0xD8, dtype=np.uint8), 0xD9  # second bytes of markers
_MARKER_BYTES = 2
_MCU_WIDTH = 16  # 4:2:2
_AFTER_JFIF = 20  # SOI and the JFIF segment, which must come first


class DamagedStripError(DamagedPartError):
    """The bytes are not a whole film strip; the text says why."""


@dataclass(frozen=True, eq=False)
class StripHeader:
    """What the bytes before a strip's scan say."""

    frame_count: int
    """N."""
    frame_height: int
    """Rows of one frame."""
    width: int
    """Columns."""
    offsets: NDArray[np.uint32]
    """uint32 (N + 1,), the frame table."""
    header_bytes: int
    """Where the scan begins."""
    jpeg_header: bytes
    """The header without the frame table, ready for a JPEG of another number of frames."""
    rows_position: int
    """Where ``jpeg_header`` holds its number of rows."""

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
        if frame_height % BAND_ROWS or restart_interval != _mcus_of_band(width):
            raise DamagedStripError(f"damaged film strip: restart interval {restart_interval} is not one band")
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
    """A strip whose bytes are fetched as needed."""

    frame_count: int
    """N."""
    header_bytes: int
    """Where the scan begins."""
    read: Callable[[int, int], bytes]
    """``read(start, size)`` returns exactly that part of the strip."""

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
    if height > max_rows or width > MAX_STRIP_ROWS:
        raise ValueError(f"a frame of {width}x{height} does not fit into one strip of {max_rows} rows")
    frames_per_strip = max_rows // height
    return [
        _encode_strip(frames_NHWC[start : start + frames_per_strip], quality)
        for start in range(0, len(frames_NHWC), frames_per_strip)
    ]


def select_frames(strips: Sequence[Strip], frame_indices: NDArray[np.int64], rows: range | None = None) -> bytes:
    """Join frames of one clip, in any order and with any repetition, into one JPEG of T times the selected rows.

    Each strip that holds wanted frames is asked for its header and for one span of bytes, from the first wanted frame
    to the last.

    Args:
        strips: The strips of the clip, in order.
        frame_indices: (T,), counted from the first frame of the first strip.
        rows: Which rows of every frame, all by default; both ends are multiples of `BAND_ROWS`.

    Raises:
        ValueError: no index, an index outside the clip, rows that are no bands, or more than a JPEG may have.
        DamagedStripError: a strip's header, frame table or markers are damaged, or the strips are not of one clip.
    """
    strip_numbers, frames = locate_frames([strip.frame_count for strip in strips], frame_indices)
    joined: StripHeader | None = None
    spans: list[_Span] = []
    span_frames = np.empty_like(frames)
    for number in sorted(set(strip_numbers.tolist())):
        strip = strips[number]
        header = StripHeader.parse(strip.read(0, strip.header_bytes))
        if joined is not None and not _can_join(header, joined):
            raise DamagedStripError("the strips of one clip differ in frame size or coding tables")
        joined = header
        places = strip_numbers == number
        first, last = int(frames[places].min()), int(frames[places].max())
        span_frames[places] = frames[places] + sum(len(span.band_starts) for span in spans) - first
        spans.append(_read_span(strip, header, first, last))
    assert joined is not None
    all_rows = range(joined.frame_height)
    return _join(joined, _concatenate(spans), span_frames, all_rows if rows is None else rows)


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
    offsets = _frame_offsets(scan, header.frame_height)
    if not np.array_equal(header.offsets, offsets) or not data.endswith(_END_OF_IMAGE):
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


def _mcus_of_band(width: int) -> int:
    """Minimum coded units in one band."""
    return -(-width // _MCU_WIDTH)


def _find_markers(scan: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Where the markers of a scan are; 0xFF is a marker unless 0x00 follows."""
    candidates = np.flatnonzero(scan[:-1] == 0xFF)
    return candidates[scan[candidates + 1] != 0]


def _frame_offsets(scan: NDArray[np.uint8], frame_height: int) -> NDArray[np.uint32]:
    """Where each frame begins in a scan, and where the last one, or a part of one, ends."""
    bands = frame_height // BAND_ROWS
    ends = _find_markers(scan) + _MARKER_BYTES
    return np.concatenate([[0], ends[bands - 1 :: bands], ends[len(ends) // bands * bands :]]).astype("<u4")


def _encode_strip(frames_NHWC: NDArray[np.uint8], quality: int) -> bytes:
    count, height, width, _ = frames_NHWC.shape
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(frames_NHWC).reshape(count * height, width, 3)).save(
        buffer,
        "JPEG",
        quality=quality,
        subsampling="4:2:2",
        optimize=False,  # the standard Huffman tables, so that scans of several strips can be joined
        restart_marker_rows=1,
    )
    jpeg = buffer.getvalue()
    scan_start = _segments(jpeg)[_SOS][1]
    offsets = _frame_offsets(np.frombuffer(jpeg, dtype=np.uint8, offset=scan_start), height)
    assert len(offsets) == count + 1
    payload = _TAG + offsets.tobytes()
    table = struct.pack(">HH", _APP9, len(payload) + 2) + payload
    return jpeg[:_AFTER_JFIF] + table + jpeg[_AFTER_JFIF:]


class _Span(NamedTuple):
    """The scans of consecutive frames of F frames and b bands each, and where in them every band begins and ends."""

    bytes: NDArray[np.uint8]
    """The scans, one after another."""
    band_starts: NDArray[np.int64]
    """(F, b)."""
    band_ends: NDArray[np.int64]
    """(F, b), where the marker that ends the band begins."""


def _read_span(strip: Strip, header: StripHeader, first: int, last: int) -> _Span:
    """Read the scans from one frame to another, both included."""
    start, end = int(header.offsets[first]), int(header.offsets[last + 1])
    if start >= end:
        raise DamagedStripError("damaged film strip: its frame table does not rise")
    scan = np.frombuffer(strip.read(header.header_bytes + start, end - start), np.uint8)
    shape = last + 1 - first, header.frame_height // BAND_ROWS
    band_ends = _find_markers(scan)
    if len(band_ends) != shape[0] * shape[1] or band_ends[-1] + _MARKER_BYTES != len(scan):
        raise DamagedStripError("damaged film strip: its restart markers do not match its frame table")
    band_starts = np.empty_like(band_ends)
    band_starts[0] = 0
    band_starts[1:] = band_ends[:-1] + _MARKER_BYTES
    return _Span(scan, band_starts.reshape(shape), band_ends.reshape(shape))


def _concatenate(spans: list[_Span]) -> _Span:
    """Make one span of several."""
    if len(spans) == 1:
        return spans[0]
    bases = np.cumsum([0] + [len(span.bytes) for span in spans[:-1]])
    return _Span(
        np.concatenate([span.bytes for span in spans]),
        np.concatenate([span.band_starts + base for span, base in zip(spans, bases, strict=True)]),
        np.concatenate([span.band_ends + base for span, base in zip(spans, bases, strict=True)]),
    )


def _can_join(one: StripHeader, other: StripHeader) -> bool:
    after_rows = one.rows_position + 2
    return (
        one.frame_height == other.frame_height
        and one.jpeg_header[: one.rows_position] == other.jpeg_header[: other.rows_position]
        and one.jpeg_header[after_rows:] == other.jpeg_header[after_rows:]
    )


def _join(header: StripHeader, span: _Span, frames: NDArray[np.int64], rows: range) -> bytes:
    """Copy ``rows`` of ``frames``, counted from the first of the span, into one JPEG, and renumber its markers."""
    if not (0 <= rows.start < rows.stop <= header.frame_height) or rows.start % BAND_ROWS or rows.stop % BAND_ROWS:
        raise ValueError(
            f"rows must begin and end at multiples of {BAND_ROWS} within {header.frame_height} and not be empty,"
            f" got {rows}"
        )
    joined_rows = len(frames) * len(rows)
    if joined_rows > MAX_STRIP_ROWS:
        raise ValueError(
            f"{len(frames)} frames of {len(rows)} rows exceed a JPEG's {MAX_STRIP_ROWS} rows; select fewer"
        )
    bands = slice(rows.start // BAND_ROWS, rows.stop // BAND_ROWS)
    ends_TK = span.band_ends[frames, bands]
    starts_T = span.band_starts[frames, bands.start]
    stops_T = ends_TK[:, -1] + _MARKER_BYTES
    scan = np.concatenate(
        [span.bytes[start:stop] for start, stop in zip(starts_T.tolist(), stops_T.tolist(), strict=True)]
    )
    moved_T = np.cumsum(stops_T - starts_T) - stops_T
    markers = (ends_TK + moved_T[:, None]).ravel() + 1
    scan[markers] = _RESTARTS[np.arange(len(markers)) % 8]
    scan[markers[-1]] = _END
    position = header.rows_position
    size = struct.pack(">H", joined_rows)
    return b"".join([header.jpeg_header[:position], size, header.jpeg_header[position + 2 :], scan.data])
