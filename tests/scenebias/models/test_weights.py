"""Weight files keep the model, say what it is and what it has seen, and refuse what does not fit."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from scenebias.models.action_model import ActionModel, ModelConfig
from scenebias.models.heads import AdversaryHead
from scenebias.models.seen_clips import TrainedOn
from scenebias.models.weights import (
    WeightsMetadata,
    load_into,
    load_scene_head,
    load_weights,
    read_metadata,
    save_weights,
)
from shards.errors import UserError
from shards.format.focus import Focus

KINETICS = TrainedOn(dataset="kinetics", split="mini", subset="train", digest="k")
UCF = TrainedOn(dataset="ucf101", split="1", subset="train", digest="u1")
METADATA = WeightsMetadata(
    backbone="small3d",
    classes=("brush hair", "über"),
    trained_on=(KINETICS, UCF),
    configuration={"optimiser": {"learning_rate": 1e-3}, "devices": None},
    metrics={"top1": 0.5},
    focus=Focus("person", 1.3),
)


@pytest.fixture
def model() -> ActionModel:
    torch.manual_seed(0)
    model = ActionModel(ModelConfig("small3d"), 2)
    model(torch.randint(256, (4, 4, 16, 16, 3), dtype=torch.uint8))  # moves the running statistics
    return model


@pytest.fixture
def weights(tmp_path: Path, model: ActionModel) -> Path:
    path = tmp_path / "weights.safetensors"
    save_weights(path, model, METADATA)
    return path


def test_weights_and_description_come_back_as_they_went(weights: Path, model: ActionModel) -> None:
    loaded, metadata = load_weights(weights)
    assert metadata == METADATA == read_metadata(weights)
    clip_BTHWC = torch.randint(256, (2, 4, 16, 16, 3), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(loaded.eval()(clip_BTHWC), model.eval()(clip_BTHWC))


def test_the_same_model_gives_the_same_bytes_and_nothing_else_is_left(weights: Path, model: ActionModel) -> None:
    again = weights.with_name("again.safetensors")
    save_weights(again, model, METADATA)
    assert again.read_bytes() == weights.read_bytes()
    assert {path.name for path in weights.parent.iterdir()} == {"again.safetensors", "weights.safetensors"}


def test_transfer_takes_the_backbone_and_leaves_the_new_head(weights: Path, model: ActionModel) -> None:
    torch.manual_seed(1)
    new = ActionModel(ModelConfig("small3d", dropout=0.2), 5)
    head = {name: tensor.clone() for name, tensor in new.head.state_dict().items()}
    assert load_into(weights, new, head=False) == METADATA
    torch.testing.assert_close(dict(new.backbone.state_dict()), dict(model.backbone.state_dict()), rtol=0, atol=0)
    assert all(torch.equal(tensor, head[name]) for name, tensor in new.head.state_dict().items())


def test_weights_of_another_backbone_name_file_both_backbones_and_the_remedy(weights: Path) -> None:
    message = r"weights.safetensors: holds weights of small3d, but the run is set to r3d_18; pass --backbone small3d"
    for head in (False, True):
        with pytest.raises(UserError, match=message):
            load_into(weights, ActionModel(ModelConfig("r3d_18"), 2), head=head)


def test_backbone_and_head_go_into_a_model_of_other_settings(weights: Path, model: ActionModel) -> None:
    new = ActionModel(ModelConfig("small3d", dropout=0.2), 2)
    assert load_into(weights, new, head=True) == METADATA
    assert new.config.dropout == 0.2
    torch.testing.assert_close(dict(new.state_dict()), dict(model.state_dict()), rtol=0, atol=0)
    with pytest.raises(UserError, match="do not fit small3d"):
        load_into(weights, ActionModel(ModelConfig("small3d"), 5), head=True)


@pytest.mark.parametrize("head", [False, True])
def test_the_normalisation_of_the_pixels_comes_with_the_backbone(tmp_path: Path, head: bool) -> None:
    other = ActionModel(ModelConfig("small3d"), 2, mean_C=(0.1, 0.2, 0.3), std_C=(1.0, 2.0, 3.0))
    save_weights(tmp_path / "other.safetensors", other, METADATA)
    new = ActionModel(ModelConfig("small3d"), 2)
    load_into(tmp_path / "other.safetensors", new, head=head)
    clip_BTHWC = torch.randint(256, (1, 2, 4, 4, 3), dtype=torch.uint8)
    assert torch.equal(new.normalise(clip_BTHWC), other.normalise(clip_BTHWC))


def test_a_scene_head_comes_back_as_it_went_and_is_in_nobody_s_way(tmp_path: Path, model: ActionModel) -> None:
    path = tmp_path / "stage.safetensors"
    scene_head = AdversaryHead(model.feature_count, 365, hidden_layers=3)
    scene_head(torch.randn(4, model.feature_count))  # moves the running statistics
    save_weights(path, model, METADATA, {"scene_head": scene_head})
    new = AdversaryHead(model.feature_count, 365, hidden_layers=3)
    load_scene_head(path, new)
    torch.testing.assert_close(dict(new.state_dict()), dict(scene_head.state_dict()), rtol=0, atol=0)
    alone, metadata = load_weights(path)
    assert metadata == METADATA
    torch.testing.assert_close(dict(alone.state_dict()), dict(model.state_dict()), rtol=0, atol=0)
    for head in (False, True):
        load_into(path, ActionModel(ModelConfig("small3d"), 2), head=head)


def test_a_scene_head_stays_as_it_is_where_the_file_holds_none(weights: Path, model: ActionModel) -> None:
    scene_head = AdversaryHead(model.feature_count, 365, hidden_layers=1)
    before = {name: tensor.clone() for name, tensor in scene_head.state_dict().items()}
    load_scene_head(weights, scene_head)
    torch.testing.assert_close(dict(scene_head.state_dict()), before, rtol=0, atol=0)


def test_a_scene_head_of_another_depth_is_refused_with_the_option(tmp_path: Path, model: ActionModel) -> None:
    path = tmp_path / "stage.safetensors"
    save_weights(path, model, METADATA, {"scene_head": AdversaryHead(model.feature_count, 365, hidden_layers=1)})
    message = (
        r"stage.safetensors: its scene head has 1 hidden layers, but the run is set to 3; pass --scene-hidden-l.* 1$"
    )
    with pytest.raises(UserError, match=message):
        load_scene_head(path, AdversaryHead(model.feature_count, 365, hidden_layers=3))
    with pytest.raises(UserError, match=r"2 tensors do not fit the scene head"):
        load_scene_head(path, AdversaryHead(model.feature_count, 100, hidden_layers=1))


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none.safetensors: no such weight file"):
        load_weights(tmp_path / "none.safetensors")


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_cut_file_is_refused(weights: Path, keep: int) -> None:
    weights.write_bytes(weights.read_bytes()[:keep])
    for read in (load_weights, read_metadata):
        with pytest.raises(UserError, match=r"weights.safetensors: not a complete safetensors file"):
            read(weights)


def test_a_pickle_is_refused(tmp_path: Path, model: ActionModel) -> None:
    path = tmp_path / "model.pt"
    torch.save(model.state_dict(), path)
    with pytest.raises(UserError, match=r"model.pt: not a complete safetensors file"):
        load_weights(path)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (None, "was not written by scenebias"),
        ({"scenebias": "{"}, "description cannot be read"),
        ({"scenebias": "[]"}, "description cannot be read"),
        ({"scenebias": '{"format_version": 2}'}, "description cannot be read"),
        ({"scenebias": '{"format_version": 1}'}, "has format version 1, this program reads 2"),
    ],
)
def test_foreign_descriptions_are_refused(tmp_path: Path, metadata: dict[str, str] | None, message: str) -> None:
    path = tmp_path / "foreign.safetensors"
    save_file({"x": torch.zeros(1)}, path, metadata=metadata)
    with pytest.raises(UserError, match=f"foreign.safetensors: .*{message}"):
        read_metadata(path)


def test_unknown_backbone_and_misfit_tensors_are_refused(weights: Path, model: ActionModel) -> None:
    description = {"scenebias": json.dumps(asdict(METADATA))}
    tensors = load_file(weights)
    save_file(tensors, weights, metadata={"scenebias": json.dumps(asdict(replace(METADATA, backbone="small4d")))})
    with pytest.raises(UserError, match=r"description cannot be read.*backbone must be one of .*small4d"):
        load_weights(weights)
    save_file(tensors | {"head.1.bias": torch.zeros(3)}, weights, metadata=description)
    with pytest.raises(UserError, match=r"1 tensors do not fit small3d \(first: head.1.bias\)"):
        load_weights(weights)
    del tensors["backbone.trunk.0.0.weight"]
    save_file(tensors, weights, metadata=description)
    with pytest.raises(UserError, match=r"1 tensors do not fit small3d \(first: backbone.trunk.0.0.weight\)"):
        load_into(weights, model, head=False)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["weight", "running_var"])
def test_weights_of_a_training_that_diverged_are_refused(
    weights: Path, model: ActionModel, value: float, name: str
) -> None:
    state = model.state_dict()
    place = next(key for key in state if key.endswith(name))
    state[place][-1] = value
    save_weights(weights, model, METADATA)
    for load in (load_weights, lambda path: load_into(path, ActionModel(ModelConfig("small3d"), 2), head=False)):
        with pytest.raises(
            UserError, match=r"no finite number \(first: .*\): its training diverged; .*--learning-rate"
        ):
            load(weights)
    assert read_metadata(weights) == METADATA
