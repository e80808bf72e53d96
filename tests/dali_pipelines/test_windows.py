"""What must hold of the windows that are cut from clips."""

import dataclasses
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torchvision.transforms import v2 as transforms

from dali_pipelines.windows import (
    ClipConfig,
    EvaluationWindows,
    ProtocolConfig,
    draw_training_windows,
    frame_indices,
)
from shards.order import rank_share

ranges = st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)).map(lambda pair: tuple(sorted(pair)))
clip_configs = st.builds(
    ClipConfig,
    frames=st.integers(1, 20),
    stride=st.integers(1, 4),
    stride_range=st.none() | st.tuples(st.integers(1, 4), st.integers(4, 9)),
    size=st.just(32),
    scales=st.lists(st.floats(0.01, 1), min_size=1, max_size=3).map(tuple),
    crop_area=st.none() | ranges,
    crop_aspect=st.tuples(st.floats(0.05, 1), st.floats(1, 20)),
    flip_probability=st.floats(0, 1),
)
frame_counts = st.lists(st.integers(1, 200), min_size=1, max_size=20).map(np.array)


def sizes_for(counts: np.ndarray) -> np.ndarray:
    return np.random.default_rng(len(counts)).integers(16, 300, (len(counts), 2))


def draw(config: ClipConfig, counts: np.ndarray, *, seed: int = 0, epoch: int = 0):
    return draw_training_windows(
        config,
        seed=seed,
        epoch=epoch,
        sample_B=np.arange(len(counts)),
        frame_count_B=counts,
        frame_size_B2=sizes_for(counts),
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("frames", 0),
        ("stride", 0),
        ("stride_range", (0, 2)),
        ("stride_range", (3, 2)),
        ("size", 0),
        ("scales", ()),
        ("scales", (0.0,)),
        ("scales", (1.5,)),
        ("crop_area", (0.0, 1.0)),
        ("crop_area", (0.5, 0.4)),
        ("crop_area", (0.5, 1.1)),
        ("crop_area", (float("nan"), 1.0)),
        ("crop_aspect", (0.0, 1.0)),
        ("crop_aspect", (2.0, 1.0)),
        ("crop_aspect", (1.0, float("inf"))),
        ("flip_probability", -0.1),
        ("flip_probability", 1.1),
    ],
)
def test_config_errors_name_the_field(field, value):
    with pytest.raises(ValueError, match=field):
        ClipConfig(**{field: value})


@given(clip_configs, frame_counts, st.integers(0, 5))
def test_training_windows_lie_inside_frame_and_clip(config, counts, epoch):
    windows = draw(config, counts, epoch=epoch)
    heights, widths = sizes_for(counts).T
    assert (windows.height_B >= 1).all()
    assert (windows.width_B >= 1).all()
    assert (windows.top_B >= 0).all()
    assert (windows.left_B >= 0).all()
    assert (windows.top_B + windows.height_B <= heights).all()
    assert (windows.left_B + windows.width_B <= widths).all()
    frames = windows.start_frame_B[:, None] + np.arange(config.frames) * windows.stride_B[:, None]
    long_enough = counts > (config.frames - 1) * (config.stride_range or [config.stride])[0]
    assert (frames[long_enough] < counts[long_enough, None]).all()
    assert (windows.start_frame_B[~long_enough] == 0).all()


@given(clip_configs, frame_counts)
def test_draws_do_not_depend_on_the_rest_of_the_batch(config, counts):
    whole = draw(config, counts, seed=3, epoch=2)
    sizes = sizes_for(counts)
    for sample in range(len(counts)):
        alone = draw_training_windows(
            config,
            seed=3,
            epoch=2,
            sample_B=np.array([sample]),
            frame_count_B=counts[[sample]],
            frame_size_B2=sizes[[sample]],
        )
        for name, values in vars(whole[sample : sample + 1]).items():
            np.testing.assert_array_equal(values, getattr(alone, name))


