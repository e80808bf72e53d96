"""What must hold of the trial of a machine's host side: the loader serves what it serves, at the pace of the GPU."""

import time
from pathlib import Path

import pytest
import torch

from dali_pipelines import TrainLoader
from shards.dataset import ShardDataset
from tools.trials.host_scale import HostScale, load, sleeping_loader


def options(tiny_dataset: Path, **more) -> HostScale:
    return HostScale(shards=tiny_dataset, ranks=2, batch_size=2, threads=1, **more)


def test_every_rank_gets_its_clips(tiny_dataset):
    config = options(tiny_dataset, clips_per_s=1e6)
    for rank in range(2):
        expected = TrainLoader(ShardDataset.open(tiny_dataset), global_batch_size=4, rank=rank, world_size=2, threads=1)
        found = list(sleeping_loader(config, rank).epoch(0))
        assert len(found) == len(expected)
        for batch, other in zip(found, expected.epoch(0), strict=True):
            assert torch.equal(batch.sample_B, other.sample_B)
            assert batch.clip_BTHWC.shape == other.clip_BTHWC.shape
            assert batch.mask_BTHW.shape == other.mask_BTHW.shape


def test_batches_come_no_faster_than_a_gpu_takes_them(tiny_dataset):
    config = options(tiny_dataset, clips_per_s=40.0)
    begun_s = time.monotonic()
    clips = sum(len(batch.label_B) for batch in sleeping_loader(config, 0).epochs(0, 3))
    assert clips == 18
    assert time.monotonic() - begun_s >= (clips - 2 * config.prefetch) / config.clips_per_s


def test_a_rank_tells_its_rate_its_cores_and_its_memory(tiny_dataset):
    waited = []
    found = load(options(tiny_dataset, clips_per_s=20.0, seconds=1.0), 1, lambda: waited.append(True))
    assert waited == [True]
    assert 0 < found.clips_per_s <= 20 + 3 * 2
    assert 0 < found.cores < 2
    assert found.own_bytes > 10**7


@pytest.mark.parametrize("name", ["clips_per_s", "seconds"])
def test_what_must_be_positive_is(tiny_dataset, name):
    with pytest.raises(ValueError, match=f"{name} must be positive"):
        options(tiny_dataset, **{name: 0.0})
