"""Weight files keep the model, say what it is and what it has seen, and refuse what does not fit."""

import json
import re
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from scenebias.model import ActionModel, ModelConfig
from scenebias.weights import (
    TrainedOn,
    WeightsMetadata,
    ensure_unseen,
    load_backbone,
    load_weights,
    read_metadata,
    save_weights,
    seen_reason,
)
from shards.errors import UserError

KINETICS = TrainedOn(dataset="kinetics", split="mini", subset="train", digest="k")
UCF = TrainedOn(dataset="ucf101", split="1", subset="train", digest="u1")
METADATA = WeightsMetadata(
    backbone="small3d",
    classes=("brush hair", "über"),
    trained_on=(KINETICS, UCF),
    configuration={"optimiser": {"learning_rate": 1e-3}, "devices": None},
    metrics={"top1": 0.5},
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
    loaded, metadata = load_weights(weights, expected_backbone="small3d")
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
    assert load_backbone(weights, new) == METADATA
    torch.testing.assert_close(dict(new.backbone.state_dict()), dict(model.backbone.state_dict()), rtol=0, atol=0)
    assert all(torch.equal(tensor, head[name]) for name, tensor in new.head.state_dict().items())


def test_weights_of_another_backbone_name_file_both_backbones_and_the_remedy(weights: Path) -> None:
    message = r"weights.safetensors: holds weights of small3d, but the run is set to r3d_18; pass --backbone small3d"
    with pytest.raises(UserError, match=message):
        load_weights(weights, expected_backbone="r3d_18")
    with pytest.raises(UserError, match=message):
        load_backbone(weights, ActionModel(ModelConfig("r3d_18"), 2))


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
        ({"scenebias": '{"format_version": 1}'}, "description cannot be read"),
        ({"scenebias": '{"format_version": 2}'}, "has format version 2, this program reads 1"),
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
    with pytest.raises(UserError, match="weights of small4d, which this program does not know"):
        load_weights(weights)
    save_file(tensors | {"head.1.bias": torch.zeros(3)}, weights, metadata=description)
    with pytest.raises(UserError, match=r"1 tensors do not fit small3d \(first: head.1.bias\)"):
        load_weights(weights)
    del tensors["backbone.trunk.0.0.weight"]
    save_file(tensors, weights, metadata=description)
    with pytest.raises(UserError, match=r"1 tensors do not fit small3d \(first: backbone.trunk.0.0.weight\)"):
        load_backbone(weights, model)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (UCF, "trained on these very shards"),
        (replace(UCF, digest="repacked"), "trained on ucf101 1 train$"),
        (replace(UCF, split="2", subset="test", digest="u2"), "ucf101 1 train, which shares videos with ucf101 2 test"),
        (TrainedOn("renamed", "", "", "k"), "these very shards"),
    ],
)
def test_seen_videos_cannot_test_the_weights(data: TrainedOn, message: str) -> None:
    reason = seen_reason(METADATA, data)
    assert reason is not None
    assert re.search(message, reason)
    with pytest.raises(UserError, match=r"cannot evaluate on .*--force"):
        ensure_unseen(METADATA, data)
    ensure_unseen(METADATA, data, force=True)


@pytest.mark.parametrize(
    "data",
    [
        replace(UCF, subset="test", digest="u1-test"),
        TrainedOn("hmdb51", "1", "test", "h"),
        replace(KINETICS, subset="val", digest="v"),
    ],
)
def test_unseen_videos_are_accepted(data: TrainedOn) -> None:
    assert seen_reason(METADATA, data) is None
    ensure_unseen(METADATA, data)
