"""What must hold of decoding from the middle of a video: the same frames as from its start, at a cost that they set."""

import hashlib
import shutil
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from shards.decoding.refusal import BrokenClipError
from shards.decoding.video import Video, open_video
from shards.packing import entry_points
from shards.packing.clip_preparation import PackConfig, prepare_clip
from shards.packing.entry_points import SharedVideo, Survey, find_entry_points, shared_videos
from shards.sources.listing import ClipEntry
from shards.system import checksums

FRAMES = 90
STARTS = (0, 7, 11, 12, 13, 14, 29, 30, 45, 60, 61, 75, 84)


def moving_noise(count: int = FRAMES) -> np.ndarray:
    """Frames that all differ, and that a codec predicts from each other."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    return np.stack([np.roll(noise, (n // 16, 3 * n), axis=(0, 1)) for n in range(count)])


def frame_hashes(path: Path, start: int = 0, end: int | None = None, survey: Survey | None = None) -> list[str]:
    entry = survey.entry_for(start) if survey else None
    with open_video(path) as video:
        return [hashlib.sha256(frame.rgb(64)).hexdigest() for frame in video.frames(start, end, entry)]


def assert_segments_are_those_of_the_whole(path: Path, survey: Survey, length: int = 9) -> None:
    whole = frame_hashes(path)
    assert len(set(whole)) == len(whole) == FRAMES, "the frames of the test must differ"
    for start in range(0, FRAMES - length, 3):
        assert frame_hashes(path, start, start + length, survey) == whole[start : start + length], start
    assert frame_hashes(path, FRAMES - 5, None, survey) == whole[-5:]


H264 = {"crf": "18", "preset": "ultrafast", "g": "12", "bf": "3"}
HEVC = "keyint=12:min-keyint=12:bframes=3:log-level=none:pools=none:frame-threads=1"


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("b_frames.mp4", "libx264", H264),
        ("b_frames.mkv", "libx264", H264),
        ("pyramid.mov", "libx264", {**H264, "x264-params": "b-adapt=0:b-pyramid=normal:scenecut=0"}),
        ("open.mp4", "libx264", {**H264, "x264-params": "open-gop=1:scenecut=0:b-adapt=0"}),
        ("open.mkv", "libx264", {**H264, "x264-params": "open-gop=1:scenecut=0:b-adapt=0"}),
        ("open_hevc.mp4", "libx265", {"preset": "ultrafast", "x265-params": f"open-gop=1:{HEVC}"}),
        ("open_hevc.mkv", "libx265", {"preset": "ultrafast", "x265-params": f"open-gop=1:{HEVC}"}),
        ("hidden_frames.webm", "libvpx-vp9", {"g": "12", "deadline": "realtime", "cpu-used": "8"}),
        ("alternate_references.webm", "libvpx", {"g": "12", "auto-alt-ref": "1", "lag-in-frames": "10"}),
        ("simple.avi", "mpeg4", {"g": "12"}),
        ("b_frames.avi", "mpeg4", {"g": "12", "bf": "2"}),
        ("program.mpg", "mpeg2video", {"g": "12", "bf": "2"}),
        ("transport.ts", "libx264", H264),
        ("pictures.mkv", "mjpeg", {}),
        ("flash.flv", "flv", {"g": "12"}),
        ("raw.h264", "libx264", H264),
    ],
)
def test_every_kind_of_video_gives_the_same_frames_from_its_middle(tmp_path, write_video, name, codec, options):
    pixel_format = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    path = write_video(tmp_path / name, moving_noise(), codec=codec, pixel_format=pixel_format, options=options)
    survey = Survey("", tuple(find_entry_points(path, STARTS)))
    assert_segments_are_those_of_the_whole(path, survey)
    if path.suffix in (".mp4", ".mov", ".mkv", ".webm"):
        assert len(survey.entries) >= 3, "no key frame of it is used"


def variable_rate_frames() -> Iterator[av.VideoFrame]:
    times = np.cumsum(np.random.default_rng(1).integers(1, 9, FRAMES))
    for picture, time in zip(moving_noise(), times.tolist(), strict=True):
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts, frame.time_base = time, Fraction(1, 100)
        yield frame


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_a_variable_rate_does_not_shift_the_frames(tmp_path, write_video, suffix):
    frames = variable_rate_frames()
    options = H264 if suffix != ".avi" else {"g": "12"}
    codec = "libx264" if suffix != ".avi" else "mpeg4"
    path = write_video(tmp_path / f"v{suffix}", frames, fps=100, codec=codec, pixel_format="yuv420p", options=options)
    survey = Survey("", tuple(find_entry_points(path, STARTS)))
    assert_segments_are_those_of_the_whole(path, survey)
    assert survey.entries


def test_key_frames_that_are_none_are_not_believed(tmp_path, write_video):
    """In FLV the first half byte of a frame says whether it is a key frame."""
    path = write_video(
        tmp_path / "liar.flv", moving_noise(), codec="flv", pixel_format="yuv420p", options={"g": "12", "qscale": "2"}
    )
    with av.open(str(path)) as container:
        positions = [packet.pos for packet in container.demux(video=0) if packet.size]
    data = bytearray(path.read_bytes())
    for position in positions:
        data[position + 11] = 0x10 | data[position + 11] & 0x0F  # after the header of the tag
    path.write_bytes(data)
    with av.open(str(path)) as container:
        assert sum(packet.is_keyframe for packet in container.demux(video=0) if packet.size) == FRAMES
    assert len(entry_points._candidates(path, STARTS)) == len(STARTS) - 1  # all but that of the first frame
    survey = Survey("", tuple(find_entry_points(path, STARTS)))
    assert len(survey.entries) < 6
    assert_segments_are_those_of_the_whole(path, survey)


def test_a_picture_that_is_refreshed_bit_by_bit_has_no_entry(tmp_path, write_video):
    options = {**H264, "x264-params": "intra-refresh=1:keyint=20:scenecut=0", "bf": "0"}
    path = write_video(tmp_path / "refresh.mkv", moving_noise(), pixel_format="yuv420p", options=options)
    survey = Survey("", tuple(find_entry_points(path, STARTS)))
    assert_segments_are_those_of_the_whole(path, survey)


def test_damage_is_found_where_decoding_from_the_start_finds_it(tmp_path, write_video):
    path = write_video(tmp_path / "clip.mp4", moving_noise(), pixel_format="yuv420p", options=H264)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 300] = bytes(300)
    path.write_bytes(data)
    survey = Survey("", tuple(find_entry_points(path, STARTS)))
    assert survey.entries
    outcomes = []
    for known in (survey, None):
        outcome = []
        for start in range(0, FRAMES, 3):
            try:
                outcome.append(frame_hashes(path, start, start + 3, known))
            except BrokenClipError as error:
                outcome.append(str(error))
        outcomes.append(outcome)
    assert outcomes[0] == outcomes[1]
    assert {type(value) for value in outcomes[0]} == {list, str}


def test_a_file_cut_short_is_noticed_from_its_middle_too(tmp_path, write_video):
    path = write_video(tmp_path / "clip.mp4", moving_noise(), pixel_format="yuv420p", options=H264)
    with av.open(str(path)) as container:
        last = [packet.pos for packet in container.demux(video=0) if packet.size][-1]
    path.write_bytes(path.read_bytes()[:last])
    survey = Survey("", tuple(find_entry_points(path, STARTS)))
    assert survey.entry_for(80) is not None
    for known in (None, survey):
        with pytest.raises(BrokenClipError, match="cut short: 89 of 90 frames are in the file"):
            frame_hashes(path, 80, None, known)


def test_another_file_in_its_place_is_not_entered(tmp_path, write_video):
    path = write_video(tmp_path / "clip.mp4", moving_noise(), pixel_format="yuv420p", options=H264)
    survey = Survey("", tuple(find_entry_points(path, STARTS)))
    write_video(path, moving_noise(), fps=10, pixel_format="yuv420p", options={**H264, "g": "17"})
    with pytest.raises(BrokenClipError, match="do not change the videos while packing"):
        frame_hashes(path, 61, 70, survey)


@pytest.fixture
def counted(monkeypatch) -> dict[str, int]:
    """Counts the frames that are decoded and the files that are hashed."""
    counts = {"frames": 0, "hashes": 0}
    decode = Video._decode_packets

    def count_frames(self, *arguments):
        for frame in decode(self, *arguments):
            counts["frames"] += 1
            yield frame

    def count_hashes(path):
        counts["hashes"] += 1
        return checksums.sha256_of(path)

    monkeypatch.setattr(Video, "_decode_packets", count_frames)
    monkeypatch.setattr(entry_points, "sha256_of", count_hashes)
    monkeypatch.setattr("shards.packing.clip_preparation.sha256_of", count_hashes)
    return counts


def prepare_all(clips: list[ClipEntry], folder: Path, config: PackConfig) -> list:
    shared = shared_videos(clips, folder)
    samples = [prepare_clip(clip, 0, config, shared=shared.get(clip.path)).sample for clip in clips]
    return [(sample.info, sample.parts) for sample in samples]


@pytest.mark.parametrize(("length", "step"), [(10, 10), (20, 5)])
def test_many_segments_cost_one_pass_their_frames_and_one_checksum(tmp_path, write_video, counted, length, step):
    frames_NHWC = moving_noise(600)
    path = write_video(tmp_path / "long.mp4", frames_NHWC, pixel_format="yuv420p", options=H264)
    clips = [ClipEntry(f"a/{start}", path, "a", start, start + length) for start in range(0, 600 - length + 1, step)]
    config = PackConfig(height=32)
    surveys = tmp_path / "surveys"
    surveys.mkdir()
    samples = prepare_all(clips, surveys, config)
    opening = 1  # of every video that is opened, the first frame is decoded
    wanted = len(clips) * (opening + 12 + length)
    survey_cost = 600 + (opening + 16) * 600 // 12
    assert counted["frames"] <= wanted + survey_cost
    assert counted["hashes"] == 1
    counted.update(frames=0, hashes=0)
    some = slice(None, None, 8)
    alone = [prepare_clip(clip, 0, config).sample for clip in clips[some]]
    assert [(sample.info, sample.parts) for sample in alone] == samples[some]
    assert counted["frames"] > 5 * (wanted + survey_cost) / 8
    assert counted["hashes"] == len(clips[some])
    assert prepare_all(clips[some], tmp_path / "none", config) == samples[some], "surveys cannot be kept there"


def test_a_video_of_one_clip_is_not_surveyed(tmp_path):
    clips = [ClipEntry("a/x", tmp_path / "x.mp4", "a", 500, 510), ClipEntry("a/y", tmp_path / "y.mp4", "a")]
    assert shared_videos(clips, tmp_path) == {}


def test_a_survey_that_would_cost_more_than_it_saves_only_keeps_the_checksum(tmp_path):
    path = tmp_path / "x.mp4"
    near = [ClipEntry("a/x", path, "a", 0, 10), ClipEntry("a/y", path, "a", 500, 510)]
    assert shared_videos(near, tmp_path)[path].starts == ()
    many = [ClipEntry(f"a/{start}", path, "a", start, start + 10) for start in (500, 0, 400, 300, 400)]
    assert shared_videos(many, tmp_path)[path].starts == (0, 300, 400, 500)


def test_the_survey_of_a_changed_video_is_made_anew(tmp_path, write_video):
    path = write_video(tmp_path / "clip.mp4", moving_noise(), pixel_format="yuv420p", options=H264)
    shared = SharedVideo(path, STARTS, tmp_path)
    first = shared.survey()
    assert shared.survey() == first
    (file,) = tmp_path.glob("*.json")
    file.write_text("{damaged")
    assert shared.survey() == first
    write_video(path, moving_noise(), pixel_format="yuv420p", options={**H264, "g": "20"})
    assert shared.survey().sha256 == hashlib.sha256(path.read_bytes()).hexdigest() != first.sha256
    shutil.copy(path, tmp_path / "other.mp4")
    assert SharedVideo(tmp_path / "other.mp4", STARTS, tmp_path).survey() == shared.survey()
