"""What is measured of every model of the study; every measure is explained where it is computed."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import numpy as np

from dali_pipelines import ClipConfig, EvalLoader
from scenebias.bias.data_bias import measure_dataset
from scenebias.bias.measures import scene_probe, swap_to_scene_rate
from scenebias.bias.measuring import BiasTest
from scenebias.bias.model_bias import CLEAN, MEASURES, Measure
from scenebias.commands import null_for_nan
from scenebias.data.datasets import require_scenes
from scenebias.distributed.process_place import ProcessPlace, distributed_session
from scenebias.evaluation.accuracy import Evaluation, evaluate_model, evaluation_loader_for, extract_features
from scenebias.models.action_model import ActionModel
from scenebias.models.weights import clip_config_of, load_weights
from scenebias.study.arms import Trial
from scenebias.study.demo_world import World
from scenebias.study.jobs import Cost
from scenebias.study.plan import Run
from scenebias.study.training_jobs import PretrainJob
from shards.dataset import ShardDataset
from shards.system.atomic import write_json

BATCH_SIZE, LOADER_THREADS = 64, 1
MEASURES_NAME, TRIAL_NAME = "measures.json", "trial.json"

IN_DISTRIBUTION, SWAPPED, PROBE = "clean_top1", "world_swapped_top1", "world_scene_probe"
"""Measures that conclusions rest on."""
WORLD_MEASURES = {
    SWAPPED: Measure("rendered in a swapped scene: accuracy", "up"),
    "world_swap_to_scene_rate": Measure("rendered in a swapped scene: says the action of its scene", "down"),
    "world_human_only_top1": Measure("rendered before a grey wall: accuracy", "up"),
    "world_scene_only_top1": Measure("rendered without anyone: says the action of its scene", "down"),
    PROBE: Measure("scene read from the features, new balanced actions: linear", "down"),
    "world_scene_probe_mlp": Measure("scene read from the features, new balanced actions: one hidden layer", "down"),
    "world_scene_probe_chance": Measure("chance of that", None),
}
"""What can be measured in the demo world alone, where clips of every kind can be rendered."""
TRANSFERRED = "transfer_top1"
TRANSFER_MEASURES = {TRANSFERRED: Measure("new classes, after transfer: accuracy", "up")}
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
    def load(cls, weights: Path, place: ProcessPlace) -> Self:
        """The model of a weight file, on the device of ``place``."""
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
    """What was measured of one model, or of a data set."""

    values: Mapping[str, float]
    """By the names of `ALL_MEASURES` and `COSTS`; NaN where one could not be measured."""
    correct: Mapping[str, list[bool]]
    """For each test clip whether the model was right, by the kind of clips: `CLEAN`, `SWAPPED`, `TRANSFERRED`."""

    @classmethod
    def read(cls, path: Path) -> Self:
        """What `write` has left."""
        measured = cls(**json.loads(path.read_text(encoding="utf-8")))
        values = {name: math.nan if value is None else value for name, value in measured.values.items()}
        return cls(values, measured.correct)

    def write(self, path: Path) -> None:
        """As JSON; what could not be measured is null there."""
        write_json(path, {"values": null_for_nan(self.values), "correct": dict(self.correct)})


@dataclass(frozen=True)
class MeasureData:
    """The job to measure how much the scenes of a data set tell of its actions."""

    folder: Path
    train: Path
    val: Path

    @property
    def measures(self) -> Path:
        """The `Measured` that it leaves."""
        return self.folder / MEASURES_NAME

    @property
    def is_done(self) -> bool:
        return self.measures.exists()

    def run(self) -> None:
        bias = measure_dataset(ShardDataset.open(self.train), ShardDataset.open(self.val))
        values = {"scene_bias": bias.bias, "scene_accuracy": bias.accuracy, "chance": bias.chance}
        Measured(values, {}).write(self.measures)


@dataclass(frozen=True)
class MeasureArm:
    """The job to measure the models of one arm, of all seeds: each by all that its training allows."""

    runs: tuple[Run, ...]
    """They differ in the seed alone."""

    @property
    def folder(self) -> Path:
        return self.runs[0].last.folder.parent

    @property
    def is_done(self) -> bool:
        return all(measures_of(run).exists() for run in self.runs)

    def run(self) -> None:
        with distributed_session() as place:
            pretraining = self.runs[0].pretraining
            test = None if pretraining is None else _bias_test(pretraining, place)
            for run in self.runs:
                if not measures_of(run).exists():
                    _measure(run, test, place).write(measures_of(run))


def measures_of(run: Run) -> Path:
    """The `Measured` that `MeasureArm` leaves of a model."""
    return run.last.folder / MEASURES_NAME


def _bias_test(pretraining: PretrainJob, place: ProcessPlace) -> BiasTest:
    """The clips that all models of this data are measured on."""
    train, val = ShardDataset.open(pretraining.train), ShardDataset.open(pretraining.val)
    return BiasTest.prepare(pretraining.clip, train, val, place, batch_size=BATCH_SIZE, threads=LOADER_THREADS)


def _measure(run: Run, test: BiasTest | None, place: ProcessPlace) -> Measured:
    """Everything that can be had of this model; ``test`` is there where it was pretrained."""
    values: dict[str, float] = {}
    correct: dict[str, list[bool]] = {}
    costs = [job.cost for job in (run.pretraining, run.transfer) if job is not None]
    values |= asdict(Cost(sum(cost.wall_s for cost in costs), sum(cost.cpu_s for cost in costs)))
    if run.pretraining is not None:
        assert test is not None, "made where a model was pretrained"
        subject = Subject.load(run.pretraining.weights, place)
        bias = test.measure(subject.model)
        values |= bias.values
        correct[CLEAN] = _correct(bias.evaluations[CLEAN])
        if run.demo_world is not None:
            on_swapped = subject.evaluate(ShardDataset.open(run.demo_world.shards("swapped")))
            values |= _measure_in_world(subject, run.demo_world, test, on_swapped)
            correct[SWAPPED] = _correct(on_swapped)
    if run.transfer is not None:
        after = Subject.load(run.transfer.weights, place).evaluate(ShardDataset.open(run.transfer.val))
        values[TRANSFERRED] = after.top1
        correct[TRANSFERRED] = _correct(after)
    return Measured(values, correct)


def _correct(evaluation: Evaluation) -> list[bool]:
    return (evaluation.prediction_N == evaluation.label_N).tolist()


def _measure_in_world(subject: Subject, world: World, test: BiasTest, on_swapped: Evaluation) -> dict[str, float]:
    """`WORLD_MEASURES` of a model, of which ``on_swapped`` is the evaluation on the clips in swapped scenes."""

    def split(name: str) -> ShardDataset:
        return ShardDataset.open(world.shards(name))

    targets = split("target-train"), split("target-test")
    features, scenes = [subject.features(target) for target in targets], list(map(require_scenes, targets))
    probe = scene_probe(features[0], scenes[0], features[1], scenes[1])
    return {
        SWAPPED: on_swapped.top1,
        "world_swap_to_scene_rate": swap_to_scene_rate(on_swapped, test.scene_actions(split("swapped"))),
        "world_human_only_top1": subject.evaluate(split("human-only")).top1,
        "world_scene_only_top1": subject.evaluate(split("scene-only")).top1,
        PROBE: probe.accuracy,
        "world_scene_probe_mlp": probe.mlp_accuracy,
        "world_scene_probe_chance": probe.chance,
    }


def evaluate_trial(run: Run) -> Trial:
    """Accuracy on usual and on swapped scenes, of a candidate that tuning looks at; measured once."""
    assert run.pretraining is not None, "a candidate is a way to pretrain"
    assert run.demo_world is not None, "tuning uses a demo world"
    path = run.pretraining.folder / TRIAL_NAME
    if not path.exists():
        with distributed_session() as place:
            subject = Subject.load(run.pretraining.weights, place)
            splits = {IN_DISTRIBUTION: "test", SWAPPED: "swapped"}
            datasets = {name: ShardDataset.open(run.demo_world.shards(split)) for name, split in splits.items()}
            Measured({name: subject.evaluate(data).top1 for name, data in datasets.items()}, {}).write(path)
    values = Measured.read(path).values
    return Trial(run.pretraining.objective, in_distribution=values[IN_DISTRIBUTION], swapped=values[SWAPPED])
