import io
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nvidia.dali import fn, pipeline_def
from PIL import Image

from shards.codecs.filmstrip import (
    BAND_ROWS,
    MAX_STRIP_ROWS,
    Strip,
    StripHeader,
    check_strip,
    decode_strip,
    encode_strips,
    select_frames,
)
from shards.codecs.parts import DamagedPartError


def noise(frame_count, height=32, width=37, seed=0):
    """Frames of strong, fine noise: every restart interval has many escaped 0xFF bytes."""
    return np.random.default_rng(seed).integers(0, 256, (frame_count, height, width, 3), dtype=np.uint8)


def as_strips(strips):
    return [Strip.from_bytes(strip) for strip in strips]


def decode_whole(strips, height):
    return np.concatenate([decode_strip(strip, height) for strip in strips])


def decode_with_dali(jpegs):
    @pipeline_def(batch_size=len(jpegs), num_threads=1, device_id=None)
    def pipeline():
        encoded = fn.external_source(lambda: [np.frombuffer(jpeg, dtype=np.uint8) for jpeg in jpegs])
        return fn.decoders.image(encoded, device="cpu")

    pipe = pipeline()
    pipe.build()
    (images,) = pipe.run()
    return [np.asarray(image) for image in images]


@st.composite
def clips_and_selections(draw):
    height = 16 * draw(st.integers(1, 3))
    frame_count = draw(st.integers(1, 25))
    frames = noise(frame_count, height, draw(st.integers(1, 50)), seed=draw(st.integers(0, 99)))
    strips = encode_strips(frames, draw(st.integers(1, 95)), max_rows=height * draw(st.integers(1, 30)))
    indices = draw(st.lists(st.integers(0, frame_count - 1), min_size=1, max_size=40))
    return height, strips, np.array(indices)


@given(clips_and_selections())
@settings(deadline=None, max_examples=150)
def test_selected_frames_decode_to_the_same_pixels_as_the_whole(case):
    height, strips, indices = case
    selection = select_frames(as_strips(strips), indices)
    assert np.array_equal(decode_strip(selection, height), decode_whole(strips, height)[indices])


@given(clips_and_selections(), st.data())
@settings(deadline=None, max_examples=100)
def test_selected_rows_decode_to_the_same_pixels_as_the_whole(case, data):
    height, strips, indices = case
    top, bottom = sorted(data.draw(st.sets(st.sampled_from(range(0, height + 1, BAND_ROWS)), min_size=2, max_size=2)))
    selection = select_frames(as_strips(strips), indices, range(top, bottom))
    assert np.array_equal(decode_strip(selection, bottom - top), decode_whole(strips, height)[indices, top:bottom])


@pytest.mark.parametrize("rows", [range(4, 16), range(12), range(16, 16), range(16, 8), range(40), range(-8, 8)])
def test_rows_that_are_no_bands_are_refused(rows):
    with pytest.raises(ValueError, match="rows must begin and end at multiples of 8 within 32 and not be empty"):
        select_frames(as_strips(encode_strips(noise(2))), np.array([0]), rows)


@given(st.integers(1, 6), st.data())
@settings(deadline=None, max_examples=100)
def test_a_damaged_scan_is_refused_or_still_has_one_interval_a_band(frame_count, data):
    strip = bytearray(encode_strips(noise(frame_count))[0])
    header = StripHeader.parse(strip)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(header.header_bytes, len(strip) - 1))
        strip[place] = data.draw(st.sampled_from([0, 0xD3, 0xFF, 0x41]))
    try:
        selection = select_frames(as_strips([bytes(strip)]), np.arange(frame_count), range(8, 24))
    except DamagedPartError:
        return
    scan = selection[len(header.jpeg_header) :]
    markers = [second for first, second in itertools.pairwise(scan) if first == 0xFF and second != 0]
    assert markers == [0xD0 + k % 8 for k in range(2 * frame_count - 1)] + [0xD9]


@pytest.mark.parametrize("width", [1, 16, 37, 170, 171])
def test_dali_decodes_selections_to_the_same_pixels_as_the_whole(width):
    frames = noise(30, 48, width)
    strips = encode_strips(frames, max_rows=48 * 12)
    random = np.random.default_rng(1)
    selections = [random.integers(0, 30, count) for count in (1, 2, 9, 16, 40)]
    jpegs = [select_frames(as_strips(strips), indices) for indices in selections]
    images = decode_with_dali([*strips, *jpegs])
    whole = np.concatenate([image.reshape(-1, 48, width, 3) for image in images[: len(strips)]])
    for indices, image in zip(selections, images[len(strips) :], strict=True):
        assert np.array_equal(image.reshape(-1, 48, width, 3), whole[indices])


def test_decoded_frames_resemble_the_encoded():
    ramp = np.linspace(0, 255, 32 * 64).reshape(32, 64)
    frames = np.stack([np.stack([ramp, ramp[::-1], np.roll(ramp, 8 * k, axis=1)], axis=-1) for k in range(5)])
    frames = frames.astype(np.uint8)
    decoded = decode_strip(encode_strips(frames, 95)[0], 32)
    assert np.abs(decoded.astype(int) - frames).mean() < 4


