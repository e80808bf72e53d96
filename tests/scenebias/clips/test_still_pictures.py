"""SCUBA and SCUFO are what the paper and its code say.

Shape suffixes: B clips, T frames, H rows, W columns, C channels.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dali_pipelines import ClipBatch
from scenebias.clips import still_pictures
from scenebias.clips.still_pictures import STRIPES, backdrop_of, conflicting_foreground, scuba, scufo, stripes
from shards.errors import UserError


def drawn_with(draws: list[float]) -> np.ndarray:
    """The stripes of these uniform numbers, int (256, 256, 3)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(still_pictures, "uniform", lambda *keys: np.array(draws))
        return np.asarray(stripes(0, seed=0)).astype(int)


def restated(draws: list[float]) -> np.ndarray:
    """The same without a turn, stripe by stripe on the whole square as in the authors' code, which then crops it."""
    r, g, b, width, gap, period, shift, height, _ = draws
    half_width, frequency = 5 + 15 * width, 2 * np.pi / (period * 1000 + 4)
    distance, phase, amplitude = (3 + 2 * gap) * half_width, (shift * 200 - 100) * frequency, 10 + height * 100
    picture = np.tile([r, g, b], (384, 384, 1))
    for x in range(384):
        middle = amplitude * np.sin(frequency * x + phase) + 128
        for number in range(-20, 60):
            striped_Y = np.abs(np.arange(384) - (middle + number * distance)) < half_width
            picture[striped_Y, x] = [1 - r, 1 - g, 1 - b]
    return np.uint8(picture[64:320, 64:320] * 255).astype(int)


def test_stripes_are_drawn_as_published() -> None:
    for draws in ([0.1, 0.7, 0.4, 0.0, 0.2, 0.05, 0.3, 0.9, 0.0], [0.9, 0.2, 0.5, 0.9, 0.9, 0.6, 0.8, 0.1, 0.0]):
        differs = (drawn_with(draws) != restated(draws)).any(axis=2)
        assert differs.mean() < 1e-3  # pixels that lie on an edge


def test_stripes_are_turned_about_the_middle() -> None:
    draws = [0.1, 0.7, 0.4, 0.3, 0.2, 0.05, 0.3, 0.9]
    straight, quarter, half = (drawn_with([*draws, turn]) for turn in (0.0, 0.25, 0.5))
    assert (half != straight[::-1, ::-1]).mean() < 1e-3
    assert min((quarter != np.rot90(straight, times)).mean() for times in (1, 3)) < 1e-3


@given(sample=st.integers(0, 10**6), seed=st.integers(0, 10**6))
@settings(max_examples=20)
def test_stripes_have_two_complementary_colours_and_follow_from_seed_and_sample(sample: int, seed: int) -> None:
    picture_HWC = np.asarray(stripes(sample, seed=seed)).astype(int)
    colours = np.unique(picture_HWC.reshape(-1, 3), axis=0)
    assert len(colours) == 2
    assert (np.abs(colours.sum(axis=0) - 255) <= 1).all()
    share = (picture_HWC == colours[0]).all(axis=2).mean()
    assert 0.25 < share < 0.75
    assert np.array_equal(picture_HWC, np.asarray(stripes(sample, seed=seed)))
    assert not np.array_equal(picture_HWC, np.asarray(stripes(sample, seed=seed + 1)))
    assert not np.array_equal(picture_HWC, np.asarray(stripes(sample + 1, seed=seed)))


def random_batch(clips: int = 3, frames: int = 6) -> ClipBatch:
    random = torch.Generator().manual_seed(0)
    return ClipBatch(
        clip_BTHWC=torch.randint(0, 256, (clips, frames, 20, 28, 3), dtype=torch.uint8, generator=random),
        mask_BTHW=torch.rand(clips, frames, 20, 28, generator=random) < 0.3,
        has_mask_B=torch.ones(clips, dtype=torch.bool),
        scene_BS=None,
        label_B=torch.zeros(clips, dtype=torch.int64),
        sample_B=torch.arange(clips) + 7,
        window_B=torch.arange(clips) % 2,
    )