def test_every_scale_position_flip_and_start_is_drawn_about_equally_often():
    config = ClipConfig(frames=8)
    count = 20_000
    windows = draw_training_windows(
        config,
        seed=1,
        epoch=0,
        sample_B=np.arange(count),
        frame_count_B=np.full(count, 11),
        frame_size_B2=np.tile([128, 171], (count, 1)),
    )
    assert windows.height_B.tolist() == windows.width_B.tolist()
    sides, side_counts = np.unique(windows.height_B, return_counts=True)
    assert sides.tolist() == [round(128 * 2 ** (-k / 4)) for k in (4, 3, 2, 1, 0)]
    assert side_counts == pytest.approx(count / 5, rel=0.08)
    half = windows.height_B == 64
    corners, corner_counts = np.unique(
        np.stack([windows.top_B[half], windows.left_B[half]]), axis=1, return_counts=True
    )
    assert set(map(tuple, corners.T.tolist())) == {(0, 0), (0, 107), (64, 0), (64, 107), (32, 53)}
    assert corner_counts == pytest.approx(half.sum() / 5, rel=0.15)
    assert windows.flip_B.mean() == pytest.approx(0.5, abs=0.02)
    assert np.bincount(windows.start_frame_B) == pytest.approx(np.full(4, count / 4), rel=0.08)


def test_without_an_area_the_windows_are_those_of_before_there_were_any():
    """A run that began with an earlier version goes on with the same crops."""
    windows = draw(ClipConfig(), np.array([20, 60, 200]), seed=7, epoch=3)
    told = np.stack([windows.start_frame_B, windows.top_B, windows.left_B, windows.height_B, windows.flip_B])
    assert told.tolist() == [[1, 0, 154], [0, 13, 0], [0, 22, 88], [34, 39, 67], [1, 1, 1]]


@pytest.mark.parametrize(("area", "aspect"), [((0.08, 1.0), (3 / 4, 4 / 3)), ((0.5, 0.5), (0.5, 0.5))])
def test_random_resized_crops_are_those_of_torchvision(area, aspect):
    """Of the same distribution: areas, aspects and places."""
    count, height, width = 4000, 128, 171
    windows = draw_training_windows(
        ClipConfig(crop_area=area, crop_aspect=aspect),
        seed=1,
        epoch=0,
        sample_B=np.arange(count),
        frame_count_B=np.full(count, 40),
        frame_size_B2=np.tile([height, width], (count, 1)),
    )
    crop = transforms.RandomResizedCrop(112, scale=area, ratio=aspect)
    frame = torch.empty(3, height, width)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        drawn = [crop.make_params([frame]) for _ in range(count)]
    for ours_B, name in zip(
        (windows.top_B, windows.left_B, windows.height_B, windows.width_B),
        ("top", "left", "height", "width"),
        strict=True,
    ):
        assert stats.ks_2samp(ours_B, [params[name] for params in drawn]).pvalue > 1e-3
    aspect_B = windows.width_B / windows.height_B
    assert stats.ks_2samp(aspect_B, [params["width"] / params["height"] for params in drawn]).pvalue > 1e-3


