import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shards.codecs.masks import npy_array, npy_bytes, pack_masks, packed_width, resize_masks, unpack_masks

MASKS = hnp.arrays(bool, hnp.array_shapes(min_dims=3, max_dims=3, max_side=40))


@given(MASKS)
def test_packing_loses_nothing(mask_NHW):
    packed = pack_masks(mask_NHW)
    assert packed.shape == (*mask_NHW.shape[:2], packed_width(mask_NHW.shape[2]))
    assert np.array_equal(unpack_masks(packed, mask_NHW.shape[2]), mask_NHW)


def test_leftmost_pixel_is_the_most_significant_bit():
    assert pack_masks(np.array([[[1, 0, 0, 0, 0, 0, 0, 0, 0, 1]]], dtype=bool)).tolist() == [[[0x80, 0x40]]]


@given(MASKS, st.integers(1, 4), st.integers(1, 4))
def test_halving_keeps_pixels_with_half_their_area_set(mask_NHW, rows, columns):
    fine_NHW = mask_NHW.repeat(rows, axis=1).repeat(columns, axis=2)
    assert np.array_equal(resize_masks(fine_NHW, mask_NHW.shape[1:]), mask_NHW)
    assert np.array_equal(resize_masks(mask_NHW, fine_NHW.shape[1:]), fine_NHW)


@given(hnp.arrays(bool, (2, 8, 12)))
def test_half_scale_is_the_mean_of_four_pixels(mask_NHW):
    means = mask_NHW.reshape(2, 4, 2, 6, 2).mean(axis=(2, 4))
    assert np.array_equal(resize_masks(mask_NHW, (4, 6)), means >= 0.5)


@given(MASKS)
def test_frames_of_an_npy_can_be_read_by_offset(mask_NHW):
    packed = pack_masks(mask_NHW)
    data = npy_bytes(packed)
    assert np.array_equal(np.load(io.BytesIO(data)), packed)
    assert np.array_equal(npy_array(data), packed)
    assert data[len(data) - packed.nbytes :] == packed.tobytes()


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", npy_bytes(np.zeros(4))[:-1]])
def test_other_bytes_are_refused(data):
    with pytest.raises(ValueError, match=r"."):
        npy_array(data)
