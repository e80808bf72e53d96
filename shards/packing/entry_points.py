"""Where decoding may begin in the middle of a video, so that many clips of one cost little more than their frames.

A video of several clips is *surveyed* once: it is decoded up to the last of them, and the key frames before their
starts are tried. A key frame is an *entry point* where decoding that begins there gives the very frames that decoding
from the first frame gives, by checksums of as many of them as a decoder keeps to look back at. What a container or a
codec says of its key frames is not believed: they may be open to what lies before, or not be found again by their time.
Where no key frame passes, the clip is decoded from the first frame.

Surveys lie in the folder in which a data set grows, one file a video. They follow from the video and the list of clips
alone, so it does not matter which process makes one.
"""

import hashlib
import json
import os
import zlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np

from shards.decoding.archive_member import VideoPath
from shards.decoding.promises import Delivered
from shards.decoding.refusal import BrokenClipError
from shards.decoding.video import EntryPoint, open_video
from shards.sources.listing import ClipEntry
from shards.system.atomic import atomic_write
from shards.system.checksums import sha256_of

PROVEN_FRAMES = 16
"""Frames from an entry point on that are compared: no codec keeps more than 16 to look back at."""
WORTHWHILE = 2
"""A survey decodes up to the last start of a clip. It is made where the starts, added up, are so many times as far."""


@dataclass(frozen=True)
class Survey:
    """What is known of a video before its clips are decoded."""

    sha256: str
    """Checksum of the file, in hexadecimal."""
    entries: tuple[EntryPoint, ...] = ()
    """In the order of their frames."""

    def entry_for(self, start_frame: int | None) -> EntryPoint | None:
        """Where to begin to decode a clip; None: at the first frame of the video."""
        return max((e for e in self.entries if e.frame <= (start_frame or 0)), key=lambda e: e.frame, default=None)


@dataclass(frozen=True)
class SharedVideo:
    """A video of which several clips are wanted. It travels to the worker processes."""

    path: VideoPath
    """The video."""
    starts: tuple[int, ...]
    """The first frames of its clips, rising."""
    folder: Path
    """Where surveys are kept."""

    def survey(self) -> Survey:
        """The survey of the video, read where it has been made; an OSError or a BrokenClipError where it cannot be."""
        status = self.path.stat()
        state = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, list(self.starts)]
        file = self.folder / f"{hashlib.sha256(os.fsencode(str(self.path))).hexdigest()[:32]}.json"
        kept = _read(file, state)
        if kept is not None:
            return kept
        made = Survey(sha256_of(self.path), tuple(find_entry_points(self.path, self.starts)))
        with suppress(OSError):  # it only saves time, and a full disk is noticed elsewhere
            with atomic_write(file) as output:
                output.write(json.dumps({"state": state, **asdict(made)}).encode())
        return made


def shared_videos(clips: Iterable[ClipEntry], folder: Path) -> Mapping[VideoPath, SharedVideo]:
    """The videos of which there are several clips; ``folder`` is where surveys are kept."""
    starts: dict[VideoPath, list[int]] = {}
    for clip in clips:
        starts.setdefault(clip.path, []).append(clip.start_frame or 0)
    shared = {}
    for path, frames in starts.items():
        if len(frames) > 1:
            worthwhile = sum(frames) > WORTHWHILE * max(frames)
            shared[path] = SharedVideo(path, tuple(sorted(set(frames))) if worthwhile else (), folder)
    return shared


def find_entry_points(path: VideoPath, starts: Sequence[int]) -> list[EntryPoint]:
    """The entry points of a video that clips with these first frames, rising, are to be decoded from.

    Up to a frame that cannot be decoded; those who decode on will find it.

    Raises:
        BrokenClipError: the video cannot be opened, or its first frame not be decoded.
    """
    if not starts or not starts[-1]:
        return []
    try:
        candidates = _candidates(path, starts)
    except ValueError:  # pixels of a format that cannot be compared
        return []
    return [candidate.entry for candidate in candidates if _is_proven(path, candidate)]


def _is_proven(path: VideoPath, candidate: "_Candidate") -> bool:
    """Whether decoding that begins there gives the frames that follow it. The video is opened as a clip's is."""
    try:
        with open_video(path) as video:
            frames = islice(video.decoded(candidate.entry), len(candidate.checksums))
            return [_checksum(frame) for frame in frames] == candidate.checksums
    except BrokenClipError:
        return False


@dataclass
class _Candidate:
    """A key frame that may be an entry point."""

    entry: EntryPoint
    """The entry point."""
    checksums: list[int] = field(default_factory=list)
    """Of the frames from there on, as they are."""


def _candidates(path: VideoPath, starts: Sequence[int]) -> list[_Candidate]:
    """For each start the last key frame up to it, with the checksums of what follows; none where times do not rise."""
    needed: list[_Candidate] = []
    latest: _Candidate | None = None
    growing: list[_Candidate] = []
    waiting = sorted(starts, reverse=True)
    last_pts: int | None = None
    with open_video(path) as video, suppress(BrokenClipError):
        for number, frame in enumerate(video.decoded()):
            if frame.pts is None or (last_pts is not None and frame.pts <= last_pts):
                return []
            last_pts = frame.pts
            entry = video.entry_at(number, frame) if number and waiting else None
            if entry:
                latest = _Candidate(entry)
                growing.append(latest)
            if growing:
                checksum = _checksum(frame)
                for candidate in growing:
                    candidate.checksums.append(checksum)
                growing = [candidate for candidate in growing if len(candidate.checksums) < PROVEN_FRAMES]
            while waiting and waiting[-1] <= number:
                waiting.pop()
                if latest and latest not in needed[-1:]:
                    needed.append(latest)
            if not waiting and not growing:
                break
    return needed


def _checksum(frame: av.VideoFrame) -> int:
    """CRC-32 of the pixels; a ValueError where PyAV has no array for their format."""
    return zlib.crc32(np.ascontiguousarray(frame.to_ndarray()).data)


def _read(file: Path, state: Any) -> Survey | None:
    """The survey of a file; None where there is none, or that of another state of the video."""
    try:
        kept = json.loads(file.read_bytes())
        if kept["state"] != state:
            return None
        return Survey(kept["sha256"], tuple(map(_entry, kept["entries"])))
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _entry(kept: dict[str, Any]) -> EntryPoint:
    return EntryPoint(kept["frame"], kept["pts"], Delivered(**kept["before"]))
