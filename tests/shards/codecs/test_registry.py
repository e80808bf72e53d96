import io
import os
import subprocess
import sys
import zlib
from dataclasses import replace
from typing import get_args

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Colorspace
from hypothesis import given, settings
from hypothesis import strategies as st

from shards.codecs.filmstrip import MAX_STRIP_ROWS, encode_strips
from shards.codecs.parts import DamagedPartError, StoredPart
from shards.codecs.registry import Codec, clip_encoder, part_format

VIDEO_CODECS = ("h264", "hevc", "vp9")


def encoder_of(codec, *, quality=85, crf=20, segment_frames=8, height=48):
    return clip_encoder(codec, quality=quality, crf=crf, segment_frames=segment_frames, height=height)


def moving_frames(count=20, height=48, width=64):
    """Waves of all colours that move, and are others from the middle of the clip on."""
    y, x = np.mgrid[:height, :width]
    frames = []
    for k in range(count):
        lengths = (24, 31, 19) if k < count // 2 else (17, 22, 37)
        waves = [np.sin((x + 2 * y * (c - 1) + 5 * k) / length * 2) for c, length in enumerate(lengths)]
        frames.append(127.5 + 100 * np.stack(waves, axis=-1))
    return np.stack(frames).astype(np.uint8)


def encode_parts(codec, frames, **options):
    encoder = encoder_of(codec, height=frames.shape[1], **options)
    step = encoder.frames_per_part
    return [encoder.encode(frames[start : start + step], 25.0) for start in range(0, len(frames), step)]


def stored(part, codec, reads=None):
    header = part_format(codec).header(part)

    def read(start, size):
        if reads is not None:
            reads.append(part)
        return part[start : start + size]

    return StoredPart(header.frame_count, header.height, header.header_bytes, len(part), zlib.crc32(part), read)


def decode(codec, part, frames, height=48):
    (coded,) = part_format(codec).select([stored(part, codec)], frames, range(height))
    return part_format(codec).decode(coded)


@pytest.fixture(scope="module")
def clips():
    """For each codec the parts of a clip of 20 frames, and all its frames decoded."""
    made = {}
    for codec in get_args(Codec):
        parts = encode_parts(codec, moving_frames())
        decoded = [decode(codec, part, np.arange(part_format(codec).header(part).frame_count)) for part in parts]
        made[codec] = parts, np.concatenate(decoded)
    return made


@pytest.mark.parametrize("codec", get_args(Codec))
def test_decoded_frames_resemble_the_encoded(clips, codec):
    parts, decoded = clips[codec]
    assert [part_format(codec).header(part).frame_count for part in parts] == (
        [20] if codec == "filmstrip" else [8, 8, 4]
    )
    difference = np.abs(decoded.astype(int) - moving_frames())
    assert difference.mean() < 4  # the frames beside it are off by some 30 levels
    assert difference.mean(axis=(1, 2, 3)).max() < 6


@given(st.data())
@settings(deadline=None, max_examples=60)
def test_any_selection_is_those_frames_of_the_whole_clip(clips, data):
    codec = data.draw(st.sampled_from(get_args(Codec)))
    indices = np.array(data.draw(st.lists(st.integers(0, 19), min_size=1, max_size=30)))
    parts, whole = clips[codec]
    top, bottom = sorted(data.draw(st.sets(st.integers(0, 48), min_size=2, max_size=2)))
    coded = part_format(codec).select([stored(part, codec) for part in parts], indices, range(top, bottom))
    assert sum(len(part.frames) for part in coded) == len(indices)
    (rows,) = {part.rows for part in coded}
    assert rows.start <= top < bottom <= rows.stop
    if codec == "filmstrip":
        assert len(rows) < bottom - top + 2 * 8
    decoded = np.concatenate([part_format(codec).decode(part) for part in coded])
    assert np.array_equal(decoded, whole[indices, rows.start : rows.stop])


