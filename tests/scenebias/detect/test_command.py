"""The command that detects: every start on every pair, kept where finished, and one table."""

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from scenebias.detect.box_file import BOXES_NAME, load_boxes
from scenebias.detect.command import DetectConfig
from scenebias.detect.command import main as detect
from scenebias.detect.detector import DetectorConfig
from scenebias.detect.report import MEASURES
from scenebias.detect.training import DetectorTrainingConfig
from scenebias.models.action_model import ActionModel, ModelConfig
from scenebias.models.weights import WeightsMetadata, load_weights, read_metadata, save_weights
from shards.errors import UserError
from tests.scenebias.browser import problems_of_page
from tests.scenebias.detect.rectangles import CLASSES, CLIP, rectangle_sample
from tools.trials.ready_samples import write_samples


def pack(folder: Path, numbers: range, subset: str) -> str:
    write_samples(folder, map(rectangle_sample, numbers), CLASSES, dataset="rectangles", subset=subset)
    return str(folder)


def pretrained(folder: Path, objective: str, seed: int) -> Path:
    """Random weights of a small network that say to come from a pretraining run."""
    folder.mkdir(parents=True)
    torch.manual_seed(10 * len(objective) + seed)
    metadata = WeightsMetadata(
        backbone="small3d",
        classes=("run", "sit"),
        trained_on=(),
        configuration={"objective": {"name": objective}, "schedule": {"seed": seed}, "clip": asdict(CLIP)},
    )
    save_weights(folder / "weights.safetensors", ActionModel(ModelConfig(backbone="small3d"), 2), metadata)
    return folder / "weights.safetensors"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> DetectConfig:
    """One seed of each of two objectives."""
    folder = tmp_path_factory.mktemp("detect")
    config = DetectConfig(
        weights=(pretrained(folder / "baseline", "baseline", 0), pretrained(folder / "mask", "mask", 0)),
        train=(pack(folder / "train", range(9), "train"),),
        val=(pack(folder / "test", range(20, 24), "test"),),
        out=folder / "out",
        detector=DetectorConfig(width=32),
        training=DetectorTrainingConfig(epochs=12, batch_size=9, key_frame_group=3, seed=1),
    )
    detect(config)
    return config


def folder_of(config: DetectConfig, start: str) -> Path:
    (found,) = (config.out / "rectangles-1").glob(f"{start}-*")
    return found


def test_every_start_is_a_row_and_its_numbers_are_those_of_its_file(finished: DetectConfig) -> None:
    results = json.loads((finished.out / "results.json").read_text())
    assert [(cell["row"], cell["target"], cell["seeds"]) for cell in results["table"]] == [
        ("baseline", "rectangles", 1),
        ("mask", "rectangles", 1),
    ]
    for run in results["runs"]:
        found = load_boxes(Path(run["folder"]) / BOXES_NAME)
        assert len(found.videos) == 4
        expected = found.summary()
        assert {name: run[name] for name in MEASURES} == pytest.approx({name: expected[name] for name in MEASURES})
        assert run["recall_50"] > 0.5  # a bright rectangle is found
    assert [row["row"] for row in results["differences"]] == ["mask"]


def test_the_page_shows_key_frames_of_every_row(finished: DetectConfig) -> None:
    html = (finished.out / "results.html").read_text()
    assert not problems_of_page(finished.out / "results.html")
    assert html.count("<img") == 2 * 4
    assert "VOC all-point AP" in html


def test_finished_runs_are_kept_and_lost_ones_made_again_to_the_same_bytes(
    finished: DetectConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = replace(finished, out=Path(shutil.copytree(finished.out, tmp_path / "out")))
    lost = folder_of(copy, "mask")
    before = (lost / BOXES_NAME).read_bytes()
    (lost / "result.json").unlink()
    shutil.rmtree(lost / "checkpoints")
    detect(copy)
    assert capsys.readouterr().out.count("is complete already") == 1
    assert (lost / BOXES_NAME).read_bytes() == before


def test_weights_hold_the_detector_and_know_what_they_have_seen(finished: DetectConfig) -> None:
    weights = folder_of(finished, "mask") / "weights.safetensors"
    metadata = read_metadata(weights)
    assert metadata.trained_on[-1].dataset == "rectangles"
    assert metadata.parts["box_detector"]["classes"] == list(CLASSES)
    before, after = (load_weights(path)[0].state_dict() for path in (finished.weights[1], weights))
    assert any(not torch.equal(tensor, after[name]) for name, tensor in before.items())
    again = replace(finished, weights=(weights,), train=finished.val, val=finished.train, out=finished.out / "seen")
    with pytest.raises(UserError, match="trained on these very shards"):
        detect(again)


def test_data_without_boxes_are_refused(finished: DetectConfig, tiny_dataset: Path, tiny_test_dataset: Path) -> None:
    other = replace(
        finished, out=finished.out.parent / "other", train=(str(tiny_dataset),), val=(str(tiny_test_dataset),)
    )
    with pytest.raises(UserError, match=r"--train .* has no boxes: pack it again with them"):
        detect(other)
