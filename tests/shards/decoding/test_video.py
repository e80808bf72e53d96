"""What must hold of videos that can be shown: their shape, their colours and their frame numbers."""

import shutil
import struct
import subprocess
from collections.abc import Sequence
from fractions import Fraction
from itertools import product
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from shards.decoding.display import VideoInfo
from shards.decoding.refusal import BrokenClipError
from shards.decoding.video import open_video

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
LOSSLESS = {"qp": "0", "preset": "ultrafast"}


def decode(path: Path, height: int = 64, start=None, end=None) -> np.ndarray:
    with open_video(path) as video:
        return np.stack([frame.rgb(height) for frame in video.frames(start, end)])


def corners(frame_HWC: np.ndarray) -> list[tuple[int, ...]]:
    """Colours near the four corners, clockwise from the top left, rounded to pure ones."""
    height, width = frame_HWC.shape[:2]
    y, x = height // 4, width // 4
    picks = [frame_HWC[y, x], frame_HWC[y, -x], frame_HWC[-y, -x], frame_HWC[-y, x]]
    return [tuple((np.round(pick / 255) * 255).astype(int).tolist()) for pick in picks]


def shades(count: int, height: int = 48, width: int = 64) -> list[np.ndarray]:
    """Frames that can be told apart: frame n is grey with the value 20 + 8 n."""
    return [np.full((height, width, 3), 20 + 8 * n, np.uint8) for n in range(count)]


def numbers(frames_NHWC: np.ndarray) -> list[int]:
    """Which of the `shades` these are."""
    return ((frames_NHWC.mean(axis=(1, 2, 3)) - 20) / 8).round().astype(int).tolist()


def plain_frame(planes: Sequence[int], pixel_format: str, height: int = 48, width: int = 64) -> av.VideoFrame:
    """A frame of one colour, by the values of its planes."""
    frame = av.VideoFrame(width, height, pixel_format)
    for plane, value in zip(frame.planes, planes, strict=True):
        np.frombuffer(plane, np.uint16 if pixel_format.endswith("le") else np.uint8)[:] = value
    return frame