def test_only_the_segments_that_are_touched_are_read_and_each_once(clips):
    parts, _ = clips["h264"]
    reads = []
    stored_parts = [stored(part, "h264", reads) for part in parts]
    coded = part_format("h264").select(stored_parts, np.array([12, 14, 16, 18, 13, 15]), range(48))
    assert reads == parts[1:]
    assert [part.frames.tolist() for part in coded] == [[4, 6], [0, 2], [5, 7]]


@pytest.mark.parametrize("indices", [[], [-1], [20]])
@pytest.mark.parametrize("codec", get_args(Codec))
def test_indices_outside_the_clip_are_refused(clips, codec, indices):
    parts, _ = clips[codec]
    with pytest.raises(ValueError, match=r"range\(20\)"):
        part_format(codec).select([stored(part, codec) for part in parts], np.array(indices, dtype=np.int64), range(48))


PROGRAM = """
import hashlib, sys
import numpy as np
from shards.codecs.registry import clip_encoder
frames = np.random.default_rng(7).integers(0, 256, (12, 16, 18, 3), np.uint8).repeat(4, 1).repeat(4, 2)
for codec in ("filmstrip", "h264", "hevc", "vp9"):
    for height, width in ((32, 34), (32, 64), (64, 32), (64, 48), (64, 72)):
        encoder = clip_encoder(codec, quality=85, crf=20, segment_frames=12, height=height)
        part = encoder.encode(np.ascontiguousarray(frames[:, :height, :width]), 29.97)
        print(codec, height, width, hashlib.sha256(part).hexdigest())
"""


def test_the_same_frames_give_the_same_bytes_whatever_lies_in_memory():
    """At sizes at which x265's defaults write beyond their memory, or read what they never wrote, too."""
    outputs = []
    for fresh_memory in ("0", "85", "170"):
        environment = os.environ | {"MALLOC_PERTURB_": fresh_memory, "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-c", PROGRAM]
        result = subprocess.run(command, capture_output=True, text=True, env=environment, check=True, timeout=60)
        outputs.append(result.stdout)
    assert outputs[0] == outputs[1] == outputs[2]
    assert len(set(outputs[0].splitlines())) == 20


@pytest.mark.parametrize("codec", VIDEO_CODECS)
def test_a_segment_is_one_key_frame_and_frames_that_leave_the_decoder_in_order(clips, codec):
    for part in clips[codec][0]:
        with av.open(io.BytesIO(part)) as container:
            stream = container.streams.video[0]
            packets = [packet for packet in container.demux(stream) if packet.size]
            assert [packet.is_keyframe for packet in packets] == [True] + [False] * (len(packets) - 1)
            assert [packet.pts for packet in packets] == [packet.dts for packet in packets]
            assert not stream.codec_context.has_b_frames
            assert stream.average_rate == 25
            assert stream.codec_context.pix_fmt == "yuv420p"
            assert stream.codec_context.color_range == ColorRange.MPEG
            assert stream.codec_context.colorspace == Colorspace.SMPTE170M


