"""What is saved and evaluated must carry the statistics of training batches under its own weights."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dali_pipelines import ClipConfig, TrainLoader
from scenebias.debiasing.objective import ObjectiveConfig
from scenebias.distributed.interruption import Interruption
from scenebias.models.action_model import ModelConfig
from scenebias.models.batch_statistics import estimate_statistics
from scenebias.models.weights import load_weights
from scenebias.pretrain import PretrainConfig
from scenebias.pretrain import main as pretrain
from scenebias.training.precise_batch_norm import PreciseBatchNorm, PreciseBatchNormConfig
from scenebias.training.schedule import ScheduleConfig
from shards.dataset import ShardDataset
from tests.forked import run_command, run_in_ranks

CLIP = ClipConfig(frames=8, size=32)
Statistics = dict[str, Tensor]


@pytest.fixture
def config(tiny_dataset: Path, tiny_test_dataset: Path, tmp_path: Path) -> PretrainConfig:
    return PretrainConfig(
        train=str(tiny_dataset),
        val=str(tiny_test_dataset),
        out=tmp_path / "run",
        clip=CLIP,
        model=ModelConfig(backbone="small3d", dropout=0.2),
        objective=ObjectiveConfig(name="baseline"),
        schedule=ScheduleConfig(epochs=2, batch_size=4),
    )


def saved_and_estimated(out: Path, train: Path | str, *, batch_size: int) -> tuple[Statistics, Statistics]:
    """The statistics of the weights in ``out``, and those of all clips of the second epoch, passed in one process."""
    model, _ = load_weights(out / "weights.safetensors")
    model = model.to(memory_format=torch.channels_last_3d)
    loader = TrainLoader(ShardDataset.open(train), CLIP, global_batch_size=batch_size, rank=0, world_size=1)

    def statistics() -> Statistics:
        return {name: tensor.clone() for name, tensor in model.backbone.named_buffers() if "running" in name}

    saved = statistics()
    estimate_statistics(model, loader.epoch(1), lambda batch: model.features(batch.clip_BTHWC))
    return saved, statistics()


def test_final_weights_carry_the_statistics_of_the_last_epochs_clips(
    config: PretrainConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    pretrain(config)
    saved, estimated = saved_and_estimated(config.out, config.train, batch_size=4)
    torch.testing.assert_close(saved, estimated, rtol=0, atol=0)
    assert "BatchNorm statistics estimated anew: " in capsys.readouterr().err
    entries = [json.loads(line) for line in (config.out / "log.jsonl").read_text().splitlines()]
    assert all(entry["precise_bn_s"] > 0 for entry in entries if entry["kind"] == "epoch")


def test_without_clips_to_estimate_them_the_running_averages_stay(
    config: PretrainConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    schedule = replace(config.schedule, precise_bn=PreciseBatchNormConfig(precise_bn_clips=0))
    pretrain(replace(config, schedule=schedule))
    saved, estimated = saved_and_estimated(config.out, config.train, batch_size=4)
    assert all((saved[name] - estimated[name]).abs().max() > 0.01 for name in saved)
    assert "estimated anew" not in capsys.readouterr().err
    assert "precise_bn_s" not in (config.out / "log.jsonl").read_text()


@pytest.mark.parametrize("options", [(), ("--sync-batch-norm",)], ids=["each its own", "synchronised"])
def test_two_processes_find_the_statistics_that_one_does(
    options: tuple[str, ...], tiny_dataset: Path, tiny_test_dataset: Path, tmp_path: Path
) -> None:
    """With parts of unequal sizes, in which they accumulate gradients."""
    places = ("--train", tiny_dataset, "--val", tiny_test_dataset, "--out", tmp_path / "run")
    clips = ("--frames", 8, "--size", 32, "--batch-size", 12, "--accumulate", 2, "--epochs", 2, "--backbone", "small3d")
    arguments = ["--objective", "baseline", *places, *clips, *options]
    run_in_ranks(tmp_path, 2, run_command, "scenebias.pretrain", arguments)
    saved, estimated = saved_and_estimated(tmp_path / "run", tiny_dataset, batch_size=12)
    torch.testing.assert_close(saved, estimated, rtol=0, atol=0)


@given(st.integers(0, 5000), st.integers(1, 100_000))
def test_the_last_epoch_gets_all_clips_asked_for_and_the_others_no_more(asked: int, epoch_clips: int) -> None:
    config = PreciseBatchNormConfig(precise_bn_clips=asked)
    between, last = (config.clips_after(last_epoch=last, epoch_clips=epoch_clips) for last in (False, True))
    assert last == min(asked, epoch_clips)
    assert min(last, 64) <= between <= last
    assert between <= max(64, epoch_clips / 16)


def passed(clips: int, dataset: Path, interrupt_after: int | None = None) -> list[int]:
    """The steps whose batches pass through a network after the last epoch."""
    loader = TrainLoader(ShardDataset.open(dataset), CLIP, global_batch_size=3, rank=0, world_size=1)
    precise_bn = PreciseBatchNorm(PreciseBatchNormConfig(precise_bn_clips=clips), loader)
    interruption, steps = Interruption(), []

    def forward(_batch: object, step: int) -> None:
        steps.append(step)
        if step == interrupt_after:
            interruption.requested = 15

    taken_s = precise_bn.estimate(torch.nn.BatchNorm1d(1), 0, forward, interruption, last_epoch=True)
    assert precise_bn.spent_s == taken_s > 0
    return steps


@pytest.mark.parametrize(("clips", "steps"), [(1, 1), (3, 1), (4, 2), (12, 4), (1024, 4)])
def test_as_many_batches_pass_as_hold_the_clips(clips: int, steps: int, tiny_dataset: Path) -> None:
    assert passed(clips, tiny_dataset) == list(range(4))[-steps:]


def test_a_signal_ends_it_after_the_batch(tiny_dataset: Path) -> None:
    assert passed(1024, tiny_dataset, interrupt_after=1) == [0, 1]


def test_a_negative_number_of_clips_is_refused() -> None:
    with pytest.raises(ValueError, match="precise_bn_clips must be 0 or more, got -1"):
        PreciseBatchNormConfig(precise_bn_clips=-1)
