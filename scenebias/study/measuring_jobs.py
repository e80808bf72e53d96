"""What is measured of every model of the study; every measure is explained where it is computed."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dali_pipelines import ClipConfig, EvalLoader
from scenebias.bias.data_bias import measure_dataset
from scenebias.bias.measures import scene_probe, swap_to_scene_rate
from scenebias.bias.measuring import BiasTest
from scenebias.bias.model_bias import MEASURES, Measure
from scenebias.commands import null_for_nan
from scenebias.data.datasets import require_scenes
from scenebias.distributed.process_place import ProcessPlace, distributed_session
from scenebias.evaluation.accuracy import Evaluation, evaluate_model, evaluation_loader_for, extract_features
from scenebias.models.action_model import ActionModel
from scenebias.models.weights import clip_config_of, load_weights
from scenebias.study.arms import Trial
from scenebias.study.jobs import once
from scenebias.study.plan import DemoRun, JhmdbRun
from scenebias.study.training_jobs import Training
from shards.dataset import ShardDataset
from shards.system.atomic import write_json

BATCH_SIZE, LOADER_THREADS = 64, 1
MEASURES_NAME, TRIAL_NAME = "measures.json", "trial.json"

WORLD_MEASURES = {
    "world_swapped_top1": Measure("rendered in a swapped scene: accuracy", "up"),
    "world_swap_to_scene_rate": Measure("rendered in a swapped scene: says the action of its scene", "down"),
    "world_human_only_top1": Measure("rendered before a grey wall: accuracy", "up"),
    "world_scene_only_top1": Measure("rendered without anyone: says the action of its scene", "down"),
    "world_scene_probe": Measure("scene read from the features, new balanced actions", "down"),
    "world_scene_probe_chance": Measure("chance of that", None),
}
"""What can be measured in the demo world alone, where clips of every kind can be rendered."""
TRANSFER_MEASURES = {"transfer_top1": Measure("new classes, after transfer: accuracy", "up")}
ALL_MEASURES: dict[str, Measure] = {**MEASURES, **WORLD_MEASURES, **TRANSFER_MEASURES}
COSTS = {"wall_s": "wall time of a run, in seconds", "cpu_s": "CPU time of a run, in seconds"}
"""Beside the measures: the fields of `Cost`, of the training."""


@dataclass(frozen=True)
class Subject:
    """A trained model and how to show it clips."""

    model: ActionModel
    clip: ClipConfig
    place: ProcessPlace

    @classmethod
    def load(cls, weights: Path, place: ProcessPlace) -> "Subject":
        model, metadata = load_weights(weights)
        return cls(model.to(place.device), clip_config_of(metadata), place)

    def loader(self, dataset: ShardDataset, batch_size: int = BATCH_SIZE) -> EvalLoader:
        return evaluation_loader_for(dataset, self.clip, self.place, batch_size=batch_size, threads=LOADER_THREADS)

    def evaluate(self, dataset: ShardDataset) -> Evaluation:
        return evaluate_model(self.model, self.loader(dataset), self.model.action_count, self.place)

    def features(self, dataset: ShardDataset) -> np.ndarray:
        return extract_features(self.model, self.loader(dataset), self.place)


@dataclass(frozen=True)
class Measured:
    """The values of one model, and on which test clips of some kinds it was right."""

    values: Mapping[str, float]
    correct: Mapping[str, list[bool]]

    @classmethod
    def read(cls, folder: Path) -> "Measured":
        """What a job has left in ``folder``."""
        content = json.loads((folder / MEASURES_NAME).read_text(encoding="utf-8"))
        values = {name: math.nan if value is None else value for name, value in content["values"].items()}
        return cls(values, content["correct"])

    def plain(self) -> dict[str, Any]:
        """As JSON has it: what could not be measured is null."""
        return {"values": null_for_nan(self.values), "correct": dict(self.correct)}


def _correct(evaluation: Evaluation) -> list[bool]:
    return (evaluation.prediction_N == evaluation.label_N).tolist()


def _bias_test(training: Training, place: ProcessPlace) -> BiasTest:
    """The clips that all models of this training's data are measured on."""
    train, val = ShardDataset.open(training.train), ShardDataset.open(training.val)
    clip = training.recipe.clip()
    return BiasTest.prepare(clip, train, val, place, batch_size=BATCH_SIZE, threads=LOADER_THREADS)


