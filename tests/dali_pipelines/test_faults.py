"""What must hold where clips cannot be read or decoded."""

import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from dali_pipelines import ClipConfig, EvalLoader, FaultConfig, TrainLoader
from shards.dataset import ShardDataset
from shards.errors import UserError
from tests.dali_pipelines.damage import break_marker, break_picture, change, shard_of, strip_of

CLIP = ClipConfig(frames=8, size=32)
SKIP = FaultConfig(on_fault="skip", max_skipped_share=0.5)


@pytest.fixture
def copy(waves, tmp_path) -> Path:
    return Path(shutil.copytree(waves.directory, tmp_path / "copy"))


def batches_of(folder: Path, *, faults=None, epoch=0, **options):
    loader = TrainLoader(
        ShardDataset.open(folder), CLIP, **{"global_batch_size": 6, "seed": 5, "faults": faults} | options
    )
    return loader, list(loader.epoch(epoch))


@pytest.mark.parametrize("damage", [break_marker, break_picture])
def test_a_damaged_clip_is_an_error_that_names_it_unless_it_may_be_skipped(copy, damage):
    damage(copy, 9)
    for _ in range(2):
        with pytest.raises(UserError, match=r"clip '.*_9' in .*shard-000001\.tar, sample 9, byte \d+: .*--verify"):
            batches_of(copy)


@pytest.mark.parametrize("damage", [break_marker, break_picture])
def test_a_skipped_clip_has_another_in_its_place_and_all_else_is_as_before(waves, copy, caplog, damage):
    damage(copy, 9)
    damage(copy, 15)
    _, sound = batches_of(waves.directory)
    with caplog.at_level(logging.WARNING):
        loader, mended = batches_of(copy, faults=SKIP)
    assert loader.skipped_samples == {9, 15}
    assert len(caplog.records) == 2
    assert all("skipped: clip" in record.message and "byte" in record.message for record in caplog.records)
    for one, other in zip(sound, mended, strict=True):
        assert len(one.sample_B) == len(other.sample_B)
        kept = ~torch.isin(one.sample_B, torch.tensor([9, 15]))
        assert torch.equal(one.clip_BTHWC[kept], other.clip_BTHWC[kept])
        assert not torch.isin(other.sample_B, torch.tensor([9, 15])).any()
        assert other.label_B.tolist() == waves.labels[other.sample_B].tolist()
        np.testing.assert_array_equal(other.scene_BS, waves.scenes[other.sample_B].astype(np.float32))


def test_the_substitute_does_not_depend_on_world_size_or_on_where_a_run_begins(copy):
    break_marker(copy, 9)
    break_picture(copy, 3)
    _, whole = batches_of(copy, faults=SKIP, epoch=2)
    ranks = [batches_of(copy, faults=SKIP, epoch=2, rank=rank, world_size=3)[1] for rank in range(3)]
    for batch, *shares in zip(whole, *ranks, strict=True):
        assert torch.equal(batch.clip_BTHWC, torch.cat([share.clip_BTHWC for share in shares]))
    loader = TrainLoader(ShardDataset.open(copy), CLIP, global_batch_size=6, seed=5, faults=SKIP)
    for one, other in zip(whole[2:], loader.epoch(2, start_step=2), strict=True):
        assert torch.equal(one.clip_BTHWC, other.clip_BTHWC)


def test_a_whole_missing_shard_can_be_skipped_up_to_the_share_that_is_allowed(copy):
    loader = TrainLoader(ShardDataset.open(copy), CLIP, global_batch_size=6, seed=5, faults=SKIP)
    (copy / "shard-000001.tar").unlink()  # samples 7 to 13
    batches = list(loader.epoch(0))
    assert loader.skipped_samples == set(range(7, 14))
    assert sum(len(batch.sample_B) for batch in batches) == 23
    shutil.copy(copy / "shard-000000.tar", copy / "shard-000001.tar")
    with pytest.raises(UserError, match=r"shard .*shard-000001\.tar has"):
        ShardDataset.open(copy)


def test_a_truncated_shard_is_named_mid_epoch(copy):
    dataset = ShardDataset.open(copy)
    with (copy / "shard-000002.tar").open("r+b") as file:
        file.truncate(5000)
    loader = TrainLoader(dataset, CLIP, global_batch_size=6, seed=5)
    with pytest.raises(UserError, match=r"shard-000002\.tar, sample \d+, byte \d+: .*cut short"):
        list(loader.epoch(0))


def test_more_faults_than_the_share_that_is_allowed_are_an_error(copy):
    for sample in (3, 9, 15):
        break_marker(copy, sample)
    loader, _ = batches_of(copy, faults=FaultConfig(on_fault="skip", max_skipped_share=3 / 23))
    assert len(loader.skipped_samples) == 3
    with pytest.raises(UserError, match=r"3 of 23 clips cannot be read, more than the 8.7% .*the last one: clip"):
        batches_of(copy, faults=FaultConfig(on_fault="skip", max_skipped_share=2 / 23))


@pytest.mark.parametrize("place", ["strip", "masks"])
def test_a_flipped_bit_is_found_where_checksums_are_compared(copy, waves, place):
    if place == "strip":
        strip = strip_of(copy, 12)
        path, offset = shard_of(copy, 12), int(strip["offset"]) + int(strip["header_bytes"]) + 100
    else:
        masks = np.load(copy / "samples.npy")[12]["masks"]
        path, offset = shard_of(copy, 12), int(masks["offset"]) + int(masks["bytes"]) - 1
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"sample 12, byte \d+: the checksum of the \d+ bytes at \d+ is wrong"):
        batches_of(copy, faults=FaultConfig(check_crc=True))
    loader, _ = batches_of(copy, faults=FaultConfig(check_crc=True, on_fault="skip", max_skipped_share=0.1))
    assert loader.skipped_samples == {12}
    for one, other in zip(
        batches_of(waves.directory)[1], batches_of(waves.directory, faults=FaultConfig(check_crc=True))[1], strict=True
    ):
        assert torch.equal(one.clip_BTHWC, other.clip_BTHWC)
        assert torch.equal(one.mask_BTHW, other.mask_BTHW)


def test_an_evaluation_never_skips(copy):
    break_picture(copy, 9)
    with pytest.raises(UserError, match="sample 9"):
        list(EvalLoader(ShardDataset.open(copy), CLIP, batch_size=4))


@pytest.mark.parametrize("codec", ["h264", "vp9"])
def test_damaged_video_can_be_skipped(video_waves, tmp_path, codec):
    copy = Path(shutil.copytree(video_waves(codec).directory, tmp_path / "copy"))
    first, count = np.load(copy / "samples.npy")[5][["first_strip", "strip_count"]]
    for number in range(int(count)):
        part = np.load(copy / "strips.npy")[int(first) + number]
        change(copy, 5, int(part["offset"]) + int(part["bytes"]) // 2 - int(strip_of(copy, 5)["offset"]), bytes(50))
    loader, batches = batches_of(copy, faults=SKIP, global_batch_size=3)
    assert loader.skipped_samples == {5}
    assert sum(len(batch.sample_B) for batch in batches) == 8


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"on_fault": "ignore"}, "on_fault"),
        ({"max_skipped_share": 1.0}, "max_skipped_share"),
        ({"max_skipped_share": -1}, "max_skipped_share"),
    ],
)
def test_wrong_options_are_refused(options, field):
    with pytest.raises(ValueError, match=field):
        FaultConfig(**options)
