"""The moving average of the weights: its numbers, and whole runs that keep it."""

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from dali_pipelines import ClipConfig, TrainLoader
from scenebias.debiasing.objective import ObjectiveConfig
from scenebias.evaluate import EvaluateConfig
from scenebias.evaluate import main as evaluate
from scenebias.models.action_model import ModelConfig
from scenebias.models.batch_statistics import estimate_statistics
from scenebias.models.weights import load_weights
from scenebias.pretrain import PretrainConfig
from scenebias.pretrain import main as pretrain
from scenebias.run_folder.checkpoint import CheckpointConfig, CheckpointFolder
from scenebias.run_folder.log import TrainingLog
from scenebias.training import run
from scenebias.training.optimization import OptimizationConfig
from scenebias.training.schedule import ScheduleConfig
from scenebias.training.step import StepOutcome, TrainingStep
from scenebias.training.weight_average import WeightAverage
from scenebias.transfer.run import TransferRunConfig, run_transfer
from shards.dataset import ShardDataset
from tests.forked import run_command, run_in_ranks

CLIP = ClipConfig(frames=8, size=32)
SCHEDULE = ScheduleConfig(epochs=2, batch_size=4, ema=0.9)


def averaged(states: Sequence[dict[str, Tensor]], decay: float) -> dict[str, Tensor]:
    """By the definition, in float64, of the initial weights and those after every step."""
    found = {name: tensor.double() for name, tensor in states[0].items()}
    for step, state in enumerate(states[1:], 1):
        kept = min(decay, (1 + step) / (10 + step))
        found = {name: kept * tensor + (1 - kept) * state[name].double() for name, tensor in found.items()}
    return found


@settings(deadline=None, max_examples=25)
@given(
    decay=st.floats(0.01, 0.9999),
    weights=st.lists(st.lists(st.floats(-10, 10, width=32), min_size=3, max_size=3), min_size=1, max_size=20),
)
def test_it_is_the_average_of_the_weights_after_every_step(decay: float, weights: list[list[float]]) -> None:
    model = nn.Linear(3, 1, bias=False)
    states = []
    average = None
    for step, row in enumerate(weights):
        model.load_state_dict({"weight": torch.tensor([row])})
        states.append({"weight": torch.tensor([row])})
        if average is None:
            average = WeightAverage(model, decay)
        else:
            average.follow(step)
    assert average is not None
    torch.testing.assert_close(average.state["weight"], averaged(states, decay)["weight"].float(), rtol=1e-5, atol=1e-5)
    assert model.weight.tolist() == [weights[-1]]


def test_in_use_the_model_has_it_and_buffers_stay_with_the_weights_that_they_are_of() -> None:
    model = nn.BatchNorm1d(2)
    average = WeightAverage(model, 0.5)
    nn.init.constant_(model.weight, 3.0)
    average.follow(100)
    with average.in_use():
        assert model.weight.tolist() == [2.0, 2.0]
        assert model.running_mean is not None
        model.running_mean.fill_(7.0)
    assert model.weight.tolist() == [3.0, 3.0]
    assert model.running_mean.tolist() == [0.0, 0.0]
    average.leave_in_model()
    assert model.weight.tolist() == [2.0, 2.0]
    assert model.running_mean.tolist() == [7.0, 7.0]


@pytest.fixture(scope="module")
def finished(
    tiny_dataset: Path, tiny_test_dataset: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[PretrainConfig, list[dict[str, Tensor]]]:
    """An undisturbed run that keeps the average, and its own weights before the first step and after every one."""
    config = PretrainConfig(
        train=str(tiny_dataset),
        val=str(tiny_test_dataset),
        out=tmp_path_factory.mktemp("averaged") / "run",
        clip=CLIP,
        model=ModelConfig(backbone="small3d", dropout=0.2),
        objective=ObjectiveConfig(name="scene"),
        schedule=SCHEDULE,
        checkpoints=CheckpointConfig(checkpoint_every_steps=2),
        optimization=OptimizationConfig(learning_rate=0.05, layer_decay=0.8),
    )
    states: list[dict[str, Tensor]] = []
    call = TrainingStep.__call__

    def noted_call(step: TrainingStep, *arguments: Any) -> StepOutcome:
        for expected in (0, 1) if not states else (1,):
            outcome = call(step, *arguments) if expected else None
            states.append({name: p.detach().clone() for name, p in step.model.action_model.named_parameters()})
        assert outcome is not None
        return outcome

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingStep, "__call__", noted_call)
        pretrain(config)
    return config, states


def parameters_of(out: Path) -> dict[str, Tensor]:
    model, _ = load_weights(out / "weights.safetensors")
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def test_a_run_keeps_the_average_and_evaluates_it(
    finished: tuple[PretrainConfig, list[dict[str, Tensor]]], tmp_path: Path
) -> None:
    config, states = finished
    assert len(states) == 7
    kept = parameters_of(config.out)
    expected = averaged(states, 0.9)
    torch.testing.assert_close(kept, {name: expected[name].float() for name in kept})
    assert all((kept[name] - states[-1][name]).abs().max() > 1e-4 for name in ("head.1.weight", "head.1.bias"))
    weights = config.out / "weights.safetensors"
    evaluate(EvaluateConfig(weights=weights, data=(config.val,), json=tmp_path / "e.json"))
    numbers = json.loads((tmp_path / "e.json").read_text())[config.val]
    assert numbers == pytest.approx(json.loads((config.out / "result.json").read_text())["final"], abs=1e-6)
    assert json.loads((config.out / "run.json").read_text())["configuration"]["schedule"]["ema"] == 0.9


