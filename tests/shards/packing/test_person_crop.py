"""The square around the people of a clip: inside the frame, around all of them, as large as it says."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.format.sample import Crop
from shards.packing.person_crop import person_crop

SQUARE = Fraction(1)
LINES = st.integers(2, 60).map(lambda half: 2 * half)


def crop_of(
    mask_NHW: np.ndarray | None, height: int, width: int, margin: float, pixel_aspect: Fraction = SQUARE
) -> Crop:
    return person_crop(mask_NHW, height, width, pixel_aspect * width / height, margin)


@st.composite
def stretches(draw, room: int) -> tuple[int, int]:
    first = draw(st.integers(0, room - 1))
    return first, draw(st.integers(first + 1, room))


@st.composite
def people(draw) -> tuple[np.ndarray, tuple[int, int], tuple[int, int]]:
    """Two frames of any even size, each with a rectangle; the rows and columns of both together."""
    height, width = draw(LINES), draw(LINES)
    mask_NHW = np.zeros((2, height, width), bool)
    for mask_HW in mask_NHW:
        (top, bottom), (left, right) = draw(stretches(height)), draw(stretches(width))
        mask_HW[top:bottom, left:right] = True
    _, rows, columns = mask_NHW.nonzero()
    return mask_NHW, (int(rows.min()), int(rows.max()) + 1), (int(columns.min()), int(columns.max()) + 1)


def without_strays(mask_NHW: np.ndarray, axis: int) -> tuple[int, int]:
    """The even stretch along an axis outside which lie at most 0.2 % of the pixels on either side, one by one."""
    places = np.sort(mask_NHW.nonzero()[axis])
    cut = int(0.002 * len(places))
    first, end = int(places[cut]), int(places[len(places) - 1 - cut]) + 1
    return first - first % 2, end + end % 2


@given(people(), st.sampled_from([1.0, 1.1, 1.3, 2.0]))
def test_the_square_is_as_large_as_it_says_and_as_near_to_the_people_as_the_frame_lets_it(people, margin):
    mask_NHW, _, _ = people
    _, height, width = mask_NHW.shape
    crop = crop_of(mask_NHW, height, width, margin)
    (top, bottom), (left, right) = without_strays(mask_NHW, 1), without_strays(mask_NHW, 2)
    shorter = min(height, width)
    side = min(max(margin * max(bottom - top, right - left), shorter / 8), shorter)
    assert crop.width == crop.height == pytest.approx(side, abs=1.001)
    assert crop.on_person
    for start, length, room, first, end in (
        (crop.top, crop.height, height, top, bottom),
        (crop.left, crop.width, width, left, right),
    ):
        assert start % 2 == length % 2 == 0
        assert 0 <= start <= start + length <= room
        centred = (first + end - length) / 2
        assert start == pytest.approx(np.clip(centred, 0, room - length), abs=1)
        if end - first <= length:
            assert start <= first
            assert end <= start + length
        else:  # they are larger than the frame is high or wide
            assert length == shorter


@given(LINES, LINES, st.sampled_from([SQUARE, Fraction(16, 15), Fraction(8, 9), Fraction(4, 3)]))
def test_a_square_is_one_on_the_screen(height, width, pixel_aspect):
    mask_NHW = np.zeros((1, height, width), bool)
    mask_NHW[:, height // 2 :, : width // 2] = True
    for mask in (mask_NHW, None):
        crop = crop_of(mask, height, width, 1.3, pixel_aspect)
        assert crop.height == pytest.approx(crop.width * pixel_aspect, abs=1 + float(pixel_aspect))
        assert 0 <= crop.left <= crop.left + crop.width <= width
        assert 0 <= crop.top <= crop.top + crop.height <= height


@given(st.integers(2, 50), st.integers(2, 50))
def test_without_people_it_is_the_largest_in_the_centre(height, width):
    expected = None
    for mask in (None, np.zeros((3, height, width), bool)):
        crop = crop_of(mask, height, width, 1.3)
        assert not crop.on_person
        assert crop.width == crop.height == min(height, width) // 2 * 2
        assert crop.left == pytest.approx((width - crop.width) / 2, abs=1.5)
        assert crop.top == pytest.approx((height - crop.height) / 2, abs=1.5)
        assert expected in (None, crop)
        expected = crop


@given(st.integers(1, 9), st.integers(1, 9), st.data())
def test_frames_of_any_size_have_a_square(height, width, data):
    mask_NHW = np.zeros((1, height, width), bool)
    mask_NHW[0, data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))] = True
    crop = crop_of(mask_NHW, height, width, 1.3)
    assert crop.on_person
    assert crop.cut(mask_NHW).shape == (1, crop.height, crop.width)
    assert crop.height > 0
    assert crop.width > 0


def test_specks_do_not_count_but_a_frame_of_a_person_does():
    mask_NHW = np.zeros((50, 240, 320), bool)
    mask_NHW[:, 100:160, 100:130] = True
    alone = crop_of(mask_NHW, 240, 320, 1.3)
    assert (alone.top, alone.left, alone.height, alone.width) == (90, 76, 78, 78)
    specks_NHW = mask_NHW.copy()
    specks_NHW[7, 3:6, 300:303] = True
    assert crop_of(specks_NHW, 240, 320, 1.3) == alone
    mask_NHW[7, 100:160, 200:230] = True
    # Of its 30 columns, three hold the 0.2 % of all pixels that do not count.
    assert crop_of(mask_NHW, 240, 320, 1.3).width == pytest.approx(1.3 * 128, abs=1)


def test_a_few_pixels_do_not_fill_the_picture():
    mask_NHW = np.zeros((1, 240, 320), bool)
    mask_NHW[0, 0, 319] = True
    assert crop_of(mask_NHW, 240, 320, 1.3) == Crop(left=290, top=0, width=30, height=30, on_person=True)