@dataclass(frozen=True)
class MeasureData:
    """The job to measure how much the scenes of a data set tell of its actions."""

    folder: Path
    train: Path
    val: Path

    @property
    def is_done(self) -> bool:
        return (self.folder / MEASURES_NAME).exists()

    def run(self) -> None:
        bias = measure_dataset(ShardDataset.open(self.train), ShardDataset.open(self.val))
        measured = Measured({"scene_bias": bias.bias, "scene_accuracy": bias.accuracy, "chance": bias.chance}, {})
        write_json(self.folder / MEASURES_NAME, measured.plain())


@dataclass(frozen=True)
class MeasureDemoArm:
    """The job to measure the models of one arm, of all seeds, in a demo world."""

    runs: tuple[DemoRun, ...]

    @property
    def folder(self) -> Path:
        return self.runs[0].training.folder.parent

    @property
    def is_done(self) -> bool:
        return all((run.training.folder / MEASURES_NAME).exists() for run in self.runs)

    def run(self) -> None:
        with distributed_session() as place:
            test = _bias_test(self.runs[0].training, place)
            scene_action_N = test.scene_actions(ShardDataset.open(self.runs[0].world.shards("swapped")))
            for run in self.runs:
                once(run.training.folder / MEASURES_NAME, partial(_measure_demo_run, run, test, scene_action_N))


def _measure_demo_run(run: DemoRun, test: BiasTest, scene_action_N: np.ndarray) -> dict[str, Any]:
    """``scene_action_N``: the action that goes with the scene of each swapped clip."""
    subject = Subject.load(run.training.weights, test.place)

    def split(name: str) -> ShardDataset:
        return ShardDataset.open(run.world.shards(name))

    bias, on_swapped = test.measure(subject.model), subject.evaluate(split("swapped"))
    targets = split("target-train"), split("target-test")
    features, scenes = [subject.features(target) for target in targets], list(map(require_scenes, targets))
    probe = scene_probe(features[0], scenes[0], features[1], scenes[1])
    values = {
        **bias.values,
        "world_swapped_top1": on_swapped.top1,
        "world_swap_to_scene_rate": swap_to_scene_rate(on_swapped, scene_action_N),
        "world_human_only_top1": subject.evaluate(split("human-only")).top1,
        "world_scene_only_top1": subject.evaluate(split("scene-only")).top1,
        "world_scene_probe": probe.accuracy,
        "world_scene_probe_chance": probe.chance,
        **asdict(run.training.cost),
    }
    return Measured(
        values, {"clean": _correct(bias.evaluations["clean"]), "world_swapped": _correct(on_swapped)}
    ).plain()


@dataclass(frozen=True)
class MeasureJhmdbArm:
    """The job to measure the models of one start on one split of JHMDB, of all seeds, before and after the transfer."""

    runs: tuple[JhmdbRun, ...]

    @property
    def folder(self) -> Path:
        return self.runs[0].transfer.folder.parent

    @property
    def is_done(self) -> bool:
        return all((run.transfer.folder / MEASURES_NAME).exists() for run in self.runs)

    def run(self) -> None:
        with distributed_session() as place:
            pretraining = self.runs[0].pretraining
            test = None if pretraining is None else _bias_test(pretraining, place)
            for run in self.runs:
                once(run.transfer.folder / MEASURES_NAME, partial(_measure_jhmdb_run, run, test, place))


def _measure_jhmdb_run(run: JhmdbRun, test: BiasTest | None, place: ProcessPlace) -> dict[str, Any]:
    after = Subject.load(run.transfer.weights, place).evaluate(ShardDataset.open(run.transfer.val))
    values = {"transfer_top1": after.top1, **asdict(run.transfer.cost)}
    if run.pretraining is not None:
        assert test is not None, "made for runs that were pretrained"
        values |= test.measure(Subject.load(run.pretraining.weights, place).model).values
        values |= {name: values[name] + seconds for name, seconds in asdict(run.pretraining.cost).items()}
    return Measured(values, {"transfer": _correct(after)}).plain()


def evaluate_trial(run: DemoRun) -> Trial:
    """Accuracy on usual and on swapped scenes, of a candidate that tuning looks at."""
    path = run.training.folder / TRIAL_NAME

    def measure() -> dict[str, float]:
        with distributed_session() as place:
            subject = Subject.load(run.training.weights, place)
            splits = ("test", "swapped")
            return {split: subject.evaluate(ShardDataset.open(run.world.shards(split))).top1 for split in splits}

    once(path, measure)
    top1 = json.loads(path.read_text(encoding="utf-8"))
    return Trial(run.training.objective, in_distribution=top1["test"], swapped=top1["swapped"])
