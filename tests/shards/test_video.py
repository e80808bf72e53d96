import math
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from shards.video import BrokenClipError, open_video

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def decode(path: Path, height: int = 64, start=None, end=None) -> np.ndarray:
    with open_video(path, height) as video:
        return np.stack(list(video.frames(start, end)))


def corners(frame_HWC: np.ndarray) -> list[tuple[int, ...]]:
    """Colours near the four corners, clockwise from the top left, rounded to pure ones."""
    height, width = frame_HWC.shape[:2]
    y, x = height // 4, width // 4
    picks = [frame_HWC[y, x], frame_HWC[y, -x], frame_HWC[-y, -x], frame_HWC[-y, x]]
    return [tuple((np.round(pick / 255) * 255).astype(int).tolist()) for pick in picks]


def set_rotation(path: Path, counter_clockwise: int) -> None:
    """Patch the display matrix of the video track (ISO 14496-12, tkhd)."""
    cosine, sine = round(math.cos(math.radians(counter_clockwise))), round(math.sin(math.radians(counter_clockwise)))
    one, unit = 1 << 16, 1 << 30
    matrix = np.array([cosine * one, -sine * one, 0, sine * one, cosine * one, 0, 0, 0, unit], dtype=">i4")
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 4 + 40
    data[start : start + 36] = matrix.tobytes()
    path.write_bytes(data)


def test_frames_match_an_independent_decoder_and_scaler(tmp_path, write_video):
    ramp = np.linspace(0, 255, 320, dtype=np.uint8)
    frames_NHWC = np.stack([np.broadcast_to(np.roll(ramp, 9 * n)[None, :, None], (240, 320, 3)) for n in range(5)])
    path = write_video(tmp_path / "ramp.mp4", np.ascontiguousarray(frames_NHWC))
    decoded = decode(path, 128)
    assert decoded.shape == (5, 128, 170, 3)
    assert decoded.dtype == np.uint8
    for frame, original in zip(decoded, frames_NHWC, strict=True):
        reference = np.asarray(Image.fromarray(original).resize((170, 128), Image.Resampling.BOX))
        assert np.abs(frame.astype(int) - reference).mean() < 4


@pytest.mark.parametrize(
    ("rotation", "expected"),
    [
        (0, [RED, GREEN, WHITE, BLUE]),
        (90, [GREEN, WHITE, BLUE, RED]),
        (180, [WHITE, BLUE, RED, GREEN]),
        (-90, [BLUE, RED, GREEN, WHITE]),
    ],
)
def test_rotation_in_the_metadata_is_applied(tmp_path, write_video, quadrants, rotation, expected):
    path = write_video(tmp_path / "turned.mp4", quadrants(height=96, width=128))
    set_rotation(path, rotation)
    with open_video(path, 64) as video:
        frame = next(video.frames())
        info = video.info
    assert corners(frame) == expected
    upright = rotation % 180 == 0
    assert (info.height, info.width) == ((96, 128) if upright else (128, 96))
    assert frame.shape == ((64, 86, 3) if upright else (64, 48, 3))
    with av.open(str(path)) as container:
        assert next(container.decode(video=0)).rotation % 360 == rotation % 360


@pytest.mark.parametrize(("pixel_aspect", "width"), [(Fraction(1), 86), (Fraction(4, 3), 114), (Fraction(8, 9), 76)])
def test_width_follows_the_display_aspect(tmp_path, write_video, quadrants, pixel_aspect, width):
    path = write_video(tmp_path / "wide.mp4", quadrants(height=96, width=128), pixel_aspect=pixel_aspect)
    assert decode(path).shape == (6, 64, width, 3)


def test_odd_sizes_and_enlarging(tmp_path, write_video, quadrants):
    path = write_video(tmp_path / "odd.mp4", quadrants(height=37, width=51))
    decoded = decode(path)
    assert decoded.shape == (6, 64, 88, 3)
    assert corners(decoded[0]) == [RED, GREEN, WHITE, BLUE]


def test_grey_video_becomes_rgb(tmp_path, write_video):
    shades = np.arange(4, dtype=np.uint8) * 60 + 20
    frames_NHWC = np.broadcast_to(shades[:, None, None, None], (4, 48, 64, 3))
    path = write_video(tmp_path / "grey.mkv", np.ascontiguousarray(frames_NHWC), codec="ffv1", pixel_format="gray")
    decoded = decode(path, 48)
    assert np.abs(decoded.astype(int) - frames_NHWC).max() <= 2


def test_a_range_is_cut_at_both_ends_and_must_exist(tmp_path, write_video):
    shades = np.arange(10, dtype=np.uint8) * 20 + 20
    frames_NHWC = np.broadcast_to(shades[:, None, None, None], (10, 32, 32, 3))
    path = write_video(tmp_path / "shades.mp4", np.ascontiguousarray(frames_NHWC))
    whole = decode(path, 32)
    assert np.array_equal(decode(path, 32, 3, 7), whole[3:7])
    assert np.array_equal(decode(path, 32, 8), whole[8:])
    assert np.array_equal(decode(path, 32, None, 10), whole)
    with pytest.raises(BrokenClipError, match="ends after 10 frames, but 11 are needed"):
        decode(path, 32, 3, 11)
    with pytest.raises(BrokenClipError, match="ends after 10 frames, but 11 are needed"):
        decode(path, 32, 10)


def test_frames_come_one_at_a_time(tmp_path, write_video, quadrants):
    path = write_video(tmp_path / "long.mp4", quadrants(count=50))
    with open_video(path, 64) as video:
        assert next(video.frames()).shape == (64, 86, 3)


@pytest.mark.parametrize("content", [b"", b"\0" * 5000, b"<html>404 Not Found</html>" * 40])
def test_what_is_no_video_is_broken(tmp_path, content):
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    with pytest.raises(BrokenClipError):
        decode(path)


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".mkv"])
@pytest.mark.parametrize("kept", [0.3, 0.5, 0.8])
def test_a_video_cut_short_is_broken(tmp_path, write_video, suffix, kept):
    noise = np.random.default_rng(0).integers(0, 256, (30, 64, 64, 3), dtype=np.uint8)
    path = write_video(tmp_path / f"clip{suffix}", noise)
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data))])
    with pytest.raises(BrokenClipError):
        decode(path)


def test_sound_without_a_picture_is_broken(tmp_path):
    path = tmp_path / "sound.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.rate = 8000
        container.mux(stream.encode(frame))
    with pytest.raises(BrokenClipError, match="no video stream"):
        decode(path)


def test_every_original_file_of_the_benchmarks_decodes_in_full(real_data):
    paths = sorted(path for path in (real_data / "real_clips").rglob("*") if path.is_file())
    assert len(paths) == 25
    for path in paths:
        with av.open(str(path), metadata_errors="replace") as container:
            expected = sum(1 for _ in container.decode(video=0))
        with open_video(path, 128) as video:
            shapes = [frame.shape for frame in video.frames()]
        assert set(shapes) == {(128, video.info.stored_width, 3)}
        assert len(shapes) == expected, path
