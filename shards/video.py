"""Decode a video once, from its first frame to its last, into frames of the stored height.

Frames are shown as a player shows them: turned by the rotation in the metadata and stretched by the pixel aspect ratio.
The width follows from the height and that display aspect, rounded to an even number.

Arrays: H height, W width, C the channels red, green, blue.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import Interpolation

# A container that promises many more frames than it delivers was cut short. Not every difference means that: AVI counts
# dropped frames, and an MP4 trimmed without re-encoding counts frames outside its edit list.
LEAST_DELIVERED = 0.9


class BrokenClipError(Exception):
    """A video from which the wanted frames cannot all be decoded; the text says why."""


@dataclass(frozen=True)
class VideoInfo:
    """What is known of a video once its first frame is decoded."""

    height: int
    """Height of the decoded frame after rotation, before the pixels are stretched: masks have this size."""
    width: int
    stored_width: int
    fps: float
    """Average frame rate of the video."""


class Video:
    """The frames of one video at ``stored_height``; use it as ``with open_video(path, 128) as video``."""

    def __init__(self, container: av.container.InputContainer, stored_height: int) -> None:
        self._stream = container.streams.video[0]
        # One thread a decoder: packing runs one process a core.
        self._stream.codec_context.thread_count = 1
        self._stored_height = stored_height
        self._decoded = self._decode(container)
        first = next(self._decoded, None)
        if first is None:
            raise BrokenClipError("no frames")
        self._first = first
        aspect = Fraction(first.width, first.height) * (self._stream.sample_aspect_ratio or 1)
        self._turns = round(first.rotation / 90) % 4
        height, width = first.height, first.width
        if self._turns % 2:
            height, width, aspect = width, height, 1 / aspect
        rate = self._stream.average_rate or self._stream.guessed_rate
        if not rate:
            raise BrokenClipError("no frame rate")
        self.info = VideoInfo(height, width, max(2, 2 * round(stored_height * aspect / 2)), float(rate))

    def frames(self, start_frame: int | None = None, end_frame: int | None = None) -> Iterator[np.ndarray]:
        """Yield frames ``start_frame <= n < end_frame`` as uint8 (H, W, C), one at a time; may be called once.

        Raises:
            BrokenClipError: a frame cannot be decoded, the file was cut short, or it ends before ``end_frame``.
        """
        start_frame = start_frame or 0
        count = 0
        for count, frame in enumerate(self._all_frames(), start=1):
            if count > start_frame:
                yield self._to_array(frame)
            if count == end_frame:
                return
        wanted = start_frame + 1 if end_frame is None else end_frame
        if count < wanted:
            raise BrokenClipError(f"ends after {count} frames, but {wanted} are needed")

    def _all_frames(self) -> Iterator[av.VideoFrame]:
        yield self._first
        yield from self._decoded

    def _decode(self, container: av.container.InputContainer) -> Iterator[av.VideoFrame]:
        packet_count = frame_count = 0
        end_s = 0.0
        for packet in container.demux(self._stream):
            if packet.is_corrupt:
                raise BrokenClipError(f"cut short or damaged after {frame_count} frames")
            packet_count += packet.size > 0
            if packet.pts is not None:
                end_s = max(end_s, float((packet.pts + (packet.duration or 0)) * packet.time_base))
            for frame in packet.decode():
                frame_count += 1
                yield frame
        if packet_count < LEAST_DELIVERED * self._stream.frames:
            raise BrokenClipError(f"cut short: {packet_count} of {self._stream.frames} frames are in the file")
        if not self._stream.frames and container.duration:  # Matroska counts no frames
            promised_s = container.duration / av.time_base
            if end_s < LEAST_DELIVERED * promised_s:
                raise BrokenClipError(f"cut short: {end_s:.1f} of {promised_s:.1f} s are in the file")

    def _to_array(self, frame: av.VideoFrame) -> np.ndarray:
        height, width = self._stored_height, self.info.stored_width
        if self._turns % 2:
            height, width = width, height
        # Area averaging does not alias when it shrinks; for enlarging it would repeat pixels.
        interpolation = Interpolation.AREA if frame.height > height else Interpolation.BICUBIC
        scaled = frame.reformat(
            width=width,
            height=height,
            format="rgb24",
            interpolation=interpolation | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT,
        )
        # FFmpeg's display rotation is counter-clockwise, as is numpy's.
        return np.rot90(scaled.to_ndarray(), self._turns)


@contextmanager
def open_video(path: Path, stored_height: int) -> Iterator[Video]:
    """Open ``path`` for decoding at ``stored_height``; every failure to decode inside comes out as BrokenClipError.

    Raises:
        BrokenClipError: the file is empty, no video, or cannot be decoded.
    """
    try:
        # Names and titles inside old AVI files are often in no known encoding.
        with av.open(str(path), metadata_errors="replace") as container:
            if not container.streams.video:
                raise BrokenClipError("no video stream")
            yield Video(container, stored_height)
    except av.FFmpegError as error:
        raise BrokenClipError(f"cannot be decoded ({error.strerror})") from error
