"""Decode a video from its first frame, or from an entry point, into RGB frames of any height.

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

import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain

import av
import numpy as np
from av.container import InputContainer
from numpy.typing import NDArray

from shards.decoding.archive_member import VideoPath, open_container
from shards.decoding.display import Display, Orientation, VideoInfo
from shards.decoding.promises import LEAST_DELIVERED, Delivered, check_end
from shards.decoding.refusal import BrokenClipError, refusal
from shards.decoding.track import MAX_PIXELS, choose_track, frame_rate
from shards.format.sample import Crop

MAX_ASPECT = 10
"""The widest (and, as its inverse, the tallest) display aspect: beyond it the pixel aspect is nonsense."""
MAX_DELAY = 64
"""Packets that a decoder, working in one thread, may take in before it gives the first of their frames."""

_NOT_ENTERED = "does not show the frame that was found in its middle; do not change the videos while packing"
_DECODER_OPTIONS = {"max_pixels": str(MAX_PIXELS)}


@dataclass(frozen=True)
class EntryPoint:
    """A key frame at which decoding may begin in the middle of a video."""

    frame: int
    """Its number."""
    pts: int
    """Its time, in units of the track."""
    before: Delivered
    """What lies before its packet."""


class Frame:
    """One decoded frame, not scaled yet."""

    def __init__(self, decoded: av.VideoFrame, display: Display) -> None:
        self._decoded = decoded
        self._display = display

    def rgb(self, height: int, crop: Crop | None = None) -> NDArray[np.uint8]:
        """Turn, stretch and scale to uint8 (height, info.width_at(height), 3): red, green and blue.

        With ``crop``, a square on the screen, cut it out first and scale it to (height, height, 3).
        """
        return self._display.rgb(self._decoded, height, crop)


class Video:
    """The frames of one video; use it as ``with open_video(path) as video``."""

    def __init__(self, container: InputContainer, path: VideoPath) -> None:
        self._container = container
        self._path = path
        self._track = choose_track(container, path)
        codec = self._track.codec_context
        # One thread a decoder: packing runs one process a core.
        codec.thread_count = 1
        codec.options = dict(_DECODER_OPTIONS)
        if codec.name == "mjpeg":  # unlike other decoders it conceals errors without saying so
            codec.options |= {"err_detect": "explode"}
        self._before_key_packets: dict[int, Delivered] = {}
        self._decoded = self._decode()
        first = next(self._decoded, None)
        if first is None:
            raise BrokenClipError("no frames")
        self._first = first
        orientation = Orientation.of(first)
        height, width = first.height, first.width
        aspect = Fraction(width, height) * (self._track.sample_aspect_ratio or 1)
        if orientation.transposed:
            height, width, aspect = width, height, 1 / aspect
        if not 1 / MAX_ASPECT <= aspect <= MAX_ASPECT:
            raise BrokenClipError(f"shown {float(aspect):.3g} times as wide as high: no sensible shape for a video")
        self.info = VideoInfo(height=height, width=width, aspect=aspect, fps=frame_rate(self._track))
        self._display = Display(self.info, orientation)

    def frames(
        self, start_frame: int | None = None, end_frame: int | None = None, entry: EntryPoint | None = None
    ) -> Iterator[Frame]:
        """Yield the frames ``start_frame <= n < end_frame``, one at a time; may be called once.

        A tenth of the wanted frames may be lacking at the end: annotated ends are often a little off.

        Args:
            start_frame: The first frame; None: that of the video.
            end_frame: The frame after the last; None: the video's end.
            entry: Begin to decode there, of `shards.packing.entry_points` and not after ``start_frame``; None: at the
                first frame of the video.

        Raises:
            BrokenClipError: a frame is damaged, the file was cut short, or it ends well before ``end_frame``.
        """
        start_frame = start_frame or 0
        count = first_frame = entry.frame if entry else 0
        for count, decoded in enumerate(self.decoded(entry), start=first_frame + 1):
            if count > start_frame:
                yield Frame(decoded, self._display)
            if count == end_frame:
                return
        wanted = 1 if end_frame is None else end_frame - start_frame
        if count - start_frame < LEAST_DELIVERED * wanted:
            raise BrokenClipError(f"ends after {count} frames, but {start_frame + wanted} are needed")

    def decoded(self, entry: EntryPoint | None = None) -> Iterator[av.VideoFrame]:
        """Yield the frames as the decoder gives them, from ``entry`` on; may be called once, and not after `frames`."""
        return chain([self._first], self._decoded) if entry is None else self._decode(entry)

    def entry_at(self, number: int, frame: av.VideoFrame) -> EntryPoint | None:
        """The entry point that a frame of `decoded`, the latest, may be; None where it is no key frame."""
        if frame.pts not in self._before_key_packets:
            return None
        return EntryPoint(number, frame.pts, self._before_key_packets[frame.pts])

    def _decode(self, entry: EntryPoint | None = None) -> Iterator[av.VideoFrame]:
        with refusal():
            if entry is None:
                yield from self._decode_packets(0, Delivered(0, 0))
            else:
                self._container.seek(entry.pts, stream=self._track)
                yield from self._decode_packets(entry.frame, entry.before, entry.pts)

    def _decode_packets(
        self, frame_count: int, before: Delivered, first_pts: int | None = None
    ) -> Iterator[av.VideoFrame]:
        packet_count, end, end_byte = before.packet_count, before.end, 0
        # Sound is read along: the promised duration is that of the longest track.
        for packet in self._container.demux():
            if packet.pts is not None:
                end = max(end, packet.pts + (packet.duration or 0))
            if packet.pos is not None:
                end_byte = max(end_byte, packet.pos + packet.size)
            if packet.stream.index != self._track.index:
                continue
            if packet.is_corrupt:
                raise BrokenClipError(f"cut short or damaged after {frame_count} frames")
            if packet.size:
                if packet_count == before.packet_count and first_pts not in (None, packet.pts):
                    raise BrokenClipError(_NOT_ENTERED)
                if packet.is_keyframe and packet.pts is not None:
                    self._before_key_packets[packet.pts] = Delivered(packet_count, end)
                    if len(self._before_key_packets) > MAX_DELAY:
                        del self._before_key_packets[next(iter(self._before_key_packets))]
                packet_count += 1
            elif packet.dts is not None:  # a frame that the recorder dropped; to the decoder it would mean the end
                continue
            for frame in self._track.decode(packet):
                if first_pts is not None:
                    # Frames that are shown before the key frame may look back at what was not decoded.
                    if frame.pts is None or frame.pts < first_pts:
                        continue
                    if frame.pts != first_pts:
                        raise BrokenClipError(_NOT_ENTERED)
                    first_pts = None
                if frame.is_corrupt:  # the decoder painted over what it could not read
                    raise BrokenClipError(f"damaged in frame {frame_count}")
                frame_count += 1
                yield frame
        check_end(self._container, self._track, self._path, Delivered(packet_count, end, end_byte))


@contextmanager
def open_video(path: VideoPath) -> Iterator[Video]:
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
    with ExitStack() as stack:
        with refusal():
            container = stack.enter_context(open_container(path, _DECODER_OPTIONS))
        yield Video(container, path)
