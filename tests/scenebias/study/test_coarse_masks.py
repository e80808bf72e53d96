"""What must hold of the trial with spoilt masks: it spoils them as it says, and trains and tests with each."""

import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from scenebias.study.coarse_masks import COMMAND, GAPS, boxed, grown, with_gaps
from tests.commands import run_here

MASKS = arrays(bool, st.tuples(*[st.integers(1, 7)] * 3))


@given(mask_NHW=MASKS)
def test_a_box_is_the_least_that_holds_the_mask_of_its_frame(mask_NHW: np.ndarray) -> None:
    for mask_HW, box_HW in zip(mask_NHW, boxed(mask_NHW), strict=True):
        expected_HW = np.zeros_like(mask_HW)
        for corner in ndimage.find_objects(mask_HW.astype(int)):
            expected_HW[corner] = True
        assert np.array_equal(box_HW, expected_HW)


@given(mask_NHW=MASKS, pixels=st.sampled_from([-2, -1, 1, 3]))
def test_masks_grow_and_shrink_frame_by_frame(mask_NHW: np.ndarray, pixels: int) -> None:
    change = ndimage.binary_dilation if pixels > 0 else ndimage.binary_erosion
    expected = [change(mask_HW, iterations=abs(pixels)) for mask_HW in mask_NHW]
    assert np.array_equal(grown(mask_NHW, pixels), expected)


def test_whole_frames_lose_their_masks() -> None:
    found_N = with_gaps(np.ones((2000, 2, 3), bool), np.random.default_rng(0)).reshape(2000, -1)
    assert (found_N.all(axis=1) | ~found_N.any(axis=1)).all()
    assert abs((~found_N.any(axis=1)).mean() - GAPS) < 0.05


def test_every_kind_of_masks_is_trained_with_and_tested_on_the_same_clips(tmp_path) -> None:
    json_file = tmp_path / "found.json"
    options = ("--clips-train", 16, "--clips-test", 8, "--epochs", 1, "--kinds", "true", "boxes", "--json", json_file)
    for _ in range(2):
        result = run_here(COMMAND, "--out", tmp_path / "out", *options)
        assert result.returncode == 0, result.stderr
    found = json.loads(json_file.read_text())
    assert found["true"]["mask_iou"] == 1
    assert 0.3 < found["boxes"]["mask_iou"] < 0.9
    assert all(0 <= found[kind][split] <= 1 for kind in found for split in ("test", "swapped", "scene-only"))
    assert list(found) == ["boxes", "true"]
