"""The track of a file that a player shows, and its frame rate.

FFmpeg's choice (av_find_best_stream) goes by what the container says of its tracks: the one that is enabled, or flagged
as default, comes first; of several alike the one of the highest bit rate. Pictures are no videos, whatever they are
flagged: covers, thumbnails, and the still beside the moving track of a motion photo.
"""

from contextlib import suppress

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from shards.checks import MAX_FPS
from shards.decoding.archive_member import VideoPath, open_container
from shards.decoding.refusal import BrokenClipError

MAX_PIXELS = 8192 * 4320
"""The largest frame, 8K: beyond it a few frames would fill the memory."""
UNKNOWN_FPS = 25.0
"""What FFmpeg takes, too, where there is no frame rate."""

_PICTURES = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
_IMPAIRED = Disposition.hearing_impaired | Disposition.visual_impaired


def choose_track(container: InputContainer, path: VideoPath) -> VideoStream:
    """The video track that a player shows of ``container``, which is the file ``path``.

    Raises:
        BrokenClipError: there is none that can be decoded, or its frames are larger than 8K.
    """
    if container.format.name == "image2" or container.format.name.endswith("_pipe"):
        raise BrokenClipError("a picture, not a video")
    tracks = [track for track in container.streams.video if not track.disposition & _PICTURES]
    if not tracks:
        raise BrokenClipError("no video stream")
    tracks = [track for track in tracks if track.codec_context is not None]
    if not tracks:
        raise BrokenClipError("coded in a way that FFmpeg does not know")
    track = _best(container, tracks, path) if len(tracks) > 1 else tracks[0]
    codec = track.codec_context
    if codec.width * codec.height > MAX_PIXELS:
        raise BrokenClipError(f"frames of {codec.width}x{codec.height} pixels are larger than 8K")
    return track


def _best(container: InputContainer, tracks: list[VideoStream], path: VideoPath) -> VideoStream:
    moving: set[int] = set()
    if container.format.name.startswith("mov") and all(len(track.index_entries) for track in tracks):
        # The header lists every frame, or those of the first fragment.
        moving = {track.index for track in tracks if len(track.index_entries) > 1}
    moving = moving or _moving_tracks(path, {track.index for track in tracks})
    tracks = [track for track in tracks if track.index in moving] or tracks
    best = container.streams.best("video")
    if best in tracks:
        return best
    return max(tracks, key=lambda track: (_rank(track.disposition), track.bit_rate or 0))


def _rank(disposition: Disposition) -> int:
    """As av_find_best_stream ranks tracks."""
    return bool(disposition & Disposition.default) + (not disposition & _IMPAIRED)


def _moving_tracks(path: VideoPath, indexes: set[int]) -> set[int]:
    """Those of the tracks that have more than one frame; the file is read until each of them has shown it."""
    seen: set[int] = set()
    moving: set[int] = set()
    # Where the file is damaged further on, what is before that decides.
    with suppress(av.FFmpegError), open_container(path) as container:
        for packet in container.demux(video=tuple(range(len(container.streams.video)))):
            if not packet.size or packet.stream.index not in indexes:
                continue
            if packet.stream.index in seen:
                moving.add(packet.stream.index)
                if moving == indexes:
                    break
            seen.add(packet.stream.index)
    return moving


def frame_rate(track: VideoStream) -> float:
    """Frames a second by the first of the container's rates that can be believed, else `UNKNOWN_FPS`."""
    for rate in (track.average_rate, track.guessed_rate, track.base_rate):
        if rate and 0 < rate <= MAX_FPS:
            return float(rate)
    return UNKNOWN_FPS