def test_what_no_crop_fits_is_cropped_in_the_centre_as_far_as_its_aspect_allows():
    config = ClipConfig(crop_area=(1.0, 1.0), crop_aspect=(1.0, 1.0))
    windows = draw(config, np.full(30, 60))
    sizes = sizes_for(np.full(30, 60))
    assert windows.height_B.tolist() == windows.width_B.tolist() == sizes.min(axis=1).tolist()
    assert windows.top_B.tolist() == ((sizes[:, 0] - windows.height_B) // 2).tolist()
    assert windows.left_B.tolist() == ((sizes[:, 1] - windows.width_B) // 2).tolist()


def test_draws_differ_between_epochs_and_seeds():
    counts = np.full(100, 60)
    first = draw(ClipConfig(), counts)
    assert (first.start_frame_B != draw(ClipConfig(), counts, epoch=1).start_frame_B).mean() > 0.8
    assert (first.start_frame_B != draw(ClipConfig(), counts, seed=1).start_frame_B).mean() > 0.8


def test_flip_probability_bounds_are_exact():
    counts = np.full(500, 60)
    assert not draw(ClipConfig(flip_probability=0.0), counts).flip_B.any()
    assert draw(ClipConfig(flip_probability=1.0), counts).flip_B.all()


@given(clip_configs, frame_counts)
def test_evaluation_windows_do_not_overlap_and_leave_no_room_for_another(config, counts):
    windows = EvaluationWindows(config, counts, sizes_for(counts))[:]
    assert (np.diff(windows.sample_B) >= 0).all()
    for sample, count in enumerate(counts):
        starts = windows.start_frame_B[windows.sample_B == sample]
        assert windows.window_B[windows.sample_B == sample].tolist() == list(range(len(starts)))
        assert starts[0] == 0
        assert (np.diff(starts) >= config.frames * config.stride).all()
        assert len(starts) == 1 or starts[-1] + config.span <= count
        assert starts[-1] + config.frames * config.stride + config.span > count


@pytest.mark.parametrize(("field", "value"), [("test_clips", 0), ("test_crops", 2)])
def test_protocol_errors_name_the_field(field, value):
    with pytest.raises(ValueError, match=field):
        ProtocolConfig(**{field: value})


@given(clip_configs, frame_counts, st.integers(1, 12))
def test_so_many_evaluation_windows_lie_evenly_from_the_first_frame_to_the_last(config, counts, test_clips):
    windows = EvaluationWindows(config, counts, sizes_for(counts), ProtocolConfig(test_clips=test_clips))[:]
    for sample, count in enumerate(counts.tolist()):
        starts = windows.start_frame_B[windows.sample_B == sample]
        room = max(count - config.span, 0)
        assert len(starts) == min(test_clips, room + 1)
        even = [room / 2] if test_clips == 1 else np.linspace(0, room, len(starts))
        assert np.abs(starts - even).max() < 1
        assert len(set(starts.tolist())) == len(starts)
        assert test_clips == 1 or starts[[0, -1]].tolist() == [0, room]


@given(clip_configs, frame_counts, st.none() | st.integers(1, 5))
def test_three_crops_of_the_same_frames_follow_each_other_along_the_longer_side(config, counts, test_clips):
    sizes = sizes_for(counts)
    centre = EvaluationWindows(config, counts, sizes, ProtocolConfig(test_clips=test_clips))[:]
    three = EvaluationWindows(config, counts, sizes, ProtocolConfig(test_clips=test_clips, test_crops=3))[:]
    assert three.sample_B.tolist() == centre.sample_B.repeat(3).tolist()
    assert three.start_frame_B.tolist() == centre.start_frame_B.repeat(3).tolist()
    assert three.height_B.tolist() == three.width_B.tolist() == centre.height_B.repeat(3).tolist()
    assert three.height_B.tolist() == sizes[three.sample_B].min(axis=1).tolist()
    room_B2 = sizes[centre.sample_B] - centre.height_B[:, None]
    corner_B32 = np.stack([three.top_B, three.left_B], axis=-1).reshape(-1, 3, 2)
    assert not corner_B32[:, 0].any()
    assert corner_B32[:, 1].tolist() == (room_B2 // 2).tolist()
    assert corner_B32[:, 2].tolist() == room_B2.tolist()
    for sample in range(len(counts)):
        numbers = three.window_B[three.sample_B == sample]
        assert numbers.tolist() == list(range(len(numbers)))


@given(clip_configs, frame_counts, st.data())
def test_windows_by_their_numbers_are_those_of_the_whole(config, counts, data):
    windows = EvaluationWindows(config, counts, sizes_for(counts), ProtocolConfig(test_clips=3, test_crops=3))
    numbers = np.array(data.draw(st.lists(st.integers(0, len(windows) - 1), max_size=20)), dtype=np.int64)
    whole, taken = windows[:], windows[numbers]
    for field in dataclasses.fields(taken):
        np.testing.assert_array_equal(getattr(taken, field.name), getattr(whole, field.name)[numbers])
    np.testing.assert_array_equal(windows.samples(numbers), taken.sample_B)


@given(clip_configs, frame_counts, st.data())
def test_any_slice_of_the_evaluation_windows_is_that_of_a_plain_list(config, counts, data):
    sizes = sizes_for(counts)
    listed = []
    for sample, (count, (height, width)) in enumerate(zip(counts.tolist(), sizes.tolist(), strict=True)):
        side, start, window = min(height, width), 0, 0
        while window == 0 or start + config.span <= count:
            listed.append(
                (sample, window, 0, start, config.stride, (height - side) // 2, (width - side) // 2, side, side, False)
            )
            start, window = start + config.frames * config.stride, window + 1
    windows = EvaluationWindows(config, counts, sizes)
    assert len(windows) == len(listed)
    bound = st.none() | st.integers(-len(listed) - 2, len(listed) + 2)
    part = slice(data.draw(bound), data.draw(bound), data.draw(st.none() | st.integers(1, 5)))
    taken = windows[part]
    columns = [getattr(taken, field.name) for field in dataclasses.fields(taken)]
    assert list(zip(*(column.tolist() for column in columns), strict=True)) == listed[part]


@given(clip_configs, frame_counts, st.integers(1, 1024), st.integers(1, 64))
@settings(deadline=None, max_examples=25)
def test_evaluation_windows_come_exactly_once_over_all_ranks(config, counts, world_size, batch_size):
    windows = EvaluationWindows(config, counts, sizes_for(counts))
    seen = []
    for rank in range(world_size):
        share = rank_share(range(len(windows)), rank, world_size)
        for start in range(0, len(share), batch_size):
            batch = share[start : start + batch_size]
            taken = windows[batch.start : batch.stop]
            seen += zip(taken.sample_B.tolist(), taken.window_B.tolist(), strict=True)
    whole = windows[:]
    assert seen == list(zip(whole.sample_B.tolist(), whole.window_B.tolist(), strict=True))


def test_evaluation_windows_of_many_clips_take_one_number_a_clip():
    counts, sizes = np.full(200_000, 400), np.broadcast_to(np.array([128, 171]), (200_000, 2))
    tracemalloc.start()
    windows = EvaluationWindows(ClipConfig(), counts, sizes)
    held_bytes = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(windows) == 5_000_000
    assert held_bytes < 9 * len(counts)


def test_evaluation_crop_is_the_centre_square():
    windows = EvaluationWindows(ClipConfig(), np.array([16]), np.array([[128, 171]]))[:]
    assert windows.rois().tolist() == [[[0, 21], [128, 149]]]
    assert not windows.flip_B.any()


@given(clip_configs, frame_counts)
def test_short_clips_loop(config, counts):
    windows = draw(config, counts)
    frames = frame_indices(config, windows, counts)
    assert frames.shape == (len(counts), config.frames)
    stride = (config.stride_range or [config.stride])[0]
    for row, count in zip(frames, counts, strict=True):
        assert (row < count).all()
        if count < (config.frames - 1) * stride + 1:
            assert row.tolist() == [(k * stride) % count for k in range(config.frames)]


def test_strides_are_drawn_evenly_from_their_range_as_far_as_the_clip_has_the_frames():
    config, clips = ClipConfig(frames=8, stride_range=(2, 5)), 8000
    for frame_count, wanted in ((200, [2, 3, 4, 5]), (30, [2, 3, 4]), (29, [2, 3, 4]), (28, [2, 3]), (9, [2])):
        windows = draw(config, np.full(clips, frame_count))
        strides, counts = np.unique(windows.stride_B, return_counts=True)
        assert strides.tolist() == wanted
        assert counts == pytest.approx(clips / len(wanted), rel=0.08)
    assert (draw(ClipConfig(stride=3), np.full(9, 20)).stride_B == 3).all()
    evaluated = EvaluationWindows(ClipConfig(stride=3, stride_range=(1, 2)), np.array([90]), np.array([[48, 64]]))[:]
    assert (evaluated.stride_B == 3).all()


def test_a_mirrored_square_runs_from_right_to_left():
    plain = draw(ClipConfig(flip_probability=0.0), np.full(50, 60)).rois()
    mirrored = draw(ClipConfig(flip_probability=1.0), np.full(50, 60)).rois()
    np.testing.assert_array_equal(mirrored[:, ::-1, 1], plain[:, :, 1])
    np.testing.assert_array_equal(mirrored[:, :, 0], plain[:, :, 0])
