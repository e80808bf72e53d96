"""What must hold of the batches that reach a trainer."""

import gc
import shutil
import subprocess
import sys
import tarfile
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from dali_pipelines import decoders
from dali_pipelines.clip_decoder import ClipBatch, ClipDecoder
from dali_pipelines.loader import EvalLoader, TrainLoader
from dali_pipelines.requests import Draw
from dali_pipelines.windows import (
    ClipConfig,
    EvaluationWindows,
    ProtocolConfig,
    Windows,
    draw_training_windows,
)
from shards.dataset import ShardDataset
from shards.errors import UserError

CLIP = ClipConfig(frames=8, size=32)
FIELDS = ("clip_BTHWC", "mask_BTHW", "has_mask_B", "scene_BS", "label_B", "sample_B", "window_B")


def train_loader(dataset: ShardDataset, clip: ClipConfig = CLIP, **options) -> TrainLoader:
    return TrainLoader(dataset, clip, **{"global_batch_size": 6, "seed": 5, **options})


def assert_equal(one: ClipBatch, other: ClipBatch) -> None:
    for field in FIELDS:
        assert torch.equal(getattr(one, field), getattr(other, field)), field


def concatenate(batches: list[ClipBatch]) -> ClipBatch:
    return ClipBatch(**{field: torch.cat([getattr(batch, field) for batch in batches]) for field in FIELDS})


def test_an_epoch_has_every_clip_once_in_batches_that_differ_by_at_most_one(waves):
    loader = train_loader(waves)
    batches = list(loader.epoch(0))
    assert len(batches) == loader.steps_per_epoch == 4
    assert {len(batch.sample_B) for batch in batches} == {5, 6}
    assert sorted(torch.cat([batch.sample_B for batch in batches]).tolist()) == list(range(len(waves)))


def test_a_batch_is_what_it_says(waves):
    for batch in train_loader(waves).epoch(0):
        size = len(batch.sample_B)
        assert batch.clip_BTHWC.shape == (size, 8, 32, 32, 3)
        assert batch.clip_BTHWC.dtype == torch.uint8
        assert batch.clip_BTHWC.is_contiguous()
        assert batch.clip_BCTHW.is_contiguous(memory_format=torch.channels_last_3d)
        assert batch.mask_BTHW.shape == (size, 8, 32, 32)
        assert batch.mask_BTHW.dtype == torch.bool
        assert batch.label_B.tolist() == waves.labels[batch.sample_B].tolist()
        assert batch.scene_BS.dtype == torch.float32
        np.testing.assert_array_equal(batch.scene_BS, waves.scenes[batch.sample_B].astype(np.float32))
        assert batch.has_mask_B.tolist() == [sample != 4 for sample in batch.sample_B.tolist()]
        assert not batch.mask_BTHW[~batch.has_mask_B].any()
        assert not batch.window_B.any()


@given(
    repeats=st.integers(1, 3),
    group_size=st.integers(1, 2),
    world_size=st.integers(1, 3),
    start=st.integers(0, 2),
    epoch=st.integers(0, 1),
)
@settings(deadline=None, max_examples=15)
def test_with_repeats_every_clip_comes_so_often_in_one_step_at_any_world_size(
    waves, repeats, group_size, world_size, start, epoch
):
    options = {"global_batch_size": 8 * repeats, "repeats": repeats, "group_size": group_size}
    whole = train_loader(waves, rank=0, world_size=1, **options)
    once = train_loader(waves, global_batch_size=8, group_size=group_size)
    ranks = [train_loader(waves, rank=rank, world_size=world_size, **options) for rank in range(world_size)]
    assert len(whole) == len(once)
    plain = list(once.epoch(epoch, start))
    for step, (one, batch, *shares) in enumerate(
        zip(plain, whole.epoch(epoch, start), *(loader.epoch(epoch, start) for loader in ranks), strict=True), start
    ):
        for name in ("clip_BTHWC", "mask_BTHW", "sample_B", "showing_B", "label_B"):
            assert torch.equal(getattr(batch, name), torch.cat([getattr(share, name) for share in shares])), name
        assert len(batch.sample_B) == whole.clips_in_step(step) == repeats * once.clips_in_step(step)
        samples, counts = batch.sample_B.unique(return_counts=True)
        assert sorted(one.sample_B.tolist()) == samples.tolist()
        assert (counts == repeats).all()
        assert len(batch.showing_B.unique()) == len(batch.showing_B)
        first = torch.isin(batch.showing_B, batch.sample_B)
        assert torch.equal(batch.sample_B[first], one.sample_B)
        assert torch.equal(batch.clip_BTHWC[first], one.clip_BTHWC)