def ffmpeg_frames(path: Path, filters: str, height: int, width: int) -> np.ndarray:
    """What the ffmpeg program makes of a video; the test is skipped where there is none."""
    if shutil.which("ffmpeg") is None:
        pytest.skip("there is no ffmpeg program")
    command = ["ffmpeg", "-v", "error", "-i", path, "-vf", filters, "-fps_mode", "passthrough"]
    output = subprocess.run([*command, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"], check=True, capture_output=True)
    return np.frombuffer(output.stdout, np.uint8).reshape(-1, height, width, 3)


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


@pytest.mark.parametrize(("height", "width"), [(128, 170), (240, 320), (300, 400)])
def test_real_frames_match_those_of_the_ffmpeg_program(real_data, height, width):
    path = min((real_data / "jhmdb" / "videos" / "wave").glob("*.mp4"))
    kind = "area" if height < 240 else "bicubic"
    flags = f"flags={kind}+accurate_rnd+full_chroma_int:in_h_chr_pos=0:in_v_chr_pos=128"  # its chroma, from the left
    filters = f"scale={width}:{height}:{flags},format=rgb24"
    expected = ffmpeg_frames(path, filters, height, width)
    assert np.abs(decode(path, height).astype(int) - expected).max() <= 1


def test_a_frame_can_be_asked_at_several_heights(tmp_path, write_video, quadrants):
    path = write_video(tmp_path / "clip.mp4", quadrants(count=3))
    with open_video(path) as video:
        pairs = [(frame.rgb(64), frame.rgb(96), frame.rgb(64)) for frame in video.frames()]
    for small, full, again in pairs:
        assert (small.shape, full.shape) == ((64, 86, 3), (96, 128, 3))
        assert np.array_equal(small, again)
        assert small.flags.c_contiguous


@given(st.integers(16, 4320), st.integers(16, 8192), st.integers(16, 1024))
def test_the_stored_width_is_even_and_within_a_pixel_of_the_aspect(height, width, stored_height):
    info = VideoInfo(height=height, width=width, aspect=Fraction(width, height), fps=25.0)
    stored_width = info.width_at(stored_height)
    assert stored_width % 2 == 0
    assert stored_width == 2 or abs(stored_width - stored_height * width / height) <= 1


@pytest.mark.parametrize(
    ("counter_clockwise", "left_right", "top_bottom"), [*product((0, 90, 180, 270), (False, True), (False, True))]
)
def test_the_display_matrix_turns_and_mirrors(
    tmp_path, write_video, quadrants, counter_clockwise, left_right, top_bottom
):
    upright = np.rot90(quadrants(height=96, width=128)[0], counter_clockwise // 90)
    upright = np.fliplr(upright) if left_right else upright
    upright = np.flipud(upright) if top_bottom else upright
    path = write_video(
        tmp_path / "turned.mp4",
        quadrants(height=96, width=128),
        prepare=lambda stream: stream.set_display_rotation(counter_clockwise, hflip=left_right, vflip=top_bottom),
    )
    with open_video(path) as video:
        frame = next(video.frames()).rgb(64)
        assert (video.info.height, video.info.width) == upright.shape[:2]
    assert corners(frame) == corners(upright)
    assert frame.shape == ((64, 86, 3) if counter_clockwise % 180 == 0 else (64, 48, 3))
    assert frame.flags.c_contiguous


def test_the_ffmpeg_program_turns_and_mirrors_alike(tmp_path, write_video, quadrants):
    path = write_video(
        tmp_path / "turned.mp4",
        quadrants(height=96, width=128),
        prepare=lambda stream: stream.set_display_rotation(90, hflip=True),
    )
    assert corners(ffmpeg_frames(path, "null", 128, 96)[0]) == corners(decode(path)[0])


def test_the_orientation_of_camera_pictures_is_applied(tmp_path, write_jpegs, quadrants):
    """Exif in the frames of Motion JPEG, as some cameras write it."""
    frame = quadrants(height=96, width=128)[0]
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by 90 degrees
    path = write_jpegs(tmp_path / "camera.avi", [Image.fromarray(frame)] * 3, exif=exif)
    assert corners(decode(path)[0]) == corners(np.rot90(frame, -1))


def test_a_changing_resolution_keeps_the_shape_of_the_first_frame(tmp_path, write_jpegs, quadrants):
    sizes = ((96, 128), (48, 64), (192, 128))
    images = [Image.fromarray(quadrants(height=height, width=width)[0]) for height, width in sizes]
    decoded = decode(write_jpegs(tmp_path / "changing.avi", images))
    assert decoded.shape == (3, 64, 86, 3)
    assert {tuple(corners(frame)) for frame in decoded} == {(RED, GREEN, WHITE, BLUE)}


@pytest.mark.parametrize("suffix", [".mp4", ".h264", ".mkv"])  # in stream and container, stream alone, container alone
@pytest.mark.parametrize(
    ("pixel_aspect", "width"), [(Fraction(0), 86), (Fraction(1), 86), (Fraction(4, 3), 114), (Fraction(8, 9), 76)]
)
def test_width_follows_the_display_aspect(tmp_path, write_video, quadrants, pixel_aspect, width, suffix):
    codec, pixel_format = ("libx264", "yuv420p") if suffix != ".mkv" else ("mjpeg", "yuvj420p")
    frames_NHWC = quadrants(height=96, width=128)
    path = write_video(
        tmp_path / f"wide{suffix}", frames_NHWC, codec=codec, pixel_format=pixel_format, pixel_aspect=pixel_aspect
    )
    assert decode(path).shape == (6, 64, width, 3)


@pytest.mark.parametrize(
    ("height", "width", "pixel_aspect"),
    [(96, 128, Fraction(1000)), (96, 128, Fraction(1, 1000)), (16, 512, Fraction(1)), (512, 16, Fraction(1))],
)
def test_an_absurd_shape_is_refused(tmp_path, write_video, quadrants, height, width, pixel_aspect):
    path = write_video(tmp_path / "bar.mp4", quadrants(height=height, width=width), pixel_aspect=Fraction(4, 3))
    data = bytearray(path.read_bytes())
    struct.pack_into(">II", data, data.index(b"pasp") + 4, *pixel_aspect.as_integer_ratio())
    path.write_bytes(data)
    with pytest.raises(BrokenClipError, match="times as wide as high"):
        decode(path)


@pytest.mark.parametrize(("height", "width"), [(37, 51), (241, 321), (16, 130)])
def test_odd_sizes_and_enlarging(tmp_path, write_video, quadrants, height, width):
    path = write_video(tmp_path / "odd.mp4", quadrants(height=height, width=width))
    decoded = decode(path)
    assert decoded.shape == (6, 64, 2 * round(64 * width / height / 2), 3)
    assert corners(decoded[0]) == [RED, GREEN, WHITE, BLUE]


def test_the_two_fields_of_an_interlaced_frame_are_blended(tmp_path, write_video):
    frame = np.zeros((96, 128, 3), np.uint8)
    frame[::2] = 255
    options = {"crf": "4", "flags": "+ilme+ildct", "x264-params": "tff=1"}
    path = write_video(tmp_path / "fields.mp4", [frame] * 3, options=options)
    with av.open(str(path)) as container:
        assert next(container.decode(video=0)).interlaced_frame
    decoded = decode(path, 48)
    assert np.abs(decoded.astype(int) - 128).max() <= 3


# (KR, KB) by matrix coefficients, ISO/IEC 23091-2; 2 is "unspecified"
MATRICES = {1: (0.2126, 0.0722), 2: (0.299, 0.114), 5: (0.299, 0.114), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}
LIMITED, FULL = 1, 2


def to_ycbcr(colour: tuple[int, ...], matrix: int, colour_range: int, depth: int) -> list[int]:
    """One colour, by the definition (ITU-R BT.601, BT.709 and BT.2020, non-constant luminance)."""
    red, green, blue = (value / 255 for value in colour)
    weight_red, weight_blue = MATRICES[matrix]
    luma = weight_red * red + (1 - weight_red - weight_blue) * green + weight_blue * blue
    chroma = [(blue - luma) / (2 * (1 - weight_blue)), (red - luma) / (2 * (1 - weight_red))]
    step, most = 2 ** (depth - 8), 2**depth - 1
    if colour_range == FULL:
        values = [luma * most, *(value * most + 128 * step for value in chroma)]
    else:
        values = [luma * 219 * step + 16 * step, *(value * 224 * step + 128 * step for value in chroma)]
    return [min(round(value), most) for value in values]


@pytest.mark.parametrize("colour", [(0, 0, 0), WHITE, RED, (200, 120, 40)])
@pytest.mark.parametrize(
    ("matrix", "colour_range", "pixel_format", "size"),
    [
        (2, LIMITED, "yuv420p", (48, 64)),
        (2, LIMITED, "yuv420p", (720, 1280)),  # high definition without tags is no BT.709 to FFmpeg
        (1, LIMITED, "yuv420p", (48, 64)),
        (1, FULL, "yuvj420p", (48, 64)),
        (5, FULL, "yuvj444p", (48, 64)),
        (6, LIMITED, "yuv422p", (48, 64)),
        (9, LIMITED, "yuv420p10le", (48, 64)),
    ],
)
def test_colours_follow_their_tags(tmp_path, write_video, matrix, colour_range, pixel_format, size, colour):
    def tag(stream) -> None:
        stream.codec_context.colorspace, stream.codec_context.color_range = matrix, colour_range

    depth = 10 if pixel_format.endswith("10le") else 8
    planes = to_ycbcr(colour, matrix, colour_range, depth)
    frames = [plain_frame(planes, pixel_format, *size)]
    path = write_video(tmp_path / "plain.mp4", frames, pixel_format=pixel_format, options=LOSSLESS, prepare=tag)
    assert np.abs(decode(path, 32).astype(int) - colour).max() <= 2


@pytest.mark.parametrize(
    ("suffix", "codec", "pixel_format", "planes", "expected"),
    [
        (".mkv", "libx265", "yuv420p10le", (940, 512, 512), WHITE),
        (".mkv", "ffv1", "yuv422p10le", (64, 512, 512), (0, 0, 0)),
        (".mp4", "libx264", "gray", (235,), WHITE),  # H.264 has limited range unless it says otherwise
        (".mkv", "ffv1", "gray", (235,), (235, 235, 235)),
        (".mkv", "ffv1", "yuva420p", (235, 128, 128, 0), WHITE),  # transparent, but white
        (".mov", "qtrle", "rgb24", (200,), (200, 200, 200)),
    ],
)
def test_every_kind_of_pixel_becomes_rgb(tmp_path, write_video, suffix, codec, pixel_format, planes, expected):
    options = {"libx264": LOSSLESS, "libx265": {"x265-params": "lossless=1:bframes=0:log-level=none"}}.get(codec)
    frames = [plain_frame(planes, pixel_format) for _ in range(2)]
    path = write_video(tmp_path / f"plain{suffix}", frames, codec=codec, pixel_format=pixel_format, options=options)
    assert np.abs(decode(path, 32).astype(int) - expected).max() <= 2


@pytest.mark.parametrize(("colour_space", "is_bt601"), [(0, True), (6, True), (2, False)])
def test_a_reserved_matrix_counts_as_none(tmp_path, write_video, colour_space, is_bt601):
    """0 is "unknown" in VP9's header, 6 is "reserved", 2 is BT.709."""
    planes = to_ycbcr((200, 120, 40), 2, LIMITED, 8)
    frames = [plain_frame(planes, "yuv420p") for _ in range(2)]
    path = write_video(
        tmp_path / "plain.webm", frames, codec="libvpx-vp9", pixel_format="yuv420p", options={"lossless": "1"}
    )
    data = bytearray(path.read_bytes())
    position = data.index(bytes((0x49, 0x83, 0x42))) + 3  # after the sync code of the key frame
    data[position] = data[position] & 0b00011111 | colour_space << 5
    path.write_bytes(data)
    is_same = np.abs(decode(path, 32)[0].astype(int) - (200, 120, 40)).max() <= 2
    assert is_same == is_bt601


def test_colours_that_cannot_be_converted_are_refused(tmp_path, write_video):
    def tag(stream) -> None:
        stream.codec_context.colorspace = 8  # YCgCo

    path = write_video(tmp_path / "strange.mp4", shades(2), prepare=tag)
    with pytest.raises(BrokenClipError, match="matrix 8"):
        decode(path)


def test_a_range_is_cut_at_both_ends_and_must_nearly_exist(tmp_path, write_video):
    path = write_video(tmp_path / "shades.mp4", shades(20))
    whole = decode(path, 32)
    assert numbers(whole) == [*range(20)]
    assert np.array_equal(decode(path, 32, 3, 7), whole[3:7])
    assert np.array_equal(decode(path, 32, 8), whole[8:])
    assert np.array_equal(decode(path, 32, None, 20), whole)
    assert np.array_equal(decode(path, 32, 0, 22), whole)  # 20 of 22 are nine tenths
    with pytest.raises(BrokenClipError, match="ends after 20 frames, but 23 are needed"):
        decode(path, 32, 0, 23)
    with pytest.raises(BrokenClipError, match="ends after 20 frames, but 22 are needed"):
        decode(path, 32, 10, 22)
    with pytest.raises(BrokenClipError, match="ends after 20 frames, but 21 are needed"):
        decode(path, 32, 20)


def test_frames_come_one_at_a_time(tmp_path, write_video, quadrants):
    path = write_video(tmp_path / "long.mp4", quadrants(count=50))
    with open_video(path) as video:
        assert next(video.frames()).rgb(64).shape == (64, 86, 3)


@pytest.mark.parametrize(
    ("suffix", "codec"), [(".mp4", "libx264"), (".mkv", "libx264"), (".avi", "mpeg4"), (".webm", "libvpx")]
)
def test_a_variable_rate_keeps_the_frames_as_they_are_coded(tmp_path, write_video, suffix, codec):
    times = [0, 1, 2, 6, 7, 12, 13, 13 + 7]
    frames = [av.VideoFrame.from_ndarray(frame, format="rgb24") for frame in shades(len(times))]
    for frame, time in zip(frames, times, strict=True):
        frame.pts, frame.time_base = time, Fraction(1, 25)
    path = write_video(tmp_path / f"variable{suffix}", frames, codec=codec, pixel_format="yuv420p")
    with open_video(path) as video:
        decoded = np.stack([frame.rgb(32) for frame in video.frames()])
    assert numbers(decoded) == [*range(len(times))]
    if suffix == ".mp4":  # other containers do not say how long their frames last
        assert video.info.fps == pytest.approx(25 * len(times) / (times[-1] + 1), rel=0.01)


@pytest.mark.parametrize(
    ("start", "count", "expected"), [(15, 9, range(15, 24)), (0, 5, range(5)), (8, 4, range(8, 12))]
)
def test_an_edit_list_is_obeyed(tmp_path, write_video, start, count, expected):
    """A phone trims a video by naming the part to show, in the list of ISO/IEC 14496-12, elst."""
    path = write_video(tmp_path / "trimmed.mp4", shades(24), options={"crf": "4", "g": "6", "bf": "2"})
    with av.open(str(path)) as container:
        units_per_frame = round(1 / (25 * container.streams.video[0].time_base))
    data = bytearray(path.read_bytes())
    position = data.index(b"elst") + 12
    (first,) = struct.unpack_from(">i", data, position + 4)
    struct.pack_into(">Ii", data, position, 40 * count, first + units_per_frame * start)
    path.write_bytes(data)
    assert numbers(decode(path)) == [*expected]


def test_times_below_zero_do_not_matter(tmp_path, write_video):
    frames = [av.VideoFrame.from_ndarray(frame, format="rgb24") for frame in shades(8)]
    for number, frame in enumerate(frames):
        frame.pts, frame.time_base = number - 5, Fraction(1, 25)
    path = write_video(tmp_path / "early.avi", frames, codec="mpeg4", pixel_format="yuv420p")
    assert numbers(decode(path)) == [*range(8)]


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_a_frame_without_content_is_skipped(tmp_path, write_video, codec):
    """Recorders write them for frames that they had no time for."""
    path = write_video(tmp_path / "gap.mov", shades(10), codec=codec, pixel_format="yuv420p")
    data = bytearray(path.read_bytes())
    struct.pack_into(">I", data, data.index(b"stsz") + 16 + 4 * 9, 0)  # the size of the last frame
    path.write_bytes(data)
    assert numbers(decode(path)) == [*range(9)]


@pytest.mark.parametrize(
    ("suffix", "codec", "pixel_format"),
    [
        (".mp4", "libx264", "yuv420p"),
        (".avi", "mpeg4", "yuv420p"),
        (".webm", "libvpx-vp9", "yuv420p"),
        (".mkv", "libx264", "yuv420p"),
        (".mpg", "mpeg2video", "yuv420p"),
        (".wmv", "wmv2", "yuv420p"),
        (".flv", "flv", "yuv420p"),
        (".gif", "gif", "rgb8"),
        (".h264", "libx264", "yuv420p"),
    ],
)
def test_videos_of_one_frame_and_of_many_are_read_whole(tmp_path, write_video, quadrants, suffix, codec, pixel_format):
    for count in (1, 30):
        path = write_video(tmp_path / f"{count}{suffix}", quadrants(count), codec=codec, pixel_format=pixel_format)
        assert decode(path).shape == (count, 64, 86, 3)


def test_a_name_with_a_colon_is_no_protocol(tmp_path, write_video, quadrants, monkeypatch):
    write_video(tmp_path / "pipe:0 100%d #1.mp4", quadrants(count=3))
    monkeypatch.chdir(tmp_path)
    assert len(decode(Path("pipe:0 100%d #1.mp4"))) == 3


def test_every_original_file_of_the_benchmarks_decodes_in_full(real_data):
    paths = sorted(path for path in (real_data / "real_clips").rglob("*") if path.is_file())
    assert len(paths) == 25
    if shutil.which("ffprobe") is None:
        pytest.skip("there is no ffprobe program")
    for path in paths:
        command = ["ffprobe", "-v", "error", "-select_streams", "v:0", "-count_frames"]
        command += ["-show_entries", "stream=nb_read_frames", "-of", "csv=p=0", path]
        expected = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip().strip(","))
        with open_video(path) as video:
            frames = video.frames()
            assert next(frames).rgb(128).shape == (128, video.info.width_at(128), 3)
            assert 1 + sum(1 for _ in frames) == expected, path