def test_a_frame_does_not_depend_on_its_neighbours():
    frames = noise(3)
    among_others = decode_strip(encode_strips(frames)[0], 32)[1]
    alone = decode_strip(encode_strips(frames[1:2])[0], 32)[0]
    assert np.array_equal(among_others, alone)


@given(st.integers(1, 20), st.integers(1, 7))
@settings(deadline=None, max_examples=25)
def test_strips_split_at_the_limit_and_share_their_tables(frame_count, frames_per_strip):
    strips = encode_strips(noise(frame_count), max_rows=32 * frames_per_strip + 31)
    headers = [StripHeader.parse(strip) for strip in strips]
    counts = [header.frame_count for header in headers]
    assert sum(counts) == frame_count
    assert set(counts[:-1]) <= {frames_per_strip}
    assert {(header.frame_height, header.width) for header in headers} == {(32, 37)}
    position = headers[0].rows_position
    assert len({header.jpeg_header[position + 2 :] for header in headers}) == 1


def test_a_strip_at_the_limit_has_its_table_and_any_viewer_opens_it():
    frames = np.zeros((MAX_STRIP_ROWS // 16 + 1, 16, 8, 3), dtype=np.uint8)
    frames[-2] = 200
    full, rest = encode_strips(frames)
    header = check_strip(full)
    assert (header.frame_count, check_strip(rest).frame_count) == (MAX_STRIP_ROWS // 16, 1)
    assert len(header.offsets) == header.frame_count + 1
    with Image.open(io.BytesIO(full)) as image:
        assert image.size == (8, MAX_STRIP_ROWS // 16 * 16)
    selection = select_frames([Strip.from_bytes(full)], np.array([header.frame_count - 1, 0]))
    assert decode_strip(selection, 16)[:, 0, 0, 0].tolist() == [200, 0]


def test_only_the_header_and_the_span_of_wanted_frames_are_read():
    strips = encode_strips(noise(30), max_rows=32 * 10)
    reads = []

    def strip_of(number):
        whole = Strip.from_bytes(strips[number])

        def read(start, size):
            reads.append((number, start, size))
            return whole.read(start, size)

        return Strip(whole.frame_count, whole.header_bytes, read)

    select_frames([strip_of(0), strip_of(1), strip_of(2)], np.array([12, 14, 13]))
    header = StripHeader.parse(strips[1])
    span = int(header.offsets[5] - header.offsets[2])
    assert reads == [(1, 0, header.header_bytes), (1, header.header_bytes + int(header.offsets[2]), span)]


def test_selection_over_the_limit_is_refused():
    strip = Strip.from_bytes(encode_strips(noise(1, 512, 8))[0])
    with pytest.raises(ValueError, match="select fewer"):
        select_frames([strip], np.zeros(128, dtype=np.int64))


@pytest.mark.parametrize("indices", [[], [-1], [3]])
def test_indices_outside_the_clip_are_refused(indices):
    strips = [Strip.from_bytes(strip) for strip in encode_strips(noise(3), max_rows=64)]
    with pytest.raises(ValueError, match=r"range\(3\)"):
        select_frames(strips, np.array(indices, dtype=np.int64))


@pytest.mark.parametrize("other", [noise(2, 32, 40), noise(2, 16, 37)])
def test_strips_of_different_clips_are_not_joined(other):
    strips = [Strip.from_bytes(encode_strips(frames)[0]) for frames in (noise(2), other)]
    with pytest.raises(ValueError, match="differ"):
        select_frames(strips, np.array([0, 3]))


def test_strips_of_different_quality_are_not_joined():
    strips = [Strip.from_bytes(encode_strips(noise(2), quality)[0]) for quality in (85, 60)]
    with pytest.raises(ValueError, match="differ"):
        select_frames(strips, np.array([0, 3]))


@pytest.mark.parametrize(
    "frames",
    [
        noise(2).astype(np.float32),
        noise(2)[0],
        noise(0),
        noise(2, 24),
        np.zeros((1, 16, MAX_STRIP_ROWS + 1, 3), dtype=np.uint8),
        np.zeros((2, 32, 0, 3), dtype=np.uint8),
    ],
)
def test_frames_that_cannot_be_encoded_are_refused(frames):
    with pytest.raises(ValueError, match="frame"):
        encode_strips(frames)


def test_other_bytes_are_not_taken_for_a_strip():
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32)).save(buffer, "JPEG")
    strip = encode_strips(noise(3))[0]
    tag = strip.index(b"FILMSTRIP")
    for data in (
        b"",
        b"text that is no picture",
        buffer.getvalue(),
        strip[:300],
        strip[:tag] + b"X" + strip[tag + 1 :],
    ):
        with pytest.raises(ValueError, match="not a film strip"):
            StripHeader.parse(data)


def test_damage_is_found():
    strip = encode_strips(noise(5))[0]
    header = check_strip(strip)
    third_marker = header.header_bytes + int(header.offsets[3]) - 2
    for damaged in (strip[:-100], strip[:third_marker] + strip[third_marker + 2 :], strip + b"\xff\xd9"):
        with pytest.raises(ValueError, match="damaged"):
            check_strip(damaged)
