"""The evaluation command: what it measures, on which windows, and what it leaves."""

import json
from pathlib import Path

import pytest
import torch

from dali_pipelines import ClipConfig, ProtocolConfig
from scenebias.evaluate import EvaluateConfig
from scenebias.evaluate import main as evaluate
from scenebias.evaluation.predictions import load_predictions
from scenebias.models.action_model import ActionModel, ModelConfig
from scenebias.models.weights import WeightsMetadata, save_weights
from scenebias.run_folder.record import plain
from shards.dataset import ShardDataset


@pytest.fixture
def config(tiny_test_dataset: Path, tmp_path: Path) -> EvaluateConfig:
    torch.manual_seed(0)
    model = ActionModel(ModelConfig(backbone="small3d"), 3)
    metadata = WeightsMetadata(
        backbone="small3d",
        classes=("clap", "jump", "wave"),
        trained_on=(),
        configuration={"clip": plain(ClipConfig(frames=8, size=32))},
    )
    save_weights(tmp_path / "weights.safetensors", model, metadata)
    return EvaluateConfig(
        weights=tmp_path / "weights.safetensors",
        data=(str(tiny_test_dataset),),
        json=tmp_path / "numbers.json",
        predictions=tmp_path / "predictions.npz",
    )


def measured(config: EvaluateConfig, **changes: object) -> dict[str, float]:
    evaluate(EvaluateConfig(**(vars(config) | changes)))
    assert config.json is not None
    return json.loads(config.json.read_text())[config.data[0]]


def test_the_predictions_are_those_that_the_numbers_come_from(config: EvaluateConfig) -> None:
    numbers = measured(config)
    assert config.predictions is not None
    found = load_predictions(config.predictions)
    assert found.evaluation.summary() == pytest.approx(numbers, rel=1e-6)
    dataset = ShardDataset.open(config.data[0])
    assert found.clip_names == tuple(dataset.info(clip).name for clip in range(len(dataset)))


def test_the_protocol_decides_which_windows_count(config: EvaluateConfig) -> None:
    one, all_windows, three_crops = (
        measured(config, protocol=protocol)["action_loss"]
        for protocol in (ProtocolConfig(test_clips=1), ProtocolConfig(), ProtocolConfig(test_clips=1, test_crops=3))
    )
    assert len({one, all_windows, three_crops}) == 3


def test_predictions_of_several_data_sets_are_refused(config: EvaluateConfig) -> None:
    with pytest.raises(ValueError, match="predictions are written of one data set, and data names 2"):
        EvaluateConfig(**(vars(config) | {"data": ("a", "b")}))
