"""What must hold of files with several video tracks: that is decoded which a player shows."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition

from shards.decoding.refusal import BrokenClipError
from shards.decoding.track import choose_track
from shards.decoding.video import open_video
from shards.packing.clip_preparation import PackConfig, prepare_clip
from shards.packing.entry_points import Survey, find_entry_points
from shards.sources.listing import ClipEntry

DEFAULT, NONE = Disposition.default, Disposition(0)


@dataclass(frozen=True)
class Track:
    """Plain frames of one grey value and size."""

    grey: int
    frames: int = 12
    width: int = 64
    disposition: Disposition = NONE
    codec: str = "mpeg4"


def write_tracks(path: Path, tracks: Sequence[Track]) -> Path:
    with av.open(str(path), "w") as container:
        streams = []
        for track in tracks:
            stream = container.add_stream(track.codec, rate=25)
            stream.width, stream.height = track.width, 48
            stream.pix_fmt = "yuvj420p" if track.codec == "mjpeg" else "yuv420p"
            stream.disposition = track.disposition
            streams.append(stream)
        for number in range(max(track.frames for track in tracks)):
            for track, stream in zip(tracks, streams, strict=True):
                if number < track.frames:
                    picture = np.full((48, track.width, 3), track.grey, np.uint8)
                    frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                    frame.pts = number
                    container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode())
    return path


def shown(path: Path) -> tuple[int, int]:
    """The grey value, to the nearest 50, and the number of the frames."""
    with open_video(path) as video:
        frames = [frame.rgb(48) for frame in video.frames()]
    return int(round(float(np.mean(frames)) / 50) * 50), len(frames)


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".mov"])
@pytest.mark.parametrize("default", [0, 1, 2])
def test_the_track_that_is_flagged_is_shown_wherever_it_stands(tmp_path, suffix, default):
    tracks = [
        Track(50 * (k + 1), 10 + k, 64 + 16 * k, DEFAULT if k == default else NONE) for k in range(3)
    ]  # in an MP4 the others are disabled
    path = write_tracks(tmp_path / f"clip{suffix}", tracks)
    assert shown(path) == (50 * (default + 1), 10 + default)
    sample = prepare_clip(ClipEntry("a/b", path, "a"), 0, PackConfig(height=48)).sample
    assert (sample.info.width, sample.info.frame_count) == (64 + 16 * default, 10 + default)


@pytest.mark.parametrize("flags", list(product((NONE, DEFAULT, DEFAULT | Disposition.visual_impaired), repeat=2)))
def test_of_several_moving_tracks_ffmpeg_s_choice_is_taken(tmp_path, flags):
    tracks = [Track(50 * (k + 1), 10 + k, disposition=flag) for k, flag in enumerate(flags)]
    path = write_tracks(tmp_path / "clip.mkv", tracks)
    with av.open(str(path)) as container:
        assert choose_track(container, path) is container.streams.best("video")


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
@pytest.mark.parametrize("still_first", [True, False])
@pytest.mark.parametrize("flagged", ["still", "moving", "neither"])
def test_of_a_motion_photo_the_moving_track_is_shown(tmp_path, suffix, still_first, flagged):
    still = Track(200, 1, 640, DEFAULT if flagged == "still" else NONE)
    moving = Track(100, 15, 64, DEFAULT if flagged == "moving" else NONE)
    path = write_tracks(tmp_path / f"photo{suffix}", [still, moving] if still_first else [moving, still])
    assert shown(path) == (100, 15)


@pytest.mark.parametrize("kind", [Disposition.attached_pic, Disposition.still_image, Disposition.timed_thumbnails])
def test_pictures_and_thumbnails_are_never_shown(tmp_path, kind):
    """However many frames they have, and whatever else they are flagged."""
    path = write_tracks(tmp_path / "clip.mkv", [Track(50), Track(100, 5)])
    with av.open(str(path)) as container:
        first, second = container.streams.video
        first.disposition, second.disposition = kind | DEFAULT, NONE
        assert choose_track(container, path) is second
        second.disposition = kind
        with pytest.raises(BrokenClipError, match="no video stream"):
            choose_track(container, path)


def test_a_cover_beside_a_video_is_not_shown(tmp_path):
    cover = Track(200, 1, 640, Disposition.attached_pic, "mjpeg")
    path = write_tracks(tmp_path / "clip.mp4", [Track(100), cover])
    assert shown(path) == (100, 12)


def test_a_track_that_ffmpeg_cannot_decode_is_not_shown(tmp_path):
    path = write_tracks(tmp_path / "clip.avi", [Track(50, disposition=DEFAULT), Track(100, 9)])
    path.write_bytes(path.read_bytes().replace(b"FMP4", b"QQ99", 2))  # in the two headers of the first track
    assert shown(path) == (100, 9)


def test_the_header_of_an_mp4_tells_which_track_moves(tmp_path, monkeypatch):
    """So a long one is not read to its end each time."""
    monkeypatch.setattr("shards.decoding.track._moving_tracks", lambda *_: pytest.fail("read"))
    path = write_tracks(tmp_path / "photo.mp4", [Track(200, 1, 640, DEFAULT), Track(100, 15)])
    assert shown(path) == (100, 15)


def test_where_every_track_is_one_frame_there_still_is_a_clip(tmp_path):
    path = write_tracks(tmp_path / "clip.mkv", [Track(50, 1), Track(100, 1, disposition=DEFAULT)])
    assert shown(path) == (100, 1)


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_the_chosen_track_can_be_entered_in_its_middle(tmp_path, suffix):
    path = write_tracks(tmp_path / f"long{suffix}", [Track(50, 100), Track(100, 60, disposition=DEFAULT)])
    survey = Survey("", tuple(find_entry_points(path, (20, 40))))
    assert [entry.frame for entry in survey.entries] == [12, 36]  # MPEG-4 has a key frame every 12 frames
    for start in (20, 40):
        with open_video(path) as video:
            frames = [frame.rgb(48) for frame in video.frames(start, None, survey.entry_for(start))]
        assert len(frames) == 60 - start
        assert abs(np.mean(frames) - 100) < 3