def test_the_statistics_that_are_kept_are_those_of_training_clips_under_the_average(
    finished: tuple[PretrainConfig, list[dict[str, Tensor]]],
) -> None:
    config, _ = finished
    model, _ = load_weights(config.out / "weights.safetensors")
    model = model.to(memory_format=torch.channels_last_3d)
    saved = {name: buffer.clone() for name, buffer in model.backbone.named_buffers()}
    loader = TrainLoader(ShardDataset.open(config.train), CLIP, global_batch_size=4, rank=0, world_size=1)
    estimate_statistics(model, loader.epoch(1), lambda batch: model.features(batch.clip_BTHWC))
    estimated = dict(model.backbone.named_buffers())
    for name in (name for name in saved if "running" in name):
        torch.testing.assert_close(saved[name], estimated[name], rtol=0, atol=0)


def test_training_itself_is_what_it_is_without(
    finished: tuple[PretrainConfig, list[dict[str, Tensor]]], tmp_path: Path
) -> None:
    config, states = finished
    plain = replace(config, out=tmp_path / "plain", schedule=replace(SCHEDULE, ema=None))
    pretrain(plain)
    torch.testing.assert_close(parameters_of(plain.out), states[-1], rtol=0, atol=0)


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("last_line", [2, 4, 6, 7])
def test_a_run_that_was_killed_goes_on_to_the_very_same_average(
    finished: tuple[PretrainConfig, list[dict[str, Tensor]]],
    last_line: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Within an epoch and at its end; the log has a line for each step, and then one for the epoch."""
    config = replace(finished[0], out=tmp_path / "run")
    write, written = TrainingLog.write, []

    def write_until_killed(log: TrainingLog, *arguments: Any) -> None:
        write(log, *arguments)
        written.append(arguments)
        if len(written) == last_line:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(TrainingLog, "write", write_until_killed)
        with pytest.raises(Killed):
            pretrain(config)
    pretrain(config)
    assert_same_weights(config.out, finished[0].out)


def test_a_run_that_was_killed_before_its_weights_were_written_writes_the_same(
    finished: tuple[PretrainConfig, list[dict[str, Tensor]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(finished[0], out=tmp_path / "run")

    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(run, "save_weights", killed)
        with pytest.raises(Killed):
            pretrain(config)
    pretrain(config)
    assert_same_weights(config.out, finished[0].out)


def assert_same_weights(out: Path, other: Path) -> None:
    ours, theirs = (load_weights(folder / "weights.safetensors")[0].state_dict() for folder in (out, other))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    assert (out / "result.json").read_bytes() == (other / "result.json").read_bytes()


def test_two_processes_keep_the_average_that_one_does(
    finished: tuple[PretrainConfig, list[dict[str, Tensor]]], tmp_path: Path
) -> None:
    """The backbone is frozen: a rank's batch statistics are its own."""
    weights = finished[0].out / "weights.safetensors"
    one = TransferRunConfig(
        train=finished[0].train,
        val=finished[0].val,
        out=tmp_path / "one",
        weights=weights,
        head_only=True,
        force=True,
        clip=CLIP,
        schedule=ScheduleConfig(epochs=2, batch_size=6, ema=0.9),
        optimization=OptimizationConfig(learning_rate=0.5),
    )
    run_transfer(one)
    places = ("--train", one.train, "--val", one.val, "--weights", weights, "--out", tmp_path / "two", "--force")
    options = ("--head-only", "--frames", 8, "--size", 32, "--batch-size", 6, "--epochs", 2, "--learning-rate", 0.5)
    run_in_ranks(tmp_path, 2, run_command, "scenebias.transfer.command", [*places, *options, "--ema", 0.9])
    torch.testing.assert_close(parameters_of(tmp_path / "two"), parameters_of(one.out), rtol=1e-4, atol=1e-5)


def test_a_checkpoint_without_an_average_is_read_as_one_of_an_earlier_version(
    finished: tuple[PretrainConfig, list[dict[str, Tensor]]], tmp_path: Path
) -> None:
    state = CheckpointFolder(finished[0].out / "checkpoints").load_newest()
    assert state is not None
    assert state.average.keys() == state.model.keys()
    buffer = io.BytesIO()
    torch.save({name: value for name, value in vars(state).items() if name != "average"}, buffer)
    checksum = hashlib.sha256(buffer.getvalue()).hexdigest()[:16]
    (tmp_path / f"epoch-00002-step-00000000-{checksum}.pt").write_bytes(buffer.getvalue())
    found = CheckpointFolder(tmp_path).load_newest()
    assert found is not None
    assert found.average == {}


@pytest.mark.parametrize("decay", [0.0, 1.0, -1.0])
def test_a_decay_outside_of_0_to_1_is_refused(decay: float) -> None:
    with pytest.raises(ValueError, match="ema must lie between 0 and 1"):
        ScheduleConfig(ema=decay)
