"""The command that localises: every start on every pair, kept where finished, and one table."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from dali_pipelines.windows import ClipConfig
from scenebias.localize.command import LocalizeConfig
from scenebias.localize.command import main as localize
from scenebias.localize.found_segments import MEASURES, SEGMENTS_NAME, FoundSegments, summary_of
from scenebias.localize.head.pyramid import PyramidConfig
from scenebias.localize.head.training import HeadTrainingConfig
from scenebias.models.weights import load_weights, read_metadata
from scenebias.training.optimization import OptimizationConfig
from shards.errors import UserError
from tests.forked import run_command, run_in_ranks
from tests.scenebias.browser import problems_of_page
from tests.scenebias.localize.packed_takes import CLASSES, CLIP, pack_takes
from tests.scenebias.random_weights import pretrained

TRAINING = HeadTrainingConfig(
    epochs=30,
    seed=3,
    optimization=OptimizationConfig(optimizer="adamw", learning_rate=4e-3, schedule="cosine", gradient_clip=1.0),
)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> LocalizeConfig:
    """Two seeds of one objective and one of another."""
    folder = tmp_path_factory.mktemp("localize")
    weights = [("baseline", 0), ("baseline", 1), ("mask", 0)]
    return LocalizeConfig(
        weights=tuple(pretrained(folder / f"{objective}{seed}", objective, seed, CLIP) for objective, seed in weights),
        scratch=True,
        train=(pack_takes(folder / "train", range(10), subset="train"),),
        val=(pack_takes(folder / "test", range(20, 25), subset="test"),),
        out=folder / "out",
        pyramid=PyramidConfig(levels=3, width=32, stem_layers=1, head_layers=1),
        training=TRAINING,
    )


@pytest.fixture(scope="module")
def finished(config: LocalizeConfig) -> LocalizeConfig:
    localize(config)
    return config


def runs_of(out: Path) -> dict[str, Path]:
    """The folders of the runs, by the start without its checksum."""
    return {
        path.parent.name if path.parent.name.startswith("scratch") else path.parent.name.rsplit("-", 1)[0]: path.parent
        for path in out.rglob("result.json")
    }


def test_every_start_is_a_row_with_its_seeds(finished: LocalizeConfig) -> None:
    results = json.loads((finished.out / "results.json").read_text())
    assert [(cell["row"], cell["target"], cell["seeds"]) for cell in results["table"]] == [
        ("from scratch", "takes", 2),
        ("baseline", "takes", 2),
        ("mask", "takes", 1),
    ]
    assert runs_of(finished.out).keys() == {
        "scratch-0", "scratch-1", "baseline-seed0", "baseline-seed1", "mask-seed0"
    }  # fmt: skip
    assert results["average_precision"] == "VOC all-point AP"
    for run in results["runs"]:
        found = FoundSegments.load(Path(run["folder"]) / SEGMENTS_NAME)
        assert len(found.videos) == 5
        assert {name: run[name] for name in MEASURES} == pytest.approx(summary_of(found.matches("voc")))
    assert {row["row"] for row in results["differences"]} == {"from scratch", "mask"}


def test_what_can_be_seen_in_the_features_is_learned(finished: LocalizeConfig) -> None:
    """Colours can be told by random networks: what is learned is when, and how long."""
    table = json.loads((finished.out / "results.json").read_text())["table"]
    for cell in table:
        assert cell["map@0.5"]["mean"] > 0.6
        assert cell["map@0.1"]["mean"] >= cell["map@0.5"]["mean"] >= cell["map@0.7"]["mean"]


def test_the_page_shows_all_rows_and_can_be_read(finished: LocalizeConfig) -> None:
    html = (finished.out / "results.html").read_text()
    assert not problems_of_page(finished.out / "results.html")
    for text in ("from scratch", "baseline", "mask", "VOC all-point AP"):
        assert text in html
    assert html.count("<img") == 4  # videos


def test_features_are_made_once_for_each_network(finished: LocalizeConfig) -> None:
    folders = list((finished.out / "features").iterdir())
    assert len(folders) == 5 * 2
    assert sorted(len(list(folder.iterdir())) for folder in folders) == [5] * 5 + [10] * 5


def test_finished_runs_are_kept_and_lost_ones_made_again_to_the_same_bytes(
    finished: LocalizeConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = Path(shutil.copytree(finished.out, tmp_path / "out"))
    lost = runs_of(out)["mask-seed0"]
    before = {name: (lost / name).read_bytes() for name in ("weights.safetensors", SEGMENTS_NAME, "result.json")}
    (lost / "result.json").unlink()
    shutil.rmtree(lost / "checkpoints")
    localize(replace(finished, out=out, features=finished.out / "features"))
    assert capsys.readouterr().out.count("is complete already") == 4
    for name in (SEGMENTS_NAME, "result.json"):
        assert (lost / name).read_bytes() == before[name]
    one, other = load_weights(lost / "weights.safetensors")[0], load_weights(finished.weights[2])[0]
    for name, tensor in other.state_dict().items():
        assert torch.equal(tensor, one.state_dict()[name])  # frozen


def test_weights_know_what_they_have_seen_and_how_segments_are_found(finished: LocalizeConfig) -> None:
    metadata = read_metadata(runs_of(finished.out)["mask-seed0"] / "weights.safetensors")
    assert metadata.trained_on[-1].dataset == "takes"
    assert metadata.parts["segment_detector"]["classes"] == list(CLASSES)
    assert metadata.configuration["clip"]["frames"] == CLIP.frames
    again = replace(
        finished, weights=(runs_of(finished.out)["mask-seed0"] / "weights.safetensors",), scratch=False,
        train=finished.val, val=finished.train, out=finished.out.parent / "seen",
    )  # fmt: skip
    with pytest.raises(UserError, match="10 of its 10 clips"):
        localize(again)


def test_any_number_of_processes_finds_the_same(finished: LocalizeConfig, tmp_path: Path) -> None:
    arguments = [
        "--weights", finished.weights[2], "--train", *finished.train, "--val", *finished.val, "--out", tmp_path / "out",
        "--levels", 3, "--width", 32, "--stem-layers", 1, "--head-layers", 1, "--epochs", 30, "--seed", 3,
        "--learning-rate", 4e-3, "--weight-decay", TRAINING.optimization.weight_decay, "--warmup-epochs", 0,
    ]  # fmt: skip
    run_in_ranks(tmp_path, 2, run_command, "scenebias.localize.command", arguments)
    one = FoundSegments.load(runs_of(finished.out)["mask-seed0"] / SEGMENTS_NAME)
    two = FoundSegments.load(tmp_path / "out" / SEGMENTS_NAME)
    assert [video.name for video in two.videos] == [video.name for video in one.videos]
    ours, theirs = (summary_of(found.matches("voc")) for found in (one, two))
    assert theirs == pytest.approx(ours, abs=0.05)
    for video, other in zip(one.videos, two.videos, strict=True):
        assert torch.equal(video.truth.start_s_N, other.truth.start_s_N)
        assert float(video.found.scores[0]) == pytest.approx(float(other.found.scores[0]), abs=0.02)


def test_the_backbone_learns_too_where_it_is_asked_to(finished: LocalizeConfig, tmp_path: Path) -> None:
    tuned = replace(
        finished,
        weights=finished.weights[2:],
        scratch=False,
        out=tmp_path / "out",
        tune_backbone=True,
        part_windows=10,
        features=finished.out / "features",
        training=replace(TRAINING, epochs=2),
    )
    localize(tuned)
    before, after = (
        load_weights(path)[0].state_dict() for path in (tuned.weights[0], tmp_path / "out/weights.safetensors")
    )
    changed = {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}
    assert any(name.startswith("backbone.") for name in changed)
    assert not any("running" in name or name.startswith("head.") for name in changed)


def test_what_cannot_work_is_refused_with_a_way_out(
    config: LocalizeConfig, tmp_path: Path, tiny_dataset: Path, tiny_test_dataset: Path
) -> None:
    out = tmp_path / "out"
    with pytest.raises(UserError, match=r"--train .* has no segments: pack it again with them"):
        localize(replace(config, out=out, train=(str(tiny_dataset),), val=(str(tiny_test_dataset),)))
    with pytest.raises(UserError, match="--weights say how windows are cut"):
        localize(replace(config, out=out, clip=ClipConfig(frames=4)))
    with pytest.raises(UserError, match="--train names 1 data sets and --val 0"):
        localize(replace(config, out=out, val=()))


def test_a_second_test_set_of_one_training_is_tested_on_with_what_was_learned_for_the_first(
    config: LocalizeConfig, finished: LocalizeConfig, tmp_path: Path
) -> None:
    other = pack_takes(tmp_path / "other", range(40, 43), subset="test", dataset="others")
    weights, (train,), (test,) = config.weights[:1], config.train, config.val
    both = replace(
        config, weights=weights, scratch=False, train=(train, train), val=(test, other), out=tmp_path / "both"
    )
    localize(both)
    first, second = (next((both.out / name).iterdir()) for name in ("takes-1", "others-1"))
    alone = replace(both, train=(train,), val=(other,), out=tmp_path / "alone")
    localize(alone)
    assert (second / SEGMENTS_NAME).read_bytes() == (alone.out / SEGMENTS_NAME).read_bytes()
    assert (second / "result.json").read_bytes() == (alone.out / "result.json").read_bytes()
    assert (first / "checkpoints").exists()
    assert not (second / "checkpoints").exists()  # nothing was trained
    assert load_file(first / "weights.safetensors").keys() == load_file(second / "weights.safetensors").keys()
    for name, tensor in load_file(first / "weights.safetensors").items():
        assert torch.equal(tensor, load_file(second / "weights.safetensors")[name])
