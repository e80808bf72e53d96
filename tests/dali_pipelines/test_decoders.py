"""What must hold of batches from data sets that are stored as video."""

import io
import shutil
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from av.video.reformatter import Interpolation

from dali_pipelines.clip_decoder import ClipDecoder
from dali_pipelines.cropping import crop_clip, crop_mask
from dali_pipelines.decoding_config import DecodingConfig
from dali_pipelines.graph import build_clip_pipeline
from dali_pipelines.loader import EvalLoader, TrainLoader
from dali_pipelines.requests import Draw
from dali_pipelines.windows import (
    ClipConfig,
    EvaluationWindows,
    Windows,
    draw_training_windows,
    frame_indices,
)
from shards.dataset import ShardDataset
from shards.errors import UserError
from shards.format.index import find_shards, read_shard

CODECS = ("h264", "hevc", "vp9")
ON_GPU = DecodingConfig(loader_device="gpu")
CLIP = ClipConfig(frames=6, size=32, stride=2)  # spans 11 frames: two or three segments of 8


@pytest.fixture(scope="session", params=CODECS)
def dataset(request, video_waves) -> ShardDataset:
    return video_waves(request.param)


def decode_whole_clips(dataset: ShardDataset) -> list[np.ndarray]:
    """Every frame of every clip, straight from the tar files."""
    clips = []
    for shard in find_shards(dataset.directory):
        for _, members in read_shard(shard):
            frames = []
            for member in members:
                if member.name.endswith(".mp4"):
                    with av.open(io.BytesIO(member.data)) as container:
                        frames += [to_rgb(frame) for frame in container.decode(video=0)]
            clips.append(np.stack(frames))
    return clips


def to_rgb(frame: av.VideoFrame) -> np.ndarray:
    exact = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
    return frame.to_ndarray(format="rgb24", interpolation=exact)


@pytest.fixture(scope="session")
def whole_clips(dataset) -> list[np.ndarray]:
    return decode_whole_clips(dataset)


def cropped(frames_THWC: torch.Tensor, roi_22: np.ndarray, size: int) -> torch.Tensor:
    clip_TSSC = torch.empty((len(frames_THWC), size, size, 3), dtype=torch.uint8)
    crop_clip(frames_THWC, roi_22, clip_TSSC)
    return clip_TSSC


def expected_clips(whole_clips: list[np.ndarray], windows: Windows, config: ClipConfig) -> torch.Tensor:
    counts = np.array([len(clip) for clip in whole_clips])[windows.sample_B]
    return torch.stack(
        [
            cropped(torch.from_numpy(whole_clips[sample][frames_T]), roi_22, config.size)
            for sample, frames_T, roi_22 in zip(
                windows.sample_B, frame_indices(config, windows, counts), windows.rois(), strict=True
            )
        ]
    )


def test_training_batches_are_the_frames_of_the_whole_clips(dataset, whole_clips):
    """Windows that cross segments, and clips that are too short and start again, included."""
    loader = TrainLoader(dataset, CLIP, global_batch_size=5, seed=3)
    for epoch in range(3):
        for batch in loader.epoch(epoch):
            sample_B = batch.sample_B.numpy()
            windows = draw_training_windows(
                CLIP,
                seed=3,
                epoch=epoch,
                sample_B=sample_B,
                frame_count_B=dataset.frame_counts[sample_B],
                frame_size_B2=dataset.frame_sizes[sample_B],
            )
            assert torch.equal(batch.clip_BTHWC, expected_clips(whole_clips, windows, CLIP))
            frames_BT = frame_indices(CLIP, windows, dataset.frame_counts[sample_B])
            for index, sample in enumerate(sample_B.tolist()):
                masks = dataset.read_clip(sample, frames_BT[index]).masks
                assert batch.has_mask_B[index] == (masks is not None) == (sample != 2)
                if masks is None:
                    assert not batch.mask_BTHW[index].any()
                else:
                    mask = np.empty((CLIP.frames, CLIP.size, CLIP.size), np.uint8)
                    crop_mask(masks, windows.rois()[index] * 0.5, mask)
                    assert np.array_equal(batch.mask_BTHW[index], mask)
            np.testing.assert_array_equal(batch.scene_BS, dataset.scenes[sample_B].astype(np.float32))


def test_evaluation_batches_are_the_frames_of_the_whole_clips(dataset, whole_clips):
    config = ClipConfig(frames=12, size=32)
    windows = EvaluationWindows(config, dataset.frame_counts, dataset.frame_sizes)[:]
    batches = list(EvalLoader(dataset, config, batch_size=4))
    assert torch.equal(torch.cat([batch.clip_BTHWC for batch in batches]), expected_clips(whole_clips, windows, config))


def test_threads_and_prefetch_change_nothing(dataset):
    one, many = (
        list(TrainLoader(dataset, CLIP, global_batch_size=3, threads=threads, prefetch=threads).epoch(0))
        for threads in (1, 4)
    )
    for left, right in zip(one, many, strict=True):
        assert torch.equal(left.clip_BTHWC, right.clip_BTHWC)


