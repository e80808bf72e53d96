"""What must hold of files from which the wanted frames cannot be had: each is refused, with a reason."""

import os
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from shards.decoding.refusal import BrokenClipError
from shards.decoding.video import open_video


def decode(path: Path) -> np.ndarray:
    with open_video(path) as video:
        return np.stack([frame.rgb(64) for frame in video.frames()])


@pytest.fixture(autouse=True)
def no_noise(capfd):
    """Whatever is wrong with a file, nothing but the exception says so."""
    yield
    assert capfd.readouterr() == ("", "")


def moving_noise(count: int = 30) -> np.ndarray:
    """Frames with enough detail that most bytes of a video matter."""
    noise = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    return np.stack([np.roll(noise, 5 * n, axis=1) for n in range(count)])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty file"),
        (b"\0" * 5000, "cannot be decoded"),
        (b"<html>404 Not Found</html>" * 40, "cannot be decoded"),
        (b"1\n00:00:01,000 --> 00:00:02,000\nHello\n\n" * 40, "no video stream"),
        (
            b"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n",
            "cannot be decoded",
        ),
    ],
)
def test_what_is_no_video_is_refused(tmp_path, content, reason):
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    with pytest.raises(BrokenClipError, match=reason):
        decode(path)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp"])
def test_a_picture_is_refused_whatever_its_name(tmp_path, suffix):
    Image.new("RGB", (64, 48)).save(tmp_path / f"picture{suffix}")
    with pytest.raises(BrokenClipError, match="a picture"):
        decode(tmp_path / f"picture{suffix}")
    (tmp_path / f"picture{suffix}").rename(tmp_path / "clip.mp4")
    with pytest.raises(BrokenClipError, match="a picture"):
        decode(tmp_path / "clip.mp4")


def test_what_is_no_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "device.mp4").symlink_to("/dev/zero")
    (tmp_path / "loop.mp4").symlink_to("loop.mp4")
    for name in ("pipe.mp4", "folder.mp4", "device.mp4"):
        with pytest.raises(BrokenClipError, match="not a regular file"):
            decode(tmp_path / name)
    for name in ("loop.mp4", "absent.mp4"):
        with pytest.raises(BrokenClipError, match="cannot be read"):
            decode(tmp_path / name)


def test_errors_that_are_not_of_the_video_stay_what_they_are(tmp_path, write_video, quadrants):
    path = write_video(tmp_path / "clip.mp4", quadrants())
    with pytest.raises(av.FFmpegError), open_video(path):
        av.open(str(tmp_path / "absent.mp4"))


def test_sound_without_a_picture_is_refused(tmp_path):
    path = tmp_path / "sound.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.rate = 8000
        container.mux(stream.encode(frame))
    with pytest.raises(BrokenClipError, match="no video stream"):
        decode(path)


def test_a_cover_picture_is_no_video(tmp_path, write_video, quadrants):
    path = write_video(
        tmp_path / "cover.mp4",
        quadrants(count=1),
        codec="mjpeg",
        pixel_format="yuvj420p",
        prepare=lambda stream: setattr(stream, "disposition", av.stream.Disposition.attached_pic),
    )
    with pytest.raises(BrokenClipError, match="no video stream"):
        decode(path)


def test_an_unknown_codec_is_refused(tmp_path, write_video, quadrants):
    path = write_video(tmp_path / "future.avi", quadrants(), codec="mpeg4", pixel_format="yuv420p")
    path.write_bytes(path.read_bytes().replace(b"FMP4", b"QQ99"))
    with pytest.raises(BrokenClipError, match="FFmpeg does not know"):
        decode(path)


def test_frames_beyond_8k_are_refused(tmp_path, write_video):
    frame = av.VideoFrame(8192, 4336, "yuv420p")
    path = write_video(tmp_path / "huge.mp4", [frame], pixel_format="yuv420p")
    with pytest.raises(BrokenClipError, match="frames of 8192x4336 pixels are larger than 8K"):
        decode(path)