def test_a_clip_is_cut_anew_each_time_it_comes(waves):
    batches = list(train_loader(waves, global_batch_size=20, repeats=10).epoch(0))
    different = [
        len(batch.clip_BTHWC[batch.sample_B == sample].unique(dim=0))
        for batch in batches
        for sample in batch.sample_B.unique()
    ]
    assert np.mean(different) > 8


def test_repeats_that_do_not_share_out_a_batch_are_refused(waves):
    with pytest.raises(ValueError, match=r"global_batch_size must be a multiple of repeats \(4\), got 6"):
        train_loader(waves, global_batch_size=6, repeats=4)
    with pytest.raises(ValueError, match=r"got 8 for 23 clips, each 2 times: make it at least 10"):
        train_loader(waves, global_batch_size=8, repeats=2, rank=0, world_size=4)


def reference_clip(dataset: ShardDataset, windows: Windows, index: int, clip: ClipConfig) -> np.ndarray:
    """A window decoded, cut, resized and mirrored frame by frame with Pillow."""
    sample, top, left, height, width = (
        int(values[index])
        for values in (windows.sample_B, windows.top_B, windows.left_B, windows.height_B, windows.width_B)
    )
    count = dataset.frame_counts[sample]
    frames = dataset.decode(sample, dataset.read_clip(sample, np.arange(count)))
    result = []
    for step in range(clip.frames):
        frame = frames[(windows.start_frame_B[index] + step * windows.stride_B[index]) % count]
        cropped = Image.fromarray(frame[top : top + height, left : left + width])
        resized = np.asarray(cropped.resize((clip.size, clip.size), Image.Resampling.BILINEAR))
        result.append(resized[:, ::-1] if windows.flip_B[index] else resized)
    return np.stack(result)


@pytest.mark.parametrize("options", [{}, {"stride": 2}, {"stride_range": (1, 4)}, {"crop_area": (0.08, 1.0)}], ids=str)
def test_the_pixels_are_those_of_the_drawn_windows(waves, options):
    clip = ClipConfig(frames=8, size=32, **options)
    for batch in train_loader(waves, clip).epoch(3):
        sample_B = batch.sample_B.numpy()
        windows = draw_training_windows(
            clip,
            seed=5,
            epoch=3,
            sample_B=sample_B,
            frame_count_B=waves.frame_counts[sample_B],
            frame_size_B2=waves.frame_sizes[sample_B],
        )
        for index in range(len(sample_B)):
            reference = reference_clip(waves, windows, index, clip).astype(float)
            difference = np.abs(batch.clip_BTHWC[index].numpy() - reference)
            # Pillow and torch round a resize in another order; a wrong frame or flip is off by some 80 levels.
            assert difference.mean() < 0.5
            assert difference.max() <= 4