@pytest.mark.parametrize("frames", [6, 8])
def test_cropping_in_the_graph_gives_the_same_batches(video_waves, frames):
    """The GPU's way through the loader, on the CPU."""
    dataset, config = video_waves("vp9"), ClipConfig(frames=frames, size=32, stride=14 - frames)
    windows = EvaluationWindows(config, dataset.frame_counts, dataset.frame_sizes)[:]
    torch_batch, graph_batch = (
        next(
            ClipDecoder(
                dataset,
                config,
                batch_size=len(windows),
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
    assert torch.equal(torch_batch.mask_BTHW, graph_batch.mask_BTHW)


def test_the_interpreter_exits_while_dali_decodes_a_batch(make_dataset, make_sample):
    samples = [make_sample(seed, frame_count=40, size=(128, 256), codec="vp9", scene=False) for seed in range(3)]
    dataset = make_dataset(samples)
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from dali_pipelines import ClipConfig, EvalLoader\n"
        "from shards.dataset import ShardDataset\n"
        "dataset = ShardDataset.open(Path(sys.argv[1]))\n"
        "batches = iter(EvalLoader(dataset, ClipConfig(frames=8), batch_size=5, threads=1, prefetch=1))\n"
        "next(batches)\n"
    )
    finished = subprocess.run(
        [sys.executable, "-c", program, dataset.directory], capture_output=True, text=True, timeout=60
    )
    assert (finished.returncode, finished.stderr) == (0, "")


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("masks", [False, True])
def test_the_gpu_graph_can_be_defined_without_a_gpu(codec, masks):
    pipeline = build_clip_pipeline(
        CLIP, lambda: (), codec=codec, device="gpu", crop=True, masks=masks, batch_size=4, threads=1, prefetch=1
    )
    text = pipeline.serialize()
    for name in (b"decoders__Video", b"mixed", b"Resize"):
        assert name in text


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_a_graph_for_a_cpu_says_what_it_can_decode(codec):
    with pytest.raises(ValueError, match="codec must be one of filmstrip, vp9 on a CPU"):
        build_clip_pipeline(
            CLIP, lambda: (), codec=codec, device="cpu", crop=False, masks=False, batch_size=4, threads=1, prefetch=1
        )


def test_frames_too_small_for_a_gpus_decoder_are_refused(video_waves, monkeypatch):
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    for codec, least in (("hevc", "144x144"), ("vp9", "128x128")):
        with pytest.raises(UserError, match=rf"GPUs decode {codec} from {least} pixels on.*50x48.*--height"):
            TrainLoader(video_waves(codec), CLIP, global_batch_size=4, device="cuda", decoding=ON_GPU)


def damage(dataset: ShardDataset, folder: Path, sample: int, number: int) -> ShardDataset:
    """A copy of ``dataset`` with other bytes in the middle of one segment."""
    shutil.copytree(dataset.directory, folder)
    strips = np.load(folder / "strips.npy")
    row = np.load(folder / "samples.npy")[sample]
    part = strips[int(row["first_strip"]) + number]
    shard = find_shards(folder)[row["shard"]]
    data = bytearray(shard.read_bytes())
    middle = int(part["offset"]) + int(part["bytes"]) // 2
    data[middle : middle + 8] = bytes(8)
    shard.write_bytes(data)
    return ShardDataset.open(folder)


def test_a_damaged_segment_is_named_and_the_loader_stays_usable(dataset, tmp_path):
    config = ClipConfig(frames=17, size=32)  # a window of clip 5 is all of it
    loader = TrainLoader(damage(dataset, tmp_path / "damaged", 5, 1), config, global_batch_size=2, seed=1)
    for _ in range(2):
        with pytest.raises(UserError, match=r"throw/clip_5.*damaged video segment: its checksum is wrong.*--verify"):
            list(loader.epoch(0))
    bad_step = next(step for step in range(4) if 5 in loader._order.global_batch(0, step))
    expected = list(TrainLoader(dataset, config, global_batch_size=2, seed=1).epoch(0, start_step=bad_step + 1))
    assert expected
    for one, other in zip(loader.epoch(0, start_step=bad_step + 1), expected, strict=True):
        assert torch.equal(one.clip_BTHWC, other.clip_BTHWC)


@pytest.mark.parametrize("codec", ["h264", "vp9"])
def test_a_segment_that_ends_early_is_named(make_dataset, make_sample, tmp_path, codec):
    """An index that promises more frames than there are: never black ones."""
    whole = make_dataset([make_sample(seed, frame_count=8, codec=codec) for seed in range(2)])
    folder = shutil.copytree(whole.directory, tmp_path / "promising")
    for name in ("samples.npy", "strips.npy"):
        rows = np.load(folder / name)
        rows["frame_count"] = 12
        np.save(folder / name, rows)
    with pytest.raises(UserError, match=r"run/clip_0.*(ends before frame|cannot be decoded)"):
        list(EvalLoader(ShardDataset.open(folder), ClipConfig(frames=12, size=32), batch_size=2))


def test_real_clips_come_out_as_they_went_in(real_data, make_dataset, make_sample):
    video = sorted((real_data / "jhmdb" / "videos" / "golf").glob("*.mp4"))[0]
    with av.open(video) as container:
        frames = np.stack(
            [frame.to_ndarray(format="rgb24", height=128, width=170) for frame in container.decode(video=0)]
        )[:32]
    for codec in CODECS:
        dataset = make_dataset([make_sample(0, frames=frames, codec=codec)])
        (batch,) = EvalLoader(dataset, ClipConfig(size=128), batch_size=2)
        original = frames[:, :, 21:149].reshape(batch.clip_BTHWC.shape)
        assert np.abs(batch.clip_BTHWC.numpy() - original.astype(float)).mean() < 4
