"""The command that detects: every start on every pair, kept where finished, and one table."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from scenebias.detect.box_file import BOXES_NAME, load_boxes
from scenebias.detect.command import DetectConfig
from scenebias.detect.command import main as detect
from scenebias.detect.detector import DetectorConfig
from scenebias.detect.predicting import load_detector
from scenebias.detect.report import MEASURES
from scenebias.detect.training import DetectorTrainingConfig
from scenebias.models.weights import load_weights, read_metadata
from scenebias.predict import COMMAND as PREDICT
from shards.dataset import ShardDataset
from shards.errors import UserError
from tests.scenebias.browser import problems_of_page
from tests.scenebias.detect.rectangles import CLASSES, CLIP, rectangle_sample
from tests.scenebias.random_weights import pretrained
from tests.shards.conftest import write_test_video
from tools.trials.ready_samples import write_samples


def pack(folder: Path, numbers: range, subset: str) -> str:
    write_samples(folder, map(rectangle_sample, numbers), CLASSES, dataset="rectangles", subset=subset)
    return str(folder)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> DetectConfig:
    """One seed of each of two objectives."""
    folder = tmp_path_factory.mktemp("detect")
    config = DetectConfig(
        weights=(pretrained(folder / "baseline", "baseline", 0, CLIP), pretrained(folder / "mask", "mask", 0, CLIP)),
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


def test_a_video_file_has_the_boxes_that_it_has_when_packed(finished: DetectConfig, tmp_path: Path) -> None:
    """The decoded strips are written as a video, nearly without loss."""
    dataset = ShardDataset.open(finished.val[0])
    frames_NHWC = dataset.decode(0, dataset.read_clip(0, np.arange(dataset.frame_counts[0])))
    write_test_video(tmp_path / "video.mp4", frames_NHWC)
    weights = folder_of(finished, "mask") / "weights.safetensors"
    out, sheet = tmp_path / "found.json", tmp_path / "sheet.jpg"
    options = {"--weights": weights, "--height": 48, "--frames-shown": 5, "--json": out, "--picture": sheet}
    with pytest.raises(SystemExit) as stop:
        PREDICT.run([str(tmp_path / "video.mp4"), *(str(word) for option in options.items() for word in option)])
    assert stop.value.code == 0
    packed = load_boxes(folder_of(finished, "mask") / BOXES_NAME).videos[0].found
    told = json.loads(out.read_text())
    assert (told["height"], told["width"]) == (48, 64)
    frames = sorted({row["frame"] for row in told["boxes"]})
    assert frames == [0, 3, 6, 8, 11]
    for frame in frames:
        best = max((row for row in told["boxes"] if row["frame"] == frame), key=lambda row: row["score"])
        in_frame = packed[packed.frame_N == frame]
        number = int(in_frame.scores.argmax())
        np.testing.assert_allclose(best["box"], in_frame.box_N4[number], atol=2)
        assert best["score"] == pytest.approx(float(in_frame.scores[number]), abs=0.05)
    with Image.open(sheet) as picture:
        assert picture.width > 4 * 64


def test_weights_without_a_detector_are_refused(finished: DetectConfig) -> None:
    with pytest.raises(UserError, match="does not hold a box detector; give weights of scenebias detect"):
        load_detector(finished.weights[0])


def test_a_second_test_set_of_one_training_is_tested_on_with_what_was_learned_for_the_first(
    finished: DetectConfig, tmp_path: Path
) -> None:
    samples = map(rectangle_sample, range(40, 43))
    write_samples(tmp_path / "other", samples, CLASSES, dataset="others", subset="test")
    both = replace(
        finished,
        weights=finished.weights[:1],
        train=finished.train * 2,
        val=(*finished.val, str(tmp_path / "other")),
        out=tmp_path / "both",
    )
    detect(both)
    (second,) = (both.out / "others-1").iterdir()
    alone = replace(both, train=both.train[:1], val=both.val[1:], out=tmp_path / "alone")
    detect(alone)
    assert (second / BOXES_NAME).read_bytes() == (alone.out / BOXES_NAME).read_bytes()
    assert (second / "result.json").read_bytes() == (alone.out / "result.json").read_bytes()
    assert not (second / "checkpoints").exists()  # nothing was trained
