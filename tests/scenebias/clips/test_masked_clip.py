"""The human-masked clip against numpy."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scenebias.clips.masked_clip import (
    FILLS,
    boxes_around,
    effective_masks,
    is_effective,
    mask_out_humans,
    person_share,
    random_colours,
    random_noise,
)
from scenebias.models.action_model import MEAN_C


def random_batch(seed: int, clips: int = 3) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    clip_BTHWC = torch.randint(256, (clips, 4, 6, 5, 3), dtype=torch.uint8, generator=generator)
    mask_BTHW = torch.rand(clips, 4, 6, 5, generator=generator) < 0.4
    return clip_BTHWC, mask_BTHW, torch.arange(100, 100 + clips)


def reference(clip_BTHWC: np.ndarray, mask_BTHW: np.ndarray, fill: str) -> np.ndarray:
    """Clip by clip, frame by frame, in float64."""
    out_BTHWC = clip_BTHWC.copy()
    for clip, mask in zip(out_BTHWC, mask_BTHW, strict=True):
        for frame, where in zip(clip, mask, strict=True):
            if fill == "frame_mean":
                colour = np.floor(frame.reshape(-1, 3).astype(np.float64).mean(axis=0) + 0.5)
            elif fill == "dataset_mean":
                colour = np.round(255 * np.array(MEAN_C))
            else:
                colour = np.full(3, 255)
            frame[where] = colour
    return out_BTHWC


@settings(deadline=None)
@given(seed=st.integers(0, 2**31), fill=st.sampled_from(["frame_mean", "dataset_mean", "white"]))
def test_fills_agree_with_numpy(seed: int, fill: str) -> None:
    clip_BTHWC, mask_BTHW, sample_B = random_batch(seed)
    masked_BTHWC = mask_out_humans(clip_BTHWC, mask_BTHW, fill, sample_B=sample_B, seed=0, epoch=0)
    assert masked_BTHWC.dtype == torch.uint8
    np.testing.assert_array_equal(masked_BTHWC, reference(clip_BTHWC.numpy(), mask_BTHW.numpy(), fill))


@pytest.mark.parametrize("fill", FILLS)
def test_clip_stays_as_it_is_and_pixels_outside_the_mask_are_kept(fill: str) -> None:
    clip_BTHWC, mask_BTHW, sample_B = random_batch(0)
    before_BTHWC = clip_BTHWC.clone()
    masked_BTHWC = mask_out_humans(clip_BTHWC, mask_BTHW, fill, sample_B=sample_B, seed=0, epoch=0)
    assert torch.equal(clip_BTHWC, before_BTHWC)
    assert torch.equal(masked_BTHWC[~mask_BTHW], clip_BTHWC[~mask_BTHW])
    assert masked_BTHWC.shape == clip_BTHWC.shape


def test_random_fill_is_one_colour_a_clip_whatever_the_batch() -> None:
    clip_BTHWC, mask_BTHW, sample_B = random_batch(0, clips=4)
    whole_BTHWC = mask_out_humans(clip_BTHWC, mask_BTHW, "random", sample_B=sample_B, seed=3, epoch=2)
    for clip, mask in zip(whole_BTHWC, mask_BTHW, strict=True):
        assert len(torch.unique(clip[mask], dim=0)) == 1
    order = torch.tensor([2, 0])
    part_BTHWC = mask_out_humans(
        clip_BTHWC[order], mask_BTHW[order], "random", sample_B=sample_B[order], seed=3, epoch=2
    )
    assert torch.equal(part_BTHWC, whole_BTHWC[order])


def test_random_colours_cover_the_cube_and_change_with_seed_and_epoch() -> None:
    colour_BC = random_colours(torch.arange(20_000), seed=0, epoch=0)
    assert colour_BC.dtype == torch.uint8
    values_BC = colour_BC.double()
    assert values_BC.min() == 0
    assert values_BC.max() == 255
    torch.testing.assert_close(values_BC.mean(dim=0), torch.full((3,), 127.5).double(), atol=2.5, rtol=0)
    assert torch.corrcoef(values_BC.T).triu(1).abs().max() < 0.03
    for other in (
        random_colours(torch.arange(20_000), seed=1, epoch=0),
        random_colours(torch.arange(20_000), seed=0, epoch=1),
    ):
        assert (other == colour_BC).float().mean() < 0.02


@settings(deadline=None)
@given(frames=st.integers(1, 3), height=st.integers(1, 5), width=st.integers(1, 5), seed=st.integers(0, 2**31))
def test_noise_depends_on_seed_epoch_and_sample_alone(frames: int, height: int, width: int, seed: int) -> None:
    clip_BTHWC = torch.zeros(3, frames, height, width, 3, dtype=torch.uint8)
    sample_B = torch.tensor([7, 2**40, 11])
    noise_BTHWC = random_noise(clip_BTHWC, sample_B=sample_B, seed=seed, epoch=1)
    assert noise_BTHWC.shape == clip_BTHWC.shape
    assert noise_BTHWC.dtype == torch.uint8
    order = torch.tensor([2, 0])
    part_BTHWC = random_noise(clip_BTHWC[order] + 1, sample_B=sample_B[order], seed=seed, epoch=1)
    assert torch.equal(part_BTHWC, noise_BTHWC[order])


def test_noise_is_uniform_and_every_value_is_on_its_own() -> None:
    clip_BTHWC = torch.zeros(2, 8, 64, 64, 3, dtype=torch.uint8)

    def noise_BN(seed: int = 0, epoch: int = 0, samples: tuple[int, int] = (0, 1)) -> torch.Tensor:
        return random_noise(clip_BTHWC, sample_B=torch.tensor(samples), seed=seed, epoch=epoch).flatten(start_dim=1)

    values_BN = noise_BN()
    count = values_BN.shape[1]
    for values_N in values_BN:
        squared_deviations = (torch.bincount(values_N.int(), minlength=256) - count / 256).square()
        assert 150 < squared_deviations.sum() / (count / 256) < 380  # chi-squared of 255 degrees, five sigma
    others = [noise_BN(seed=1)[0], noise_BN(epoch=1)[0], values_BN[1], values_BN[0].roll(1), values_BN[0].roll(3)]
    for other_N in others:
        assert (values_BN[0] == other_N).double().mean().item() == pytest.approx(1 / 256, rel=0.25)  # five sigma
        assert abs(torch.corrcoef(torch.stack([values_BN[0], other_N]).double())[0, 1]) < 0.02


def test_no_two_of_many_clips_get_the_same_noise() -> None:
    noise_BTHWC = random_noise(
        torch.zeros(20_000, 1, 1, 6, 3, dtype=torch.uint8), sample_B=torch.arange(20_000), seed=0, epoch=0
    )
    assert len(noise_BTHWC.flatten(start_dim=1).unique(dim=0)) == 20_000


def test_unknown_fill_names_the_allowed_ones() -> None:
    clip_BTHWC, mask_BTHW, sample_B = random_batch(0)
    with pytest.raises(
        ValueError, match="fill must be one of frame_mean, dataset_mean, white, random, noise, not 'black'"
    ):
        mask_out_humans(clip_BTHWC, mask_BTHW, "black", sample_B=sample_B, seed=0, epoch=0)


@settings(deadline=None)
@given(frame_count=st.integers(1, 64), data=st.data())
def test_person_share_counts_frames_and_decides_which_masks_are_effective(
    frame_count: int, data: st.DataObject
) -> None:
    person_frames = data.draw(st.integers(0, frame_count))
    mask_BTHW = torch.zeros(1, frame_count, 3, 4, dtype=torch.bool)
    mask_BTHW[0, torch.randperm(frame_count)[:person_frames], 1, 2] = True
    assert person_share(mask_BTHW).item() == pytest.approx(person_frames / frame_count)
    percent = data.draw(st.integers(0, 100))
    assert effective_masks(mask_BTHW, percent / 100).item() == (100 * person_frames >= percent * frame_count)


@pytest.mark.parametrize("dtypes", [(np.float32,), (np.float64,), (np.float32, np.float64)], ids=str)
def test_a_share_is_effective_exactly_where_whole_numbers_say_so(dtypes: tuple[type, ...]) -> None:
    """The fewest frames that suffice, and one less, of every number of frames up to 5000, for every per cent.

    A share that was float32 once may be float64 now, and a little below its decimal value.
    """
    frame_count_N = np.arange(1, 5001)
    for percent in range(1, 101):
        sufficient_N = -(-percent * frame_count_N // 100)
        enough_N, short_N = ((sufficient_N - less) / frame_count_N for less in (0, 1))
        for shares_N, wanted in ((enough_N, True), (short_N, False)):
            for dtype in dtypes:
                shares_N = shares_N.astype(dtype)
            for given_N in (shares_N, torch.from_numpy(shares_N)):
                found_N = is_effective(given_N, percent / 100)
                assert (found_N == wanted).all(), (percent, frame_count_N[np.asarray(found_N) != wanted])


def test_masks_are_effective_exactly_where_whole_numbers_say_so() -> None:
    """Any number of frames with a person, of any number up to 80, for every per cent."""
    for frame_count in range(1, 81):
        mask_BTHW = torch.ones(frame_count + 1, frame_count, dtype=torch.bool).tril(-1)[..., None, None]
        person_frames_B = np.arange(frame_count + 1)
        for percent in range(101):
            found_B = effective_masks(mask_BTHW, percent / 100)
            assert found_B.tolist() == (100 * person_frames_B >= percent * frame_count).tolist(), (frame_count, percent)


@settings(deadline=None)
@given(seed=st.integers(0, 2**31), share=st.floats(0, 0.2))
def test_a_box_reaches_from_the_first_to_the_last_row_and_column_of_the_mask(seed: int, share: float) -> None:
    mask_BTHW = torch.rand(2, 3, 7, 9, generator=torch.Generator().manual_seed(seed)) < share
    wanted_BTHW = torch.zeros_like(mask_BTHW)
    for mask_HW, wanted_HW in zip(mask_BTHW.flatten(0, 1), wanted_BTHW.flatten(0, 1), strict=True):
        rows, columns = np.nonzero(mask_HW.numpy())
        if len(rows):
            wanted_HW[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = True
    assert torch.equal(boxes_around(mask_BTHW), wanted_BTHW)
