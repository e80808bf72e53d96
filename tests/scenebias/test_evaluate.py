"""The evaluation command: what it measures, on which windows, and what it leaves."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dali_pipelines import ClipConfig, ProtocolConfig
from scenebias.bias.measuring import BiasTest
from scenebias.clips.views import HIDDEN_FILLS, HiddenFill, hidden_name
from scenebias.distributed.process_place import ProcessPlace
from scenebias.evaluate import EvaluateConfig
from scenebias.evaluate import main as evaluate
from scenebias.evaluation.prediction_file import load_predictions
from scenebias.models.action_model import ActionModel, ModelConfig
from scenebias.models.weights import WeightsMetadata, load_weights, save_weights
from scenebias.run_folder.record import plain
from shards.dataset import ShardDataset
from shards.errors import UserError
from shards.format.focus import Focus
from tests.conftest import focused_copy
from tools.trials.ready_samples import write_samples


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
    changed = EvaluateConfig(**(vars(config) | changes))
    evaluate(changed)
    assert changed.json is not None
    return json.loads(changed.json.read_text())[changed.data[0]]


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


@pytest.mark.parametrize("fill", HIDDEN_FILLS)
def test_hidden_humans_are_counted_as_the_bias_measures_count_them(
    config: EvaluateConfig, tiny_dataset: Path, fill: HiddenFill, capsys: pytest.CaptureFixture[str]
) -> None:
    numbers = measured(config, data=(str(tiny_dataset),), hide_humans=fill)
    dataset, (model, _) = ShardDataset.open(tiny_dataset), load_weights(config.weights)
    place = ProcessPlace(0, 1, torch.device("cpu"))
    test = BiasTest.prepare(ClipConfig(frames=8, size=32), dataset, dataset, place, batch_size=4, threads=1)
    bias = test.measure(model)
    assert numbers["clips"] == bias.values["masked_clips"] < len(dataset)
    assert numbers["top1"] == bias.values[f"{hidden_name('pixels', fill)}_top1"]
    assert numbers["entropy"] == pytest.approx(bias.values[f"{hidden_name('pixels', fill)}_entropy"], rel=1e-6)
    assert f"{numbers['clips']} of {len(dataset)} clips have an effective human mask" in capsys.readouterr().out
    assert config.predictions is not None
    names = tuple(dataset.info(clip).name for clip in test.masked.sample_M.tolist())
    assert load_predictions(config.predictions).clip_names == names


def test_humans_cannot_be_hidden_where_no_clip_has_a_mask(
    config: EvaluateConfig, synthetic_sample: Callable, tmp_path: Path
) -> None:
    samples = [synthetic_sample(number, masks=False) for number in range(3)]
    write_samples(tmp_path / "bare", samples, ("clap", "jump", "wave"))
    with pytest.raises(UserError, match="has no human masks"):
        measured(config, data=(str(tmp_path / "bare"),), hide_humans="white")


def test_data_that_show_another_part_of_the_frames_are_refused(config: EvaluateConfig, tmp_path: Path) -> None:
    focused = str(focused_copy(Path(config.data[0]), tmp_path / "focused"))
    with pytest.raises(UserError, match=r"focused shows squares around people .* trained on whole frames.*--force"):
        measured(config, data=(focused,))
    expected = measured(config)
    assert measured(config, data=(focused,), force=True) == expected
    model, metadata = load_weights(config.weights)
    save_weights(config.weights, model, replace(metadata, focus=Focus("person", 1.3)))
    assert measured(config, data=(focused,)) == expected
    with pytest.raises(UserError, match=r"shows whole frames, but .* were trained on squares around people"):
        measured(config)
    save_weights(config.weights, model, replace(metadata, focus=Focus("person", 1.5)))
    with pytest.raises(UserError, match=r"--focus-margin 1\.3\), but .*--focus-margin 1\.5\)"):
        measured(config, data=(focused,))