@pytest.mark.parametrize("crop_area", [None, (0.08, 1.0)], ids=["squares", "random resized crops"])
def test_a_mask_drawn_into_the_pixels_stays_on_them(make_dataset, make_sample, crop_area):
    """However a clip is cut: white where its mask is, black elsewhere, but for the outline."""
    samples, clip = [], ClipConfig(frames=8, size=32, crop_area=crop_area)
    for seed in range(8):
        ellipse = Image.new("L", (64, 48))
        ImageDraw.Draw(ellipse).ellipse((10 + seed, 8, 50, 40 - 2 * seed), fill=255)
        mask_HW = np.asarray(ellipse) > 0
        frames = np.repeat(np.where(mask_HW, np.uint8(255), np.uint8(0))[None, :, :, None], 3, axis=3)
        samples.append(make_sample(seed, frames=frames.repeat(12, axis=0), masks=mask_HW[None].repeat(12, axis=0)))
    for batch in train_loader(make_dataset(samples), clip).epoch(1):
        grey_BTHW = batch.clip_BTHWC.float().mean(dim=-1)
        assert (grey_BTHW[batch.mask_BTHW] > 90).float().mean() > 0.99
        assert (grey_BTHW[~batch.mask_BTHW] < 165).float().mean() > 0.99
        assert 0.05 < batch.mask_BTHW.float().mean() < 0.95


def test_real_clips_come_out_as_they_went_in(real_data, make_dataset, make_sample):
    video = sorted((real_data / "jhmdb" / "videos" / "golf").glob("*.mp4"))[0]
    with av.open(video) as container:
        frames = np.stack(
            [frame.to_ndarray(format="rgb24", height=128, width=176) for frame in container.decode(video=0)]
        )
    (batch,) = EvalLoader(make_dataset([make_sample(0, frames=frames[:32])]), ClipConfig(size=128), batch_size=2)
    original = frames[:32, :, 24:152].reshape(batch.clip_BTHWC.shape)
    assert np.abs(batch.clip_BTHWC.numpy() - original.astype(float)).mean() < 4


def test_one_pipeline_serves_many_epochs(waves, monkeypatch):
    built = []
    build = decoders.build_clip_pipeline
    monkeypatch.setattr(
        decoders, "build_clip_pipeline", lambda *args, **options: built.append(1) or build(*args, **options)
    )
    loader = train_loader(waves)
    for epoch in range(3):
        list(loader.epoch(epoch, start_step=epoch))
    assert len(built) == 1


def test_epochs_and_seeds_differ_and_repeat_exactly(waves):
    loader = train_loader(waves)
    first, second, again = (concatenate(list(loader.epoch(epoch))) for epoch in (0, 1, 0))
    assert_equal(first, again)
    assert not torch.equal(first.sample_B, second.sample_B)
    other_seed = concatenate(list(train_loader(waves, seed=6).epoch(0)))
    assert not torch.equal(first.sample_B, other_seed.sample_B)


@pytest.mark.parametrize("start_step", [0, 1, 3, 4])
def test_resuming_gives_the_batches_of_an_undisturbed_run(waves, start_step):
    undisturbed = list(train_loader(waves).epoch(1))
    resumed = list(train_loader(waves).epoch(1, start_step=start_step))
    assert len(resumed) == 4 - start_step
    for one, other in zip(undisturbed[start_step:], resumed, strict=True):
        assert_equal(one, other)


def test_epochs_in_one_go_are_those_one_by_one(waves):
    loader = train_loader(waves)
    one_by_one = list(loader.epoch(2, start_step=3)) + [batch for epoch in (3, 4) for batch in loader.epoch(epoch)]
    in_one_go = list(loader.epochs(2, 5, start_step=3))
    assert len(in_one_go) == 1 + 2 * 4
    for one, other in zip(one_by_one, in_one_go, strict=True):
        assert_equal(one, other)


def test_threads_and_prefetch_change_nothing(waves):
    one = concatenate(list(train_loader(waves, threads=1, prefetch=1).epoch(0)))
    many = concatenate(list(train_loader(waves, threads=4, prefetch=5).epoch(0)))
    assert_equal(one, many)


@pytest.mark.parametrize("world_size", [2, 3])
def test_the_ranks_together_take_the_same_pixels_at_any_world_size(waves, world_size):
    ranks = [train_loader(waves, rank=rank, world_size=world_size).epoch(2) for rank in range(world_size)]
    for whole, *parts in zip(train_loader(waves).epoch(2), *ranks, strict=True):
        assert_equal(whole, concatenate(parts))


