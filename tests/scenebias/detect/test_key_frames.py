"""Key frames: which there are, what is shown around them, and where their boxes come to lie."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dali_pipelines.windows import ClipConfig
from scenebias.detect.key_frames import (
    InputConfig,
    KeyFrames,
    Placement,
    read_windows,
    training_window,
    window_frames,
)
from shards.dataset import ShardDataset
from shards.errors import UserError
from shards.format.truth import Truth
from tests.scenebias.detect.rectangles import CLASSES, CLIP, FRAMES, rectangle_sample, write_rectangles
from tools.trials.ready_samples import write_samples

SIZES = st.tuples(st.integers(16, 300), st.integers(16, 300))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> ShardDataset:
    return write_rectangles(tmp_path_factory.mktemp("rectangles"), 4)


@pytest.mark.parametrize("every", [1, 5, 100])
def test_every_frame_of_the_videos_that_have_boxes_is_in_one_group_of_neighbours(
    dataset: ShardDataset, every: int
) -> None:
    key_frames = KeyFrames.of(dataset, every)
    assert np.unique(key_frames.video_K).tolist() == [0, 1, 3, 4, 5]  # nobody looked at clip 2
    for video in np.unique(key_frames.video_K):
        groups = [key_frames.frames[number] for number in np.flatnonzero(key_frames.video_K == video)]
        assert np.concatenate(groups).tolist() == list(range(FRAMES))
        assert all(len(group) <= every for group in groups)
    assert len(key_frames) == 5 * -(-FRAMES // every)


def test_frames_of_which_nothing_is_known_are_no_key_frames(tmp_path: Path) -> None:
    sample = rectangle_sample(0)
    rows = sample.truth.boxes
    assert rows is not None
    known = Truth(boxes=rows[[2, 7]], key_frames_only=True)
    write_samples(tmp_path, [replace(sample, truth=known, info=replace(sample.info, key_frames_only=True))], CLASSES)
    key_frames = KeyFrames.of(ShardDataset.open(tmp_path))
    assert key_frames.first_K.tolist() == [2, 7]


def test_data_without_boxes_are_refused(tiny_dataset: Path) -> None:
    with pytest.raises(UserError, match=r"tiny.*has no boxes of actors"):
        KeyFrames.of(ShardDataset.open(tiny_dataset))


def test_each_epoch_shows_another_frame_of_a_group_and_always_the_same_one(dataset: ShardDataset) -> None:
    key_frames = KeyFrames.of(dataset, 5)
    drawn = [[key_frames.drawn(number, 7, epoch) for epoch in range(30)] for number in range(len(key_frames))]
    assert drawn == [[key_frames.drawn(n, 7, epoch) for epoch in range(30)] for n in range(len(key_frames))]
    assert [set(frames) for frames in drawn] == [set(group.tolist()) for group in key_frames.frames]


@given(st.integers(1, 9), st.integers(1, 4), st.integers(1, 40), st.data())
def test_the_key_frame_is_in_the_middle_and_the_ends_are_repeated(
    frames: int, stride: int, frame_count: int, data: st.DataObject
) -> None:
    frame = data.draw(st.integers(0, frame_count - 1))
    (window_T,) = window_frames(np.array([frame]), ClipConfig(frames=frames, stride=stride), frame_count).tolist()
    assert window_T[frames // 2] == frame
    for place, shown in enumerate(window_T):
        assert shown == min(max(frame + (place - frames // 2) * stride, 0), frame_count - 1)


@given(SIZES, SIZES, st.booleans(), st.lists(st.floats(0, 1), min_size=4, max_size=4))
def test_boxes_come_back_from_the_input_and_frames_keep_their_shape(
    frame_size: tuple[int, int], input_size: tuple[int, int], mirrored: bool, shares: list[float]
) -> None:
    placement = Placement.within(frame_size, input_size, mirrored)
    rows, columns = placement.shown_size
    assert rows == input_size[0] or columns == input_size[1]
    assert abs(rows / frame_size[0] - columns / frame_size[1]) <= 0.5 / min(frame_size)
    (top, bottom), (left, right) = sorted(shares[:2]), sorted(shares[2:])
    box_14 = torch.tensor([[left, top, right, bottom]]) * torch.tensor([*frame_size[::-1]] * 2)
    shown_14 = placement.to_input(box_14)
    assert (shown_14 >= -1e-3).all()
    assert (shown_14 <= torch.tensor([columns, rows] * 2) + 1e-3).all()
    assert (shown_14[0, 2:] >= shown_14[0, :2]).all()
    torch.testing.assert_close(placement.to_frame(shown_14), box_14, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize(
    ("flip_probability", "config"),
    [
        (0.0, InputConfig()),
        (1.0, InputConfig()),
        (1.0, InputConfig(input_height=96, input_width=160)),
        (0.0, InputConfig(input_height=96, input_width=64)),
    ],
)
def test_the_boxes_of_a_training_window_are_where_its_actor_is(
    dataset: ShardDataset, flip_probability: float, config: InputConfig
) -> None:
    key_frames, clip = KeyFrames.of(dataset, FRAMES), replace(CLIP, flip_probability=flip_probability)
    for number in range(4):
        window = training_window(key_frames, number, clip, config, seed=0, epoch=number)
        assert window.clip_THWC.shape == (CLIP.frames, *config.size(CLIP), 3)
        key_frame_HWC = window.clip_THWC[CLIP.frames // 2].numpy()
        bright_HW = key_frame_HWC.max(axis=-1) > 150
        (ys, xs), scale = np.nonzero(bright_HW), config.size(CLIP)[0] / 48
        found = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
        np.testing.assert_allclose(window.truth.box_N4.numpy(), [found], atol=scale + 0.5)
        assert key_frame_HWC[bright_HW].mean(axis=0).argmax() == int(window.truth.label_N)


def test_windows_of_one_video_are_those_of_each_key_frame_alone(dataset: ShardDataset) -> None:
    placement, frame_N = Placement.within((48, 64), (32, 48)), np.array([0, 3, 4, FRAMES - 1])
    together_NTHWC = read_windows(dataset, 0, frame_N, placement, CLIP, (32, 48))
    for frame, window_THWC in zip(frame_N, together_NTHWC, strict=True):
        assert torch.equal(window_THWC[None], read_windows(dataset, 0, np.array([frame]), placement, CLIP, (32, 48)))
    assert (together_NTHWC[:, :, :, -4:] == torch.tensor([110, 101, 96])).all()  # 43 columns are filled


@pytest.mark.parametrize("options", [{"input_height": 8}, {"input_width": 0}])
def test_options_out_of_range_are_refused(options: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        InputConfig(**options)
