"""What must hold of training on several data sets."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from dali_pipelines import ClipConfig
from scenebias.compose.config import ComposeConfig
from scenebias.data.datasets import RemoteConfig
from scenebias.data.mixture import MixtureConfig, open_joined
from scenebias.debiasing.objective import ObjectiveConfig
from scenebias.evaluate import EvaluateConfig
from scenebias.evaluate import main as evaluate
from scenebias.evaluation.prediction_file import load_predictions
from scenebias.models.action_model import ModelConfig
from scenebias.models.weights import read_metadata
from scenebias.pretrain import COMMAND, PretrainConfig
from scenebias.pretrain import main as pretrain
from scenebias.run_folder.checkpoint import CheckpointConfig, CheckpointFolder
from scenebias.run_folder.folder import RunFolder
from scenebias.run_folder.record import RunRecord
from scenebias.training.optimization import OptimizationConfig
from scenebias.training.schedule import ScheduleConfig
from shards.dataset import ShardDataset
from shards.errors import UserError
from tests.conftest import CLASSES, focused_copy
from tools.trials.ready_samples import sample_from_frames, write_samples

OTHER_CLASSES = ("wave", "dance")
UNTIMED = ("step_s", "data_wait_share", "clips_per_s", "precise_bn_s")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """A function that packs clips as H.264, taller, of other classes, and without masks and scene labels."""

    def make(
        *numbers: int, subset: str = "train", classes: tuple[str, ...] = OTHER_CLASSES, dataset: str = "other"
    ) -> str:
        folder = tmp_path_factory.mktemp("other") / subset
        random = np.random.default_rng(0)
        samples = [
            sample_from_frames(
                random.integers(0, 256, (20, 8, 10, 3), dtype=np.uint8).repeat(8, axis=1).repeat(8, axis=2),
                name=f"{classes[number % 2]}/other{number}",
                label=number % 2,
                codec="h264",
                crf=30,
                frames_per_part=8,
                source_sha256=f"{1000 + number:064x}",
            )
            for number in numbers
        ]
        write_samples(folder, samples, classes, dataset=dataset, subset=subset)
        return str(folder)

    return make


@pytest.fixture(scope="module")
def config(
    tiny_dataset: Path, tiny_test_dataset: Path, other: Callable[..., str], tmp_path_factory: pytest.TempPathFactory
) -> PretrainConfig:
    """Two epochs of 16 clips, 12 of the first set and 4 of the second."""
    return PretrainConfig(
        train=(str(tiny_dataset), other(0, 1, 2, 3)),
        val=(str(tiny_test_dataset), other(4, 5, 6, subset="test")),
        out=tmp_path_factory.mktemp("runs") / "run",
        mixture=MixtureConfig(mix=(3, 1)),
        clip=ClipConfig(frames=8, size=32),
        model=ModelConfig(backbone="small3d"),
        objective=ObjectiveConfig(name="debias"),
        compose=ComposeConfig(compose=("mixup",), compose_probability=(0.3,)),
        schedule=ScheduleConfig(epochs=2, batch_size=6),
        optimization=OptimizationConfig(learning_rate=0.01),
        checkpoints=CheckpointConfig(checkpoint_every_steps=1, keep_checkpoints=20),
    )


@pytest.fixture(scope="module")
def finished(config: PretrainConfig) -> PretrainConfig:
    """The run, which no test may change."""
    pretrain(config)
    return config


def lines_of(out: Path, kind: str) -> list[dict[str, float]]:
    entries = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in entry.items() if k not in UNTIMED} for entry in entries if entry["kind"] == kind]


def test_every_step_says_how_many_clips_of_each_set_it_had(finished: PretrainConfig) -> None:
    steps = lines_of(finished.out, "step")
    assert len(steps) == 6
    shares = [(step["clips/synthetic"], step["clips/other"]) for step in steps]
    assert shares[:3] == shares[3:]
    assert np.sum(shares[:3], axis=0).tolist() == [12, 4]
    come = np.cumsum(shares, axis=0)
    assert np.all(np.abs(come - come.sum(axis=1, keepdims=True) * [0.75, 0.25]) < 1)


def test_the_losses_of_masks_and_scenes_are_of_the_clips_that_have_them(finished: PretrainConfig) -> None:
    for step in lines_of(finished.out, "step"):
        assert step["effective_share"] <= step["clips/synthetic"] / (step["clips/synthetic"] + step["clips/other"])
        assert step["scene_loss"] > 3  # of a random head ln 365 = 5.9; over all clips it would be a quarter less


def test_each_set_is_evaluated_by_itself_and_all_together(finished: PretrainConfig) -> None:
    final = RunFolder(finished.out).read_result().final
    assert (final["clips/synthetic"], final["clips/other"], final["clips"]) == (7, 3, 10)
    right = 7 * final["top1/synthetic"] + 3 * final["top1/other"]
    assert final["top1"] == pytest.approx(right / 10)
    assert lines_of(finished.out, "epoch")[-1].items() >= final.items()
    of_sets = f"(other {100 * final['top1/other']:.1f} %, synthetic {100 * final['top1/synthetic']:.1f} %)"
    assert of_sets in RunFolder(finished.out).read_result().line
    predictions = load_predictions(finished.out / "predictions.npz")
    assert predictions.classes == (*CLASSES, "dance")
    for name, label in zip(predictions.clip_names, predictions.evaluation.label_N, strict=True):
        assert name.partition("/")[0] == predictions.classes[label]


def test_weights_are_evaluated_on_a_set_of_some_of_their_classes(
    finished: PretrainConfig, other: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights, place = finished.out / "weights.safetensors", finished.val_locations[1]
    report, predictions = tmp_path / "report.json", tmp_path / "p.npz"
    evaluate(EvaluateConfig(weights=weights, data=(place,), json=report, predictions=predictions))
    assert f"{place} has 2 of the 4 classes of {weights}" in capsys.readouterr().out
    final = RunFolder(finished.out).read_result().final
    assert json.loads(report.read_text())[place]["action_loss"] == pytest.approx(final["action_loss/other"])
    found = load_predictions(predictions)
    assert [found.classes[label] for label in found.evaluation.label_N] == ["wave", "dance", "wave"]
    with pytest.raises(UserError, match=r"has other classes than .*: it lacks .* and adds sing"):
        evaluate(EvaluateConfig(weights=weights, data=(other(10, 11, classes=("sing", "wave")),)))


def test_weights_know_every_set(finished: PretrainConfig) -> None:
    metadata = read_metadata(finished.out / "weights.safetensors")
    assert metadata.classes == (*CLASSES, "dance")
    assert [seen.dataset for seen in metadata.trained_on] == ["synthetic", "other"]
    assert metadata.seen_clips is not None
    for place in finished.train_locations:
        assert metadata.seen_clips.material.shared_with(ShardDataset.open(place).material).any()
    record = json.loads((finished.out / "run.json").read_text())
    assert [one["dataset"] for one in record["data"]["train"]] == ["synthetic", "other"]


@pytest.mark.parametrize("done", [1, 3, 5])
def test_a_run_goes_on_at_any_step_to_the_very_same_losses_and_weights(
    finished: PretrainConfig, tmp_path: Path, done: int
) -> None:
    again = replace(finished, out=tmp_path / "run")
    (again.out / "checkpoints").mkdir(parents=True)
    for path in ("run.json", "log.jsonl"):
        (again.out / path).write_bytes((finished.out / path).read_bytes())
    wanted = divmod(done, 3)
    for path in (finished.out / "checkpoints").iterdir():
        (again.out / "checkpoints" / path.name).write_bytes(path.read_bytes())
    CheckpointFolder(again.out / "checkpoints").go_back_before((wanted[0], wanted[1] + 1))
    pretrain(again)
    assert lines_of(again.out, "step") == lines_of(finished.out, "step")
    assert lines_of(again.out, "epoch") == lines_of(finished.out, "epoch")
    found, expected = (load_file(one.out / "weights.safetensors") for one in (again, finished))
    assert all(bool((found[name] == value).all()) for name, value in expected.items())


@pytest.fixture(scope="module")
def separate(config: PretrainConfig) -> PretrainConfig:
    """A finished run with a head for each set."""
    out = config.out.parent / "separate"
    heads = MixtureConfig(mix=(3, 1), heads="separate")
    pretrain(replace(config, out=out, mixture=heads, compose=ComposeConfig(compose=("background_swap",))))
    return replace(config, out=out)


def test_each_of_several_heads_has_weights_that_predict_what_the_run_did(
    separate: PretrainConfig, tmp_path: Path
) -> None:
    final = RunFolder(separate.out).read_result().final
    names = ("weights.safetensors", "weights-2.safetensors")
    for name, place, of_set in zip(names, separate.val_locations, ("synthetic", "other"), strict=True):
        weights, report = separate.out / name, tmp_path / "report.json"
        assert read_metadata(weights).classes == ShardDataset.open(place).classes
        evaluate(EvaluateConfig(weights=weights, data=(place,), json=report))
        found = json.loads(report.read_text())[place]
        for number in ("top1", "action_loss", "entropy", "mean_class_accuracy"):
            assert found[number] == pytest.approx(final[f"{number}/{of_set}"], rel=1e-5)
    first, second = (load_file(separate.out / name) for name in names)
    assert all(bool((second[name] == value).all()) for name, value in first.items() if name.startswith("backbone"))


def test_predictions_of_several_heads_are_of_the_classes_of_each_clip_s_own(separate: PretrainConfig) -> None:
    found = load_predictions(separate.out / "predictions.npz")
    assert found.classes == (*(f"synthetic/{name}" for name in CLASSES), "other/wave", "other/dance")
    own = [classes.partition("/")[0] for classes in found.classes]
    for probability_A, label in zip(found.evaluation.probability_NA, found.evaluation.label_N, strict=True):
        assert {own[place] for place in np.flatnonzero(probability_A)} == {own[label]}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"compose": ComposeConfig(compose=("mixup",))}, "--compose mixup teaches a clip several actions"),
        ({"objective": ObjectiveConfig(name="baseline", label_smoothing=0.1)}, "--label-smoothing teaches"),
    ],
)
def test_clips_of_two_heads_are_refused(config: PretrainConfig, tmp_path: Path, options: dict, words: str) -> None:
    asked = {"compose": ComposeConfig(), "mixture": MixtureConfig(heads="separate"), "out": tmp_path / "run"} | options
    with pytest.raises(UserError, match=words):
        pretrain(replace(config, **asked))


def test_other_shares_are_another_run(finished: PretrainConfig) -> None:
    with pytest.raises(UserError, match=r"another run \(mixture.mix was \[3, 1\] and is now \[1, 1\]\)"):
        pretrain(replace(finished, mixture=MixtureConfig(mix=(1, 1))))


def test_an_epoch_is_said(config: PretrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short = ScheduleConfig(epochs=1, batch_size=20)
    pretrain(
        replace(config, out=tmp_path, mixture=MixtureConfig(repeat=(1, 2)), schedule=short, compose=ComposeConfig())
    )
    printed = capsys.readouterr().out
    assert "an epoch has 20 clips in 1 steps: 12 of the 12 of synthetic, 8 of other, which has 4" in printed
    assert "have no human masks: their masked versions take no part in the losses that need them" in printed
    (step,) = lines_of(tmp_path, "step")
    assert (step["clips/synthetic"], step["clips/other"]) == (12, 8)


def test_clips_that_are_in_two_of_the_sets_are_told(
    config: PretrainConfig, other: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = other(0, 1, 2, 3), other(3, 4, 5, 6, dataset="more")
    short = ScheduleConfig(epochs=1, batch_size=4)
    plain = {"objective": ObjectiveConfig(name="baseline"), "compose": ComposeConfig(), "mixture": MixtureConfig()}
    pretrain(replace(config, train=(first, second), val=other(6, 7), out=tmp_path, schedule=short, **plain))
    printed = capsys.readouterr().out
    assert f"--train {second} shares 1 of its 4 clips (dance/other3) with --train {first}" in printed
    assert f"shares 1 of its 2 clips (wave/other6) with --train {second}" in printed
    with pytest.raises(UserError, match="trained on"):
        evaluate(EvaluateConfig(weights=tmp_path / "weights.safetensors", data=(other(5, 7),)))


def test_data_that_do_not_go_together_are_refused_by_name(
    config: PretrainConfig, other: Callable[..., str], tiny_dataset: Path, tmp_path: Path
) -> None:
    train, val = config.train_locations, config.val_locations
    more, focused = other(8, 9, classes=("sing", "wave")), str(focused_copy(tiny_dataset, tmp_path / "focused"))
    for trains, vals, words in (
        (
            (*train, train[0]),
            val,
            r"--train .* holds the very clips of --train .*: give them once, and --mix or --repeat",
        ),
        (train, (train[1],), r"--val .* holds the very clips of --train .*: give the test clips"),
        (train, (*val, val[1]), r"--val .* holds the very clips of --val .*: give them once"),
        (train, (val[0], more), r"has classes that are not among the 4 to be recognised \(sing\)"),
        ((train[1], focused), val[:1], r"shows squares around people .*, but --train .* shows whole frames"),
    ):
        with pytest.raises(UserError, match=words):
            open_joined(trains, vals, RemoteConfig())
    joined, _ = open_joined(train, val, RemoteConfig())
    with pytest.raises(UserError, match="--mix leaves other no clip of the 16 of an epoch"):
        MixtureConfig(mix=(1000, 1)).clips_per_epoch(joined)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mix": (1.0, 1.0), "repeat": (1, 1)}, "mix and repeat both"),
        ({"mix": (1.0, 0.0)}, "mix must be weights above 0"),
        ({"mix": (1.0, float("nan"))}, "mix must be weights above 0"),
        ({"heads": "both"}, "heads must be one of joined, separate"),
        ({"repeat": (1, 0)}, "repeat must be whole numbers from 1 on"),
    ],
)
def test_impossible_shares_are_refused_by_name(options: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        MixtureConfig(**options)


def test_shares_need_a_number_for_each_of_several_sets(config: PretrainConfig) -> None:
    with pytest.raises(ValueError, match="mix must have a number for each of several --train, got 3 for 2"):
        replace(config, mixture=MixtureConfig(mix=(1, 1, 1)))
    with pytest.raises(ValueError, match="repeat must have a number for each of several --train, got 1 for 1"):
        replace(config, train="a", mixture=MixtureConfig(repeat=(2,)))
    with pytest.raises(ValueError, match=r"heads separate needs several --train, and a --val for each .* got 2 and 1"):
        replace(config, val="a", mixture=MixtureConfig(heads="separate"))
    with pytest.raises(ValueError, match="train must name at least one"):
        replace(config, train=(), mixture=MixtureConfig())


def test_the_command_takes_several_sets_and_their_weights() -> None:
    words = ["--train", "a", "b", "c", "--mix", "0.5", "0.3", "0.2", "--val", "d", "e", "--out", "f"]
    read, _ = COMMAND.read(words)
    assert (read.train, read.val, read.mixture.mix) == (("a", "b", "c"), ("d", "e"), (0.5, 0.3, 0.2))
    single, _ = COMMAND.read(["--train", "a", "--val", "b", "--out", "c"])
    assert (single.train_locations, single.val_locations) == (("a",), ("b",))


def test_a_run_of_an_earlier_version_goes_on_as_of_one_set(tmp_path: Path) -> None:
    record = RunRecord.of(PretrainConfig(train="a", val="b", out=tmp_path), {}, {})
    earlier = {name: value for name, value in record.configuration.items() if name != "mixture"}
    replace(record, configuration=earlier).write(tmp_path)
    assert record.changes_since(tmp_path) == []