@pytest.mark.parametrize("codec", get_args(Codec))
def test_colours_are_kept(codec):
    colours = np.array([(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (200, 120, 40)], np.uint8)
    frames = np.broadcast_to(colours.repeat(16, axis=0)[None, None], (3, 32, 96, 3)).copy()
    decoded = decode(codec, encoder_of(codec, crf=10, quality=95, height=32).encode(frames, 25.0), np.arange(3), 32)
    middles = np.arange(8, 96, 16)
    assert np.abs(decoded[:, :, middles].astype(int) - colours).max() <= 6


def test_a_film_strip_is_the_one_that_packing_always_made():
    frames = moving_frames(5)
    encoder = encoder_of("filmstrip", quality=70)
    assert encoder.frames_per_part == MAX_STRIP_ROWS // 48
    assert [encoder.encode(frames, 25.0)] == encode_strips(frames, 70)
    with pytest.raises(ValueError, match="do not fit"):
        encoder_of("filmstrip", height=16).encode(np.zeros((MAX_STRIP_ROWS // 16 + 1, 16, 2, 3), np.uint8), 25.0)


@pytest.mark.parametrize("codec", VIDEO_CODECS)
@pytest.mark.parametrize(
    ("frames", "complaint"),
    [
        (np.zeros((2, 48, 71, 3), np.uint8), "even sides.*71x48"),
        (np.zeros((2, 47, 64, 3), np.uint8), "even sides.*64x47"),
        (np.zeros((2, 48, 30, 3), np.uint8), "even sides of 32 or more.*30x48"),
        (np.zeros((2, 48, 64, 3), np.float32), "uint8"),
        (np.zeros((0, 48, 64, 3), np.uint8), "uint8"),
        (np.zeros((48, 64, 3), np.uint8), "uint8"),
    ],
)
def test_frames_that_cannot_be_encoded_are_refused(codec, frames, complaint):
    with pytest.raises(ValueError, match=complaint):
        encoder_of(codec).encode(frames, 25.0)


@pytest.mark.parametrize("fps", [0.5, 7.5, 23.976, 29.97, 60.0, 1000.0])
@pytest.mark.parametrize("codec", VIDEO_CODECS)
def test_the_frame_rate_is_kept(codec, fps):
    with av.open(io.BytesIO(encoder_of(codec).encode(moving_frames(3), fps))) as container:
        assert float(container.streams.video[0].average_rate) == pytest.approx(fps, rel=1e-4)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"codec": "av1"}, "codec must be one of filmstrip, h264, hevc, vp9, got 'av1'"),
        ({"codec": "h264", "crf": 0}, "crf must be 1 to 51 for h264, got 0"),
        ({"codec": "hevc", "crf": 52}, "crf must be 1 to 51 for hevc"),
        ({"codec": "vp9", "crf": 64}, "crf must be 1 to 63 for vp9"),
        ({"codec": "h264", "segment_frames": 0}, "segment_frames must be at least 1"),
    ],
)
def test_wrong_options_are_named(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        encoder_of(**options)


def test_the_default_rate_factors_give_about_the_same_quality(clips):
    frames = moving_frames()
    errors = {}
    for codec in VIDEO_CODECS:
        parts = encode_parts(codec, frames, crf=None, segment_frames=20)
        errors[codec] = np.abs(decode(codec, parts[0], np.arange(20)).astype(int) - frames).mean()
    assert max(errors.values()) < 1.5 * min(errors.values()), errors


@pytest.mark.parametrize("codec", VIDEO_CODECS)
def test_other_bytes_are_not_taken_for_a_segment(clips, codec):
    part = clips[codec][0][0]
    video_format = part_format(codec)
    other = clips["h264" if codec != "h264" else "vp9"][0][0]
    for data in (b"", b"text that is no video", part[:40], part[: len(part) // 2], encode_strips(moving_frames(2))[0]):
        with pytest.raises(DamagedPartError, match="not a video segment"):
            video_format.header(data)
    with pytest.raises(DamagedPartError, match=f"not {codec}"):
        video_format.header(other)


@pytest.mark.parametrize("codec", VIDEO_CODECS)
def test_damage_is_found(clips, codec):
    part = clips[codec][0][0]
    video_format = part_format(codec)
    video_format.check(part)
    key_frame = bytearray(part)
    start = part.index(b"mdat") + 4
    key_frame[start : start + 40] = bytes(40)
    with pytest.raises(DamagedPartError, match="damaged"):
        video_format.check(bytes(key_frame))
    changed = bytearray(part)
    changed[len(part) // 2] ^= 1
    whole = stored(part, codec)
    damaged = replace(whole, read=lambda start, size: bytes(changed)[start:size])
    with pytest.raises(DamagedPartError, match="checksum"):
        video_format.select([damaged], np.array([0]), range(48))


def test_a_segment_with_fewer_frames_than_asked_for_is_damaged(clips):
    part = clips["vp9"][0][2]
    (coded,) = part_format("vp9").select([stored(part, "vp9")], np.arange(4), range(48))
    coded.frames[-1] = 4
    with pytest.raises(DamagedPartError, match="ends before frame 4"):
        part_format("vp9").decode(coded)
