"""Swaps pair only what they may, and put together what they say.

Shape suffixes: B clips, T frames, H rows, W columns, C channels; N clips of a data set, K windows.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dali_pipelines import ClipBatch, ClipConfig, EvalLoader
from scenebias.clips.background import fill_in_background
from scenebias.clips.scene_swap import draw_backgrounds, still, swap_background, swap_windows, swapped_batches
from shards.dataset import ShardDataset

CLIP = ClipConfig(size=32)


@given(st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_a_background_is_usable_and_speaks_for_another_action(clips: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    label_N, scene_N, scene_action_N = (random.integers(0, high, clips) for high in (4, 3, 4))
    usable_N = random.random(clips) < 0.7
    background_N = draw_backgrounds(label_N, scene_N, scene_action_N, usable_N, seed=seed)
    for sample, background in enumerate(background_N):
        candidates = [
            j
            for j in range(clips)
            if usable_N[sample]
            and usable_N[j]
            and scene_N[j] != scene_N[sample]
            and label_N[sample] not in (label_N[j], scene_action_N[j])
        ]
        assert background in candidates if candidates else background == -1


def test_backgrounds_depend_on_the_seed_and_on_no_other_clip_s_draw() -> None:
    label_N = np.arange(200) % 4
    scene_N, scene_action_N = label_N, label_N
    everyone_N = np.ones(200, dtype=bool)
    background_N = draw_backgrounds(label_N, scene_N, scene_action_N, everyone_N, seed=3)
    assert np.array_equal(background_N, draw_backgrounds(label_N, scene_N, scene_action_N, everyone_N, seed=3))
    assert not np.array_equal(background_N, draw_backgrounds(label_N, scene_N, scene_action_N, everyone_N, seed=4))
    assert len(np.unique(background_N)) > 80
    without_first_N = np.arange(200) != 0
    other_N = draw_backgrounds(label_N, scene_N, scene_action_N, without_first_N, seed=3)
    unaffected_N = (label_N == 0) & without_first_N  # clip 0 could not lend them its background anyway
    assert np.array_equal(other_N[unaffected_N], background_N[unaffected_N])


def test_windows_of_a_clip_go_with_those_of_its_background_in_turn() -> None:
    # Clip 0 has the windows 0, 1, 2, clip 1 the window 4, clip 3 the windows 7 and 8; clip 2 has none.
    number_K, sample_K = np.array([0, 1, 2, 4, 7, 8]), np.array([0, 0, 0, 1, 3, 3])
    swaps = swap_windows(number_K, sample_K, np.array([3, 0, -1, -1]))
    assert swaps.sample_M.tolist() == [0, 1]
    assert swaps.background_M.tolist() == [3, 0]
    assert swaps.sample_K.tolist() == [0, 0, 0, 1]
    assert swaps.human_window_K.tolist() == [0, 1, 2, 4]
    assert swaps.background_window_K.tolist() == [7, 8, 7, 0]
    first = swaps.first_windows(np.array([1, 0]))
    assert first.sample_M.tolist() == [1, 0]
    assert first.background_M.tolist() == [0, 3]
    assert first.human_window_K.tolist() == [4, 0]
    assert first.background_window_K.tolist() == [0, 7]


def test_no_swaps_are_left_where_nothing_can_be_paired() -> None:
    nothing = np.zeros(0, dtype=np.int64)
    for swaps in (
        swap_windows(nothing, nothing, np.full(5, -1)),
        swap_windows(np.array([0, 1]), np.array([0, 1]), np.full(2, -1)),
    ):
        assert [len(values) for values in vars(swaps).values()] == [0] * 5


def batch_of(clip_BTHWC: torch.Tensor, mask_BTHW: torch.Tensor) -> ClipBatch:
    number_B = torch.arange(len(clip_BTHWC))
    return ClipBatch(clip_BTHWC, mask_BTHW, mask_BTHW.flatten(1).any(1), None, number_B, number_B, 0 * number_B)


def test_the_human_stands_before_the_other_clip_s_background_without_the_other_human() -> None:
    random = torch.Generator().manual_seed(0)
    human_BTHWC, wanted_BTHWC = (
        torch.randint(0, 256, (2, 1, 32, 32, 3), dtype=torch.uint8, generator=random).repeat(1, 8, 1, 1, 1)
        for _ in range(2)
    )
    human_BTHW, other_BTHW = (torch.zeros(2, 8, 32, 32, dtype=torch.bool) for _ in range(2))
    for frame in range(8):
        human_BTHW[:, frame, 5:28, 20 - frame : 26 - frame] = True
        other_BTHW[:, frame, 8:24, 3 * frame : 3 * frame + 5] = True
    background_BTHWC = wanted_BTHWC.masked_fill(other_BTHW[..., None], 255)
    swapped_BTHWC = swap_background(batch_of(human_BTHWC, human_BTHW), batch_of(background_BTHWC, other_BTHW))
    assert torch.equal(swapped_BTHWC[human_BTHW], human_BTHWC[human_BTHW])
    assert torch.equal(swapped_BTHWC[~human_BTHW], wanted_BTHWC[~human_BTHW])


def test_swapped_batches_keep_the_labels_and_numbers_of_the_human(plain_test: Path) -> None:
    dataset = ShardDataset.open(plain_test)
    human_K, background_K = np.array([0, 4, 9]), np.array([1, 5, 2])

    def loader(order: np.ndarray) -> EvalLoader:
        return EvalLoader(dataset, CLIP, batch_size=2, order=order)

    batches = list(swapped_batches(loader(human_K), loader(background_K)))
    pairs = list(zip(loader(human_K), loader(background_K), strict=True))
    assert [int(sample) for batch in batches for sample in batch.sample_B] == human_K.tolist()
    for batch, (human, background) in zip(batches, pairs, strict=True):
        assert torch.equal(batch.label_B, human.label_B)
        assert human.mask_BTHW is not None
        assert background.mask_BTHW is not None
        filled_BTHWC = fill_in_background(background.clip_BTHWC, background.mask_BTHW)
        assert torch.equal(batch.clip_BTHWC[human.mask_BTHW], human.clip_BTHWC[human.mask_BTHW])
        assert torch.equal(batch.clip_BTHWC[~human.mask_BTHW], filled_BTHWC[~human.mask_BTHW])


def test_humans_and_backgrounds_that_do_not_pair_up_are_an_error() -> None:
    batch = batch_of(torch.zeros(1, 2, 8, 8, 3, dtype=torch.uint8), torch.zeros(1, 2, 8, 8, dtype=torch.bool))
    with pytest.raises(ValueError, match="shorter"):
        list(swapped_batches([batch, batch], [batch]))


def test_a_still_clip_repeats_the_middle_frame() -> None:
    clip_BTHWC = torch.arange(2 * 5, dtype=torch.uint8).view(2, 5, 1, 1, 1).expand(2, 5, 4, 4, 3)
    still_BTHWC = still(clip_BTHWC)
    assert still_BTHWC.shape == clip_BTHWC.shape
    assert still_BTHWC.is_contiguous()
    assert (still_BTHWC[0] == 2).all()
    assert (still_BTHWC[1] == 7).all()
