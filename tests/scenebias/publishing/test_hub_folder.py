"""What must hold of folders for the Hub: whole weights without this machine's paths, and a card that is true."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import scenebias
from dali_pipelines import ClipConfig
from scenebias.bias.command import COMMAND as BIAS
from scenebias.export import COMMAND
from scenebias.models.weights import load_weights, read_metadata
from scenebias.pretrain import PretrainConfig
from scenebias.pretrain import main as pretrain
from scenebias.publishing.model_card import card
from tests.commands import run_here


@pytest.fixture(scope="module")
def config(tiny_dataset: Path, tiny_test_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> PretrainConfig:
    """A finished run."""
    config = PretrainConfig(
        train=str(tiny_dataset),
        val=str(tiny_test_dataset),
        out=tmp_path_factory.mktemp("secret-place") / "run",
        clip=ClipConfig(frames=4, size=32),
    )
    config = replace(
        config,
        model=replace(config.model, backbone="small3d"),
        objective=replace(config.objective, name="mask"),
        schedule=replace(config.schedule, epochs=1, batch_size=6),
    )
    pretrain(config)
    return config


def front_matter(page: str) -> dict:
    assert page.startswith("---\n")
    return yaml.safe_load(page.split("---\n")[1])


def test_a_folder_holds_the_same_weights_and_no_path_of_this_machine(config: PretrainConfig, tmp_path: Path) -> None:
    weights, folder = config.out / "weights.safetensors", tmp_path / "published"
    result = run_here(COMMAND, "--weights", weights, "--hub", folder, "--license", "cc-by-4.0")
    assert result.returncode == 0, result.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    (ours, said), (theirs, original) = load_weights(folder), load_weights(weights)
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), rtol=0, atol=0)
    assert said.trained_on == original.trained_on
    assert said.seen_clips is not None
    assert said.seen_clips.data == original.seen_clips.data
    assert said.configuration["objective"] == original.configuration["objective"]
    for path in folder.iterdir():
        assert b"secret-place" not in path.read_bytes()
        assert config.train.encode() not in path.read_bytes()
    frames_NHWC = np.random.default_rng(0).integers(0, 256, (9, 40, 50, 3), dtype=np.uint8)
    found, expected = (scenebias.load(path).predict(frames_NHWC) for path in (folder, weights))
    np.testing.assert_array_equal(found, expected)
    described = json.loads((folder / "config.json").read_text())
    assert [described["id2label"][str(i)] for i in range(3)] == list(original.classes)
    assert (described["num_frames"], described["image_size"]) == (4, 32)


def test_the_card_says_what_the_weights_say_of_themselves(config: PretrainConfig, tmp_path: Path) -> None:
    run_here(COMMAND, "--weights", config.out / "weights.safetensors", "--hub", tmp_path / "x", "--title", "A: model")
    page = (tmp_path / "x" / "README.md").read_text()
    metadata = read_metadata(config.out / "weights.safetensors")
    said = front_matter(page)
    assert said["library_name"] == "scenebias"
    assert "license" not in said
    (model,) = said["model-index"]
    assert model["name"] == "A: model"
    values = {metric["name"]: metric["value"] for metric in model["results"][0]["metrics"]}
    assert values == {"top-1": metadata.metrics["top1"], "top-5": metadata.metrics["top5"]}
    assert "to be unsure of it where the people are masked out" in page
    assert str(metadata.trained_on[0]) in page
    assert "## Scene bias" not in page
    for name in metadata.classes:
        assert f"`{name}`" in page


def test_names_that_yaml_would_read_otherwise_come_back_as_they_are(config: PretrainConfig) -> None:
    metadata = read_metadata(config.out / "weights.safetensors")
    for title in ("yes", "a: b", '"quoted"', "[1]", "naïve – 漢"):
        assert front_matter(card(metadata, title, title, None))["license"] == title


def test_bias_is_shown_of_these_weights_alone(config: PretrainConfig, tmp_path: Path) -> None:
    weights, file = config.out / "weights.safetensors", tmp_path / "bias.json"
    result = run_here(BIAS, "--train", config.train, "--val", config.val, "--weights", weights, "--json", file)
    assert result.returncode == 0, result.stderr
    result = run_here(COMMAND, "--weights", weights, "--hub", tmp_path / "x", "--bias", file)
    assert result.returncode == 0, result.stderr
    page = (tmp_path / "x" / "README.md").read_text()
    top1 = json.loads(file.read_text())["models"]["run"]["values"]["clean_top1"]
    assert f"| clips as they are: accuracy | ↑ | {100 * top1:.1f} % |" in page
    found = json.loads(file.read_text())
    found["models"]["run"]["weights_sha256"] = "0" * 64
    file.write_text(json.dumps(found))
    result = run_here(COMMAND, "--weights", weights, "--hub", tmp_path / "y", "--bias", file)
    assert result.returncode == 2
    assert "measures other weights" in result.stderr
    assert not (tmp_path / "y").exists()