def test_frames_that_grow_beyond_8k_are_not_decoded(tmp_path, write_jpegs):
    sizes = ((128, 96), (8192, 4336))
    path = write_jpegs(tmp_path / "growing.avi", [Image.new("RGB", size) for size in sizes])
    with pytest.raises(BrokenClipError, match="cannot be decoded"):
        decode(path)


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [
        (".mp4", "libx264"),
        (".avi", "mpeg4"),
        (".mkv", "libx264"),
        (".webm", "libvpx"),
        (".flv", "flv"),
        (".wmv", "wmv2"),
    ],
)
@pytest.mark.parametrize("kept", [0.02, 0.3, 0.5, 0.8])
def test_a_video_cut_short_is_refused(tmp_path, write_video, suffix, codec, kept):
    path = write_video(tmp_path / f"clip{suffix}", moving_noise(), codec=codec, pixel_format="yuv420p")
    assert len(decode(path)) == 30
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data))])
    with pytest.raises(BrokenClipError, match=r"cut short|damaged|cannot be decoded|no frames|no video"):
        decode(path)


@pytest.mark.parametrize(("suffix", "codec"), [(".mp4", "libx264"), (".avi", "mpeg4")])
def test_even_the_last_frame_is_missed(tmp_path, write_video, suffix, codec):
    path = write_video(tmp_path / f"clip{suffix}", moving_noise(), codec=codec, pixel_format="yuv420p")
    with av.open(str(path)) as container:
        last = [packet.pos for packet in container.demux(video=0) if packet.size][-1]
    path.write_bytes(path.read_bytes()[: last - 8])  # an AVI's frames have 8 bytes of header
    with pytest.raises(BrokenClipError, match="cut short"):
        decode(path)


def test_a_video_whose_table_of_contents_was_not_written_is_refused(tmp_path, write_video, quadrants):
    """An MP4 has it at the end unless told otherwise: a recorder that lost its power leaves none."""
    path = write_video(tmp_path / "clip.mov", quadrants())
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"moov") - 4])
    with pytest.raises(BrokenClipError, match="cannot be decoded"):
        decode(path)


@pytest.mark.parametrize(
    ("suffix", "codec", "pixel_format"),
    [
        (".mp4", "libx264", "yuv420p"),
        (".avi", "mpeg4", "yuv420p"),
        (".mpg", "mpeg2video", "yuv420p"),
        (".avi", "mjpeg", "yuvj420p"),
    ],
)
def test_bytes_changed_inside_a_frame_are_noticed(tmp_path, write_video, suffix, codec, pixel_format):
    """Decoders paint over what they cannot read; such frames must not pass as good ones."""
    path = write_video(tmp_path / f"clip{suffix}", moving_noise(8), codec=codec, pixel_format=pixel_format)
    intact, data = decode(path), path.read_bytes()
    random = np.random.default_rng(0)
    for number in range(10):
        position = int(random.integers(len(data) // 5, len(data) * 4 // 5))
        changed = data[:position] + random.bytes(60) + data[position + 60 :]
        broken = tmp_path / f"{number}{suffix}"
        broken.write_bytes(changed)
        try:
            decoded = decode(broken)
        except BrokenClipError:
            continue
        assert decoded.shape == intact.shape
        assert np.abs(decoded.astype(int) - intact).mean() < 1, "damage that shows was not noticed"


def test_damage_after_the_wanted_frames_does_not_matter(tmp_path, write_video):
    path = write_video(tmp_path / "clip.mp4", moving_noise(), pixel_format="yuv420p")
    data = bytearray(path.read_bytes())
    data[-3000:-2000] = bytes(1000)
    path.write_bytes(data)
    with open_video(path) as video:
        assert len([frame.rgb(64) for frame in video.frames(5, 20)]) == 15
    with pytest.raises(BrokenClipError, match=r"damaged in frame|cannot be decoded"):
        decode(path)


def test_sound_that_outlasts_the_picture_is_no_damage(tmp_path):
    path = tmp_path / "long_sound.mkv"
    with av.open(str(path), "w") as container:
        picture, sound = container.add_stream("mpeg4", rate=25), container.add_stream("pcm_s16le", rate=8000)
        picture.height, picture.width, picture.pix_fmt = 48, 64, "yuv420p"
        for number in range(10):
            frame = av.VideoFrame(64, 48, "yuv420p")
            frame.pts = number
            container.mux(picture.encode(frame))
        for number in range(20):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
            frame.pts, frame.rate = 800 * number, 8000
            container.mux(sound.encode(frame))
        container.mux(picture.encode())
        container.mux(sound.encode())
    assert len(decode(path)) == 10
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(BrokenClipError, match="cut short"):
        decode(path)