@pytest.mark.parametrize("group_size", [2, 3])
@pytest.mark.parametrize("world_size", [1, 2])
def test_ranks_take_whole_groups_and_together_the_same_pixels(waves, world_size, group_size):
    ranks = [
        train_loader(waves, rank=rank, world_size=world_size, group_size=group_size).epoch(2)
        for rank in range(world_size)
    ]
    for whole, *parts in zip(train_loader(waves).epoch(2), *ranks, strict=True):
        assert_equal(whole, concatenate(parts))
        assert all(len(part.sample_B) % group_size == 0 for part in parts[1:])
        assert len(parts[0].sample_B) > 1


@pytest.mark.parametrize(
    ("batch_size", "world_size", "group_size"),
    [(3, 4, 1), (22, 23, 1), (6, 4, 2), (4, 3, 2), (1, 1, 2), (6, 3, 3), (5, 11, 2)],
)
def test_the_least_batch_that_an_error_names_for_23_clips_is_the_least(waves, batch_size, world_size, group_size):
    options = {"rank": 0, "world_size": world_size, "group_size": group_size}
    with pytest.raises(ValueError, match="global_batch_size") as refusal:
        train_loader(waves, global_batch_size=batch_size, **options)
    least = int(str(refusal.value).rpartition(" ")[2])
    for allowed in (least, 100):
        train_loader(waves, global_batch_size=allowed, **options)
    with pytest.raises(ValueError, match="global_batch_size"):
        train_loader(waves, global_batch_size=least - 1, **options)


@pytest.mark.parametrize("group_size", [1, 2, 4])
def test_more_ranks_than_groups_are_told_how_many_there_may_be(waves, group_size):
    options = {"rank": 0, "group_size": group_size}
    with pytest.raises(ValueError, match=r"start at most \d+ ranks, and make it 23$") as refusal:
        train_loader(waves, world_size=24, **options)
    most = int(str(refusal.value).split()[-6])
    train_loader(waves, global_batch_size=23, world_size=most, **options)
    with pytest.raises(ValueError, match="global_batch_size"):
        train_loader(waves, global_batch_size=23, world_size=most + 1, **options)


def test_a_single_clip_is_no_group(make_dataset, make_sample):
    dataset = make_dataset([make_sample(0)])
    train_loader(dataset)
    with pytest.raises(ValueError, match="take a data set of 2 clips or more"):
        train_loader(dataset, group_size=2)


def test_a_shuffle_window_still_takes_every_clip_once(waves):
    batches = list(train_loader(waves, shuffle_window_shards=2).epoch(0))
    assert sorted(torch.cat([batch.sample_B for batch in batches]).tolist()) == list(range(len(waves)))


def test_a_mask_is_cut_as_its_clip(make_dataset, make_sample, random_masks):
    """The pixels of these clips are their masks."""
    samples = []
    for seed in range(6):
        masks = random_masks(seed, 12, (64, 96))
        frames = np.repeat(masks[..., None], 3, axis=-1).astype(np.uint8) * 255
        samples.append(make_sample(seed, frames=frames, masks=masks[:, ::2, ::2] if seed % 2 else masks, quality=95))
    dataset = make_dataset(samples)
    loader = train_loader(dataset, ClipConfig(frames=8, size=64), global_batch_size=4)
    for epoch in range(4):
        for batch in loader.epoch(epoch):
            disagree = (batch.clip_BTHWC.float().mean(dim=-1) > 127.5) != batch.mask_BTHW
            # A rectangle's rim may move by a stored pixel; a wrong flip, crop or frame moves the whole of it.
            assert disagree.flatten(1).float().mean(dim=1).max() < 0.05


def test_data_without_masks_and_scenes_gives_none(make_dataset, make_sample):
    dataset = make_dataset([make_sample(seed, scene=False) for seed in range(3)])
    (batch,) = train_loader(dataset).epoch(0)
    assert batch.mask_BTHW is None
    assert batch.scene_BS is None
    assert not batch.has_mask_B.any()


