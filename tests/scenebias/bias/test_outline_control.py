"""The outline track, measured by hand, and what can be read from it.

Shape suffixes: B clips, T frames, H rows, W columns; W also windows, N clips, D values of a track.
"""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dali_pipelines import ClipConfig, EvalLoader
from scenebias.bias.outline_control import (
    GRID,
    INSTANTS,
    TRACK_SIZE,
    find_outlined_windows,
    outline_accuracy,
    outline_track,
)
from scenebias.clips.masked_clip import boxes_around
from scenebias.distributed.process_place import ProcessPlace
from scenebias.evaluation.masked_windows import MaskedWindows
from shards.dataset import ShardDataset

PLACE = ProcessPlace(0, 1, torch.device("cpu"))
CLIP = ClipConfig(size=32)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 15), st.integers(1, 16), st.integers(0, 15), st.integers(1, 16))
def test_a_rectangle_s_track_holds_its_area_and_sides(top: int, height: int, left: int, width: int) -> None:
    mask_BTHW = torch.zeros(1, 16, 16, 16, dtype=torch.bool)
    mask_BTHW[0, 9, top : top + height, left : left + width] = True
    bottom, right = min(top + height, 16), min(left + width, 16)
    track = outline_track(mask_BTHW)[0].view(INSTANTS, -1).numpy()
    at = np.linspace(0, 15, INSTANTS).round().astype(int).tolist()
    assert 9 in at
    for instant, frame in enumerate(at):
        if frame != 9:
            assert not track[instant].any()
            continue
        cells = [float(row.mean()) for rows in mask_BTHW[0, 9].split(16 // GRID) for row in _cells(rows)]
        area = (bottom - top) * (right - left) / 256
        wanted = [area, top / 16, bottom / 16, left / 16, right / 16, *cells]
        np.testing.assert_allclose(track[instant], wanted, atol=1e-6)


def _cells(rows: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return rows.float().split(16 // GRID, dim=1)


@pytest.mark.parametrize("batch_size", [1, 5])
def test_windows_with_a_person_in_most_frames_are_found(tiny_dataset: Path, batch_size: int) -> None:
    dataset = ShardDataset.open(tiny_dataset)
    found = find_outlined_windows(EvalLoader(dataset, CLIP, batch_size=batch_size), PLACE)
    wanted, tracks = [], []
    for number, batch in enumerate(EvalLoader(dataset, CLIP, batch_size=1)):
        assert batch.mask_BTHW is not None
        if batch.mask_BTHW[0].flatten(1).any(1).float().mean() >= 0.7 - 1e-6:
            wanted.append((number, int(batch.sample_B)))
            both = batch.mask_BTHW, boxes_around(batch.mask_BTHW)
            tracks.append(np.concatenate([outline_track(mask_BTHW)[0].numpy() for mask_BTHW in both]))
    assert list(zip(found.number_W.tolist(), found.sample_W.tolist(), strict=True)) == wanted
    assert 5 not in found.sample_M  # it has no masks
    np.testing.assert_allclose(found.value_WD, np.stack(tracks), atol=1e-6)


def test_data_without_masks_have_no_masked_windows(plain_test_without_masks: Path) -> None:
    dataset = ShardDataset.open(plain_test_without_masks)
    found = find_outlined_windows(EvalLoader(dataset, CLIP, batch_size=4), PLACE)
    assert len(found.number_W) == len(found.sample_M) == len(found.clip_means()) == 0


def masked_windows(sample_W: np.ndarray, track_WD: np.ndarray) -> MaskedWindows:
    return MaskedWindows(np.arange(len(sample_W)), sample_W, track_WD)


def test_tracks_are_averaged_clip_by_clip() -> None:
    track_WD = np.arange(3)[:, None] * np.ones(TRACK_SIZE)
    found = masked_windows(np.array([4, 4, 9]), track_WD)
    assert found.sample_M.tolist() == [4, 9]
    assert found.clip_means()[:, 0].tolist() == [0.5, 2.0]


def test_it_reads_an_action_that_the_outline_tells_and_none_that_it_does_not() -> None:
    """Of the mask here, while the box around it tells nothing."""
    random = np.random.default_rng(0)
    label_N = random.integers(0, 3, 120)

    def windows() -> MaskedWindows:
        telling, silent = random.random((2, 120, TRACK_SIZE))
        return masked_windows(np.arange(120), np.concatenate([telling + label_N[:, None], silent], axis=1))

    train, test = windows(), windows()
    assert outline_accuracy(train, label_N, test, label_N, 3) == 1.0
    assert outline_accuracy(train, label_N, test, label_N, 3, "boxes") < 0.5


def test_without_masks_nothing_is_read() -> None:
    nothing = masked_windows(np.zeros(0, dtype=np.int64), np.zeros((0, TRACK_SIZE)))
    something = masked_windows(np.arange(2), np.zeros((2, TRACK_SIZE)))
    label_N = np.array([0, 1])
    assert math.isnan(outline_accuracy(nothing, label_N, something, label_N, 2))
    assert math.isnan(outline_accuracy(something, label_N, nothing, label_N, 2))
