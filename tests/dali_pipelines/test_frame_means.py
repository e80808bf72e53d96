"""The mean colours of whole frames, which clips come with on request, whatever the crop shows of them."""

from collections.abc import Callable
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nvidia.dali.pipeline import Pipeline

from dali_pipelines import ClipConfig, TrainLoader
from dali_pipelines.clip_decoder import ClipDecoder
from dali_pipelines.cropping import frame_means
from dali_pipelines.graph import Device, build_clip_pipeline
from dali_pipelines.requests import Draw
from dali_pipelines.windows import draw_training_windows, frame_indices
from shards.codecs.registry import Codec
from shards.dataset import ShardDataset

CLIP = ClipConfig(frames=12, size=24)
SIZES = ((48, 64), (64, 36))


@pytest.fixture(scope="module", params=get_args(Codec))
def dataset(request: pytest.FixtureRequest, make_dataset: Callable, make_sample: Callable) -> ShardDataset:
    """Wide and high clips of 20 frames, shorter ones among them; video segments hold 8, so that windows cross them."""
    codec: Codec = request.param
    samples = [
        make_sample(seed, size=SIZES[seed % 2], frame_count=20 if seed else 7, codec=codec, scene=False)
        for seed in range(6)
    ]
    return make_dataset(samples)


@given(seed=st.integers(0, 2**31), rows=st.integers(1, 9), columns=st.integers(1, 9))
def test_the_mean_of_a_frame_is_rounded_once(seed: int, rows: int, columns: int) -> None:
    frames_THWC = np.random.default_rng(seed).integers(0, 256, (3, rows, columns, 3), dtype=np.uint8)
    mean_TC = np.floor(frames_THWC.astype(np.float64).mean(axis=(1, 2)) + 0.5)
    np.testing.assert_array_equal(frame_means(torch.from_numpy(frames_THWC)), mean_TC)


@pytest.mark.parametrize("epoch", [0, 1])
def test_means_are_of_whole_frames_and_clips_stay_what_they_were(dataset: ShardDataset, epoch: int) -> None:
    plain, batch = (
        next(TrainLoader(dataset, CLIP, global_batch_size=6, frame_means=asked).epoch(epoch)) for asked in (False, True)
    )
    assert plain.frame_mean_BTC is None
    assert batch.frame_mean_BTC is not None
    assert torch.equal(plain.clip_BTHWC, batch.clip_BTHWC)
    assert torch.equal(plain.sample_B, batch.sample_B)
    for sample, mean_TC in zip(batch.sample_B.tolist(), batch.frame_mean_BTC, strict=True):
        wanted_TC = frame_means(torch.from_numpy(dataset[sample].frames))
        places = [(wanted_TC == mean_C).all(dim=1).any().item() for mean_C in mean_TC]
        assert all(places), "every frame's mean is that of a whole frame of the clip"


@pytest.mark.parametrize("crop_in_graph", [False, True])
def test_means_are_those_of_the_frames_of_the_window(dataset: ShardDataset, crop_in_graph: bool) -> None:
    if crop_in_graph and dataset.codec not in ("filmstrip", "vp9"):
        pytest.skip(f"DALI decodes {dataset.codec} on GPUs only")
    windows = draw_training_windows(
        CLIP,
        seed=1,
        epoch=0,
        sample_B=np.arange(len(dataset)),
        frame_count_B=dataset.frame_counts,
        frame_size_B2=dataset.frame_sizes,
    )
    decoder = ClipDecoder(
        dataset,
        CLIP,
        batch_size=len(windows),
        device=torch.device("cpu"),
        threads=2,
        prefetch=2,
        frame_means=True,
        crop_in_graph=crop_in_graph,
    )
    (batch,) = decoder.batches([Draw(windows)])
    assert batch.frame_mean_BTC is not None
    frames_BT = frame_indices(CLIP, windows, dataset.frame_counts)
    for sample, frames_T in enumerate(frames_BT):
        wanted_TC = frame_means(torch.from_numpy(dataset[sample].frames[frames_T]))
        difference_TC = (batch.frame_mean_BTC[sample].int() - wanted_TC.int()).abs()
        assert difference_TC.max() <= int(crop_in_graph)  # a float's rounding there, whole numbers here


def graph_of_means(device: Device, *, crop: bool) -> Pipeline:
    return build_clip_pipeline(
        CLIP, lambda: (), device=device, crop=crop, masks=crop, frame_means=True, batch_size=4, threads=1, prefetch=1
    )


def test_the_gpu_graph_gives_means_and_can_be_defined_without_a_gpu() -> None:
    assert b"reductions__Mean" in graph_of_means("gpu", crop=True).serialize()


def test_means_without_a_crop_are_refused() -> None:
    with pytest.raises(ValueError, match="frame_means"):
        graph_of_means("cpu", crop=False)