def test_cropping_in_the_graph_gives_the_same_batches(waves):
    """The GPU's way through the loader, on the CPU."""
    windows = EvaluationWindows(CLIP, waves.frame_counts, waves.frame_sizes)[:12]
    torch_batch, graph_batch = (
        next(
            ClipDecoder(
                waves,
                CLIP,
                batch_size=12,
                device=torch.device("cpu"),
                threads=2,
                prefetch=2,
                crop_in_graph=crop_in_graph,
            ).batches([Draw(windows)])
        )
        for crop_in_graph in (False, True)
    )
    difference = (torch_batch.clip_BTHWC.int() - graph_batch.clip_BTHWC.int()).abs()[:, :, 2:-2, 2:-2]
    assert difference.max() <= 1
    assert graph_batch.clip_BTHWC.is_contiguous()
    for field in FIELDS[1:]:
        assert torch.equal(getattr(torch_batch, field), getattr(graph_batch, field)), field


@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
def test_evaluation_sees_every_window_once_in_order_over_all_ranks(waves, world_size):
    loaders = [EvalLoader(waves, CLIP, batch_size=7, rank=rank, world_size=world_size) for rank in range(world_size)]
    seen = []
    for loader in loaders:
        batches = list(loader)
        assert len(batches) == len(loader)
        seen += [
            pair for batch in batches for pair in zip(batch.sample_B.tolist(), batch.window_B.tolist(), strict=True)
        ]
    assert len(seen) == loaders[0].window_count
    assert seen == sorted(set(seen))
    assert Counter(sample for sample, _ in seen) == {
        i: max(1, count // 8) for i, count in enumerate(waves.frame_counts)
    }


@pytest.mark.parametrize("world_size", [1, 3])
def test_evaluation_serves_the_windows_of_an_order_and_their_pixels(waves, world_size):
    protocol = ProtocolConfig(test_clips=2, test_crops=3)
    whole = concatenate(list(EvalLoader(waves, CLIP, batch_size=16, protocol=protocol)))
    order = np.random.default_rng(0).integers(0, len(whole.sample_B), 31)
    loaders = [
        EvalLoader(waves, CLIP, batch_size=4, rank=rank, world_size=world_size, protocol=protocol, order=order)
        for rank in range(world_size)
    ]
    assert {loader.window_count for loader in loaders} == {31}
    served = concatenate([batch for loader in loaders for batch in loader])
    expected = ClipBatch(**{field: getattr(whole, field)[order] for field in FIELDS})
    assert_equal(served, expected)
    assert served.sample_B.tolist() == loaders[0].windows.samples(order).tolist()


@pytest.mark.parametrize("number", [-1, 10**6])
def test_an_order_of_windows_that_are_not_there_is_refused(waves, number):
    with pytest.raises(ValueError, match="order"):
        EvalLoader(waves, CLIP, batch_size=4, order=np.array([0, number]))


def test_evaluation_repeats_exactly(waves):
    loader = EvalLoader(waves, CLIP, batch_size=16)
    assert_equal(concatenate(list(loader)), concatenate(list(loader)))


def test_a_rank_without_windows_has_no_batches(make_dataset, make_sample):
    dataset = make_dataset([make_sample(0, frame_count=8)])
    assert list(EvalLoader(dataset, CLIP, batch_size=4, rank=0, world_size=2)) == []


@pytest.mark.parametrize("taken", [0, 1, 2])
def test_stopping_early_leaves_no_thread_and_the_loader_usable(waves, taken):
    loader = train_loader(waves)
    expected = concatenate(list(loader.epoch(0)))
    for _ in range(3):
        batches = loader.epoch(0)
        for _ in range(taken):
            next(batches)
        del batches
        gc.collect()
        assert not any(thread.name == "prefetch" for thread in threading.enumerate())
    assert_equal(concatenate(list(loader.epoch(0))), expected)


def test_a_new_epoch_ends_the_one_before_it(waves):
    loader = train_loader(waves)
    expected = concatenate(list(loader.epoch(1)))
    abandoned = loader.epoch(0)
    next(abandoned)
    assert_equal(concatenate(list(loader.epoch(1))), expected)
    assert list(abandoned) == []


def damage(dataset: ShardDataset, folder: Path, sample: int, change: Callable[[bytearray], None]) -> ShardDataset:
    """A copy of ``dataset`` in which ``change`` was applied to the strip of ``sample``."""
    shutil.copytree(dataset.directory, folder)
    for shard in sorted(folder.glob("*.tar")):
        with tarfile.open(shard) as tar:
            strips = [member for member in tar if member.name == f"{sample:09d}.frames.jpg"]
        for member in strips:
            data = bytearray(shard.read_bytes())
            strip = data[member.offset_data : member.offset_data + member.size]
            change(strip)
            data[member.offset_data : member.offset_data + member.size] = strip
            shard.write_bytes(data)
    return ShardDataset.open(folder)


def break_header(strip: bytearray) -> None:
    strip[:2] = b"\0\0"


def break_tables(strip: bytearray) -> None:
    tables = strip.index(b"\xff\xc4")
    strip[tables + 4 : tables + 24] = b"\xff" * 20


@pytest.mark.parametrize("change", [break_header, break_tables])
@pytest.mark.parametrize("prefetch", [1, 3])
def test_a_damaged_clip_is_named_and_the_loader_stays_usable(make_dataset, make_sample, tmp_path, change, prefetch):
    whole = make_dataset([make_sample(seed) for seed in range(12)])
    dataset = damage(whole, tmp_path / "damaged", 7, change)
    loader = train_loader(dataset, global_batch_size=3, prefetch=prefetch)
    for _ in range(2):
        with pytest.raises(UserError, match=r"swim/clip_7"):
            list(loader.epoch(0))
    bad_step = next(step for step in range(4) if 7 in loader._order.global_batch(0, step))
    expected = list(train_loader(whole, global_batch_size=3).epoch(0, start_step=bad_step + 1))
    for one, other in zip(loader.epoch(0, start_step=bad_step + 1), expected, strict=True):
        assert torch.equal(one.clip_BTHWC, other.clip_BTHWC)


def test_a_missing_shard_is_reported(make_dataset, make_sample):
    dataset = make_dataset([make_sample(seed) for seed in range(3)])
    next(dataset.directory.glob("*.tar")).unlink()
    with pytest.raises(UserError, match=r"shard-000000\.tar, sample \d, byte \d+: it cannot be read.*copy the shard"):
        list(train_loader(dataset).epoch(0))


@pytest.mark.parametrize("ending", ["", "raise SystemExit(0)"])
def test_the_interpreter_exits_in_the_middle_of_an_epoch(waves, ending):
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from dali_pipelines import ClipConfig, TrainLoader\n"
        "from shards.dataset import ShardDataset\n"
        "dataset = ShardDataset.open(Path(sys.argv[1]))\n"
        "batches = TrainLoader(dataset, ClipConfig(frames=8, size=32), global_batch_size=2).epoch(0)\n"
        "next(batches)\n" + ending
    )
    finished = subprocess.run(
        [sys.executable, "-c", program, waves.directory], capture_output=True, text=True, timeout=60
    )
    assert (finished.returncode, finished.stderr) == (0, "")


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"rank": 2, "world_size": 2}, "rank"),
        ({"global_batch_size": 0}, "global_batch_size"),
        ({"global_batch_size": 2, "world_size": 3}, "global_batch_size"),
        ({"threads": 0}, "threads"),
        ({"prefetch": 0}, "prefetch"),
        ({"device": "meta"}, "device"),
        ({"shuffle_window_shards": 0}, "shuffle_window_shards"),
        ({"group_size": 0}, "group_size"),
    ],
)
def test_option_errors_name_the_option(waves, options, field):
    with pytest.raises(ValueError, match=field):
        train_loader(waves, **options)


def test_a_start_step_outside_the_epoch_is_refused(waves):
    with pytest.raises(ValueError, match="start_step"):
        train_loader(waves).epoch(0, start_step=5)
