"""Whether a file holds all that its container promises, where the promise can be believed.

A recorder writes counts and durations before it knows them, and some never come back to correct them. So a number is
believed only where the file itself bears it out: an MP4 says of every frame where it lies, and an AVI, a Matroska, an
FLV or an ASF file how many bytes it has. A duration is evidence of missing frames only in a file that is shorter than
it says, that says nothing of its size, or whose end holds no frames: downloads that are given their whole size
beforehand end so when they are not finished.
"""

import struct
from dataclasses import dataclass

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from shards.decoding.archive_member import VideoPath
from shards.decoding.refusal import BrokenClipError

LEAST_DELIVERED = 0.9
"""The least share of what is wanted: annotated ends are often off by a few frames, and promised durations rounded."""
LAST_FRAME_S = 0.05
"""How long a last frame is shown where the container does not say."""
LONGEST_S = 24 * 3600.0
"""The longest duration that is believed of a file that does not say its size."""

_HEAD_BYTES = 1 << 16
_AVI_CHUNK_BYTES = 8
"""The least that a frame takes in an AVI file, even one that the recorder dropped."""
_ASF_FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_MATROSKA_SEGMENT = bytes.fromhex("18538067")


@dataclass(frozen=True)
class Delivered:
    """What has been read of a file."""

    packet_count: int
    """Packets of the video track that are not empty."""
    end: int
    """When the last packet of any track ends, in the time base of the video track."""
    end_byte: int = 0
    """Where the last packet of any track ends in the file; 0 where that is not known."""


def check_end(container: InputContainer, track: VideoStream, path: VideoPath, delivered: Delivered) -> None:
    """Raise BrokenClipError where the container credibly promises more than was delivered at its end."""
    name = container.format.name
    promised = 0
    if name.startswith("mov"):
        # The index is without what an edit list takes out.
        promised = sum(entry.size > 0 for entry in track.index_entries)
    elif name == "avi":
        file_bytes = _said_bytes(name, path)
        if file_bytes and path.stat().st_size < file_bytes and track.frames * _AVI_CHUNK_BYTES <= file_bytes:
            promised = track.frames  # with those that the recorder dropped
    elif container.duration:
        _check_duration(container.duration / av.time_base, track, name, path, delivered)
    if delivered.packet_count < promised:
        raise BrokenClipError(f"cut short: {delivered.packet_count} of {promised} frames are in the file")


def _check_duration(promised_s: float, track: VideoStream, name: str, path: VideoPath, delivered: Delivered) -> None:
    if name not in ("matroska,webm", "flv", "asf"):  # elsewhere FFmpeg takes it from the end of the file, or guesses
        return
    file_bytes = _said_bytes(name, path)
    if file_bytes is None:
        is_believed = promised_s <= LONGEST_S
    else:
        there_bytes = path.stat().st_size
        is_believed = there_bytes < file_bytes or 0 < delivered.end_byte < LEAST_DELIVERED * there_bytes
    end_s = float(delivered.end * (track.time_base or 0))  # the same in all tracks of these containers
    if is_believed and end_s < LEAST_DELIVERED * promised_s - LAST_FRAME_S:
        raise BrokenClipError(f"cut short: {end_s:.1f} of {promised_s:.1f} s are in the file")


def _said_bytes(name: str, path: VideoPath) -> int | None:
    """How many bytes the file has by its own header; None where that is not said, or a placeholder stands for it."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if name == "avi":
        said = 8 + int(_unpack("<I", head, 4))
        return said if 8 < said < 1 << 31 else None
    if name == "asf":
        position = head.find(_ASF_FILE_PROPERTIES)
        return int(_unpack("<Q", head, position + 40)) or None if position >= 0 else None
    if name == "flv":
        position = head.find(b"filesize\0")
        return int(_unpack(">d", head, position + 9)) or None if position >= 0 else None
    before, segment, rest = head.partition(_MATROSKA_SEGMENT)
    if not rest or not rest[0]:
        return None
    position = len(before + segment)
    length = 9 - rest[0].bit_length()  # of the number itself, one more than its leading zeros (RFC 8794)
    bits = 7 * length
    said = int.from_bytes(head[position : position + length]) & ((1 << bits) - 1)
    return None if said == (1 << bits) - 1 else position + length + said


def _unpack(layout: str, data: bytes, position: int) -> int | float:
    """A number in ``data``; 0 where it ends before."""
    end = position + struct.calcsize(layout)
    return struct.unpack_from(layout, data, position)[0] if end <= len(data) else 0
