"""What must hold of files that promise more than they hold: all frames that are there are a clip, unless bytes lack."""

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from shards.decoding.refusal import BrokenClipError
from shards.decoding.track import UNKNOWN_FPS
from shards.decoding.video import open_video
from shards.packing.clip_preparation import PackConfig, prepare_clip
from shards.sources.listing import ClipEntry

FRAMES = 30
CODECS = {
    ".avi": "mpeg4", ".mkv": "libx264", ".webm": "libvpx", ".flv": "flv", ".wmv": "wmv2", ".mp4": "libx264",
}  # fmt: skip
ASF_FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")


def frame_count(path: Path) -> int:
    with open_video(path) as video:
        return sum(frame.rgb(32).shape == (32, 42, 3) for frame in video.frames())


@pytest.fixture
def clip(tmp_path, write_video) -> Callable[[str], Path]:
    """Makes a whole video of `FRAMES` frames."""

    def make(suffix: str) -> Path:
        noise = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
        frames_NHWC = np.stack([np.roll(noise, 5 * n, axis=1) for n in range(FRAMES)])
        path = tmp_path / f"clip{suffix}"
        write_video(path, frames_NHWC, codec=CODECS[suffix], pixel_format="yuv420p")
        assert frame_count(path) == FRAMES
        return path

    return make


def patch(path: Path, position: Callable[[bytes], int], layout: str, value: float) -> None:
    data = bytearray(path.read_bytes())
    struct.pack_into(layout, data, position(data), value)
    path.write_bytes(data)


def duration_place(suffix: str) -> tuple[Callable[[bytes], int], str]:
    """Where a header has the duration, and how."""
    return {
        ".mkv": (lambda data: data.index(b"\x44\x89\x88") + 3, ">d"),  # ms
        ".webm": (lambda data: data.index(b"\x44\x89\x88") + 3, ">d"),
        ".flv": (lambda data: data.index(b"duration\0") + 9, ">d"),
        ".wmv": (lambda data: data.index(ASF_FILE_PROPERTIES) + 64, "<Q"),  # 100 ns
    }[suffix]


def size_place(suffix: str) -> tuple[Callable[[bytes], int], str]:
    """Where a header has the size of the file, and how."""
    return {
        ".avi": (lambda data: 4, "<I"),
        ".mkv": (lambda data: data.index(b"\x18\x53\x80\x67") + 4, ">Q"),
        ".webm": (lambda data: data.index(b"\x18\x53\x80\x67") + 4, ">Q"),
        ".flv": (lambda data: data.index(b"filesize\0") + 9, ">d"),
        ".wmv": (lambda data: data.index(ASF_FILE_PROPERTIES) + 40, "<Q"),
    }[suffix]


UNKNOWN_SIZE = {".mkv": 0x01FFFFFFFFFFFFFF, ".webm": 0x01FFFFFFFFFFFFFF, ".flv": 0.0, ".wmv": 0}


@pytest.mark.parametrize("suffix", [".mkv", ".webm", ".flv", ".wmv"])
@pytest.mark.parametrize("duration", [0, 1, 10**8, 10**15])
def test_whatever_a_whole_file_says_of_its_duration_its_frames_are_a_clip(clip, suffix, duration):
    path = clip(suffix)
    patch(path, *duration_place(suffix), duration)
    assert frame_count(path) == FRAMES


@pytest.mark.parametrize("suffix", [".mkv", ".webm", ".flv", ".wmv"])
@pytest.mark.parametrize("duration", [0, 10**12])
def test_a_duration_that_cannot_be_is_no_promise_where_the_size_is_not_known(clip, suffix, duration):
    path = clip(suffix)
    patch(path, *size_place(suffix), UNKNOWN_SIZE[suffix])
    patch(path, *duration_place(suffix), duration * (10_000 if suffix == ".wmv" else 1))
    assert frame_count(path) == FRAMES


@pytest.mark.parametrize("suffix", [".mkv", ".webm", ".flv", ".wmv"])
@pytest.mark.parametrize("is_size_known", [True, False])
def test_what_lacks_against_a_duration_that_can_be_is_broken(clip, suffix, is_size_known):
    path = clip(suffix)
    if not is_size_known:
        patch(path, *size_place(suffix), UNKNOWN_SIZE[suffix])
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(BrokenClipError, match=r"cut short: 0\.\d of 1\.2 s|damaged|cannot be decoded"):
        frame_count(path)


@pytest.mark.parametrize("suffix", CODECS)
def test_a_download_that_was_given_its_size_beforehand_and_not_finished_is_broken(clip, suffix):
    path = clip(suffix)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))
    with pytest.raises(BrokenClipError, match=r"cut short: 0\.\d of 1\.2 s|damaged|cannot be decoded"):
        frame_count(path)


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFFFFF, None])
@pytest.mark.parametrize("count", [0, 1, 0x7FFFFFFF, 1_000_000])
def test_a_count_that_a_recorder_wrote_beforehand_is_no_promise(clip, size, count):
    """In AVI; FFmpeg takes it from the header of the stream, 32 bytes after its name."""
    path = clip(".avi")
    if size is not None:
        patch(path, *size_place(".avi"), size)
    patch(path, lambda data: data.index(b"strh") + 8 + 32, "<I", count)
    assert frame_count(path) == FRAMES


def test_a_count_that_the_size_of_the_file_bears_out_is_a_promise(clip):
    path = clip(".avi")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(BrokenClipError, match=r"cut short: \d+ of 30 frames|damaged"):
        frame_count(path)


def test_a_zero_duration_everywhere_in_an_mp4_is_no_promise(clip):
    path = clip(".mp4")
    for box, offset in ((b"mvhd", 20), (b"tkhd", 24), (b"mdhd", 20)):
        patch(path, lambda data, box=box, offset=offset: data.index(box) + offset, ">I", 0)
    assert frame_count(path) == FRAMES


@pytest.mark.parametrize("delta", [0, 1])
def test_a_frame_rate_that_is_a_time_base_is_not_believed(clip, delta):
    """90,000 frames a second: every frame lasts one unit of MPEG's clock, or none."""
    path = clip(".mp4")
    patch(path, lambda data: data.index(b"mdhd") + 16, ">I", 90_000)
    patch(path, lambda data: data.index(b"stts") + 16, ">I", delta)
    with open_video(path) as video:
        assert video.info.fps == UNKNOWN_FPS if delta else video.info.fps < 100
    assert frame_count(path) == FRAMES
    sample = prepare_clip(ClipEntry("a/b", path, "a"), 0, PackConfig(height=64, codec="h264")).sample
    assert sample.info.frame_count == FRAMES


@pytest.mark.parametrize("fps", [1, 12, 240, 1000])
def test_a_frame_rate_that_a_camera_can_have_is_believed(tmp_path, write_video, quadrants, fps):
    path = write_video(tmp_path / "clip.mp4", quadrants(8), fps=fps, pixel_format="yuv420p")
    with open_video(path) as video:
        assert video.info.fps == pytest.approx(fps, rel=0.01)