def test_people_stand_before_the_same_picture_in_every_frame() -> None:
    batch, backdrop = random_batch(), backdrop_of(STRIPES, seed=5)
    clip_BTHWC = scuba(batch, backdrop)
    assert batch.mask_BTHW is not None
    for clip, (shown_THWC, mask_THW) in enumerate(zip(clip_BTHWC, batch.mask_BTHW, strict=True)):
        wanted_HWC = torch.from_numpy(np.array(backdrop(7 + clip).resize((28, 20))))
        for frame in range(len(shown_THWC)):
            assert torch.equal(shown_THWC[frame][mask_THW[frame]], batch.clip_BTHWC[clip, frame][mask_THW[frame]])
            assert torch.equal(shown_THWC[frame][~mask_THW[frame]], wanted_HWC[~mask_THW[frame]])


def test_scufo_repeats_one_frame_of_scuba_that_its_own_keys_draw() -> None:
    batch, backdrop = random_batch(40), backdrop_of(STRIPES, seed=5)
    moving_BTHWC, still_BTHWC = scuba(batch, backdrop), scufo(batch, backdrop, seed=5)
    assert still_BTHWC.is_contiguous()
    assert (still_BTHWC == still_BTHWC[:, :1]).all()
    same_BT = (moving_BTHWC == still_BTHWC).flatten(start_dim=2).all(dim=2)
    assert (same_BT.sum(dim=1) == 1).all()
    assert same_BT.any(dim=0).all()  # any frame may be it
    alone = ClipBatch(
        **{
            name: None if value is None else value if isinstance(value, int) else value[3:4]
            for name, value in vars(batch).items()
        }
    )
    assert torch.equal(scufo(alone, backdrop, seed=5), still_BTHWC[3:4])


def test_the_still_person_of_conflfg_is_one_frame_of_the_other_behind_who_moves() -> None:
    """Of the other clips one shows nobody, and another somebody in a single frame."""
    batch, backdrop = random_batch(20), backdrop_of(STRIPES, seed=5)
    other = replace(batch, clip_BTHWC=batch.clip_BTHWC.flip(0), mask_BTHW=torch.rand(batch.clip_BTHWC.shape[:4]) < 0.2)
    assert batch.mask_BTHW is not None
    assert other.mask_BTHW is not None
    other.mask_BTHW[0] = False
    other.mask_BTHW[1, [0, 1, 2, 4, 5]] = False
    shown_BTHWC, before_BTHWC = conflicting_foreground(batch, other, backdrop, seed=5), scuba(batch, backdrop)
    drawn = []
    for clip in range(20):
        person_THWC, person_THW = other.clip_BTHWC[clip], other.mask_BTHW[clip]
        found = []
        for frame in range(6):
            wanted_THWC = before_BTHWC[clip].clone()
            wanted_THWC[:, person_THW[frame]] = person_THWC[frame][person_THW[frame]]
            moving_THW = batch.mask_BTHW[clip]
            wanted_THWC[moving_THW] = batch.clip_BTHWC[clip][moving_THW]
            found += [frame] * torch.equal(wanted_THWC, shown_BTHWC[clip])
        drawn.append(found)
    assert drawn[0] == list(range(6))  # nobody is put in, whichever frame it is
    assert drawn[1] == [3]
    assert {frame for found in drawn[2:] for frame in found} == set(range(6))
    assert all(len(found) == 1 for found in drawn[1:])


def test_pictures_of_a_folder_are_drawn_by_seed_and_sample(tmp_path: Path) -> None:
    for number in range(4):
        path = tmp_path / ("a" if number % 2 else "b/c") / f"{number}.{'png' if number else 'JPG'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (9, 7), 60 * number).save(path)
    (tmp_path / "notes.txt").write_text("no picture")
    first, again, other = (backdrop_of(str(tmp_path), seed=seed) for seed in (1, 1, 2))

    def greys(backdrop) -> list[int]:
        return [round(np.asarray(backdrop(sample)).mean() / 60) for sample in range(60)]

    assert set(greys(first)) == {0, 1, 2, 3}
    assert greys(first) == greys(again) != greys(other)
    assert first(0).mode == "RGB"


def test_a_folder_without_pictures_and_a_damaged_picture_are_named(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UserError, match=f"{folder} is no folder of pictures.*or the word stripes"):
            backdrop_of(str(folder), seed=0)
    (tmp_path / "a.png").write_bytes(b"none")
    with pytest.raises(UserError, match=r"a\.png: cannot be read as a picture"):
        backdrop_of(str(tmp_path), seed=0)(0)
