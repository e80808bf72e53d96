"""What is measured of every model of the study; every measure is explained where it is computed.

Every measure of a pretrained model is taken twice: with the BatchNorm statistics that its weights carry, and, under its
name with `AT_CLEAN_BN`, with statistics estimated anew on clean training clips. What holds, holds under both.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Self

import numpy as np

from dali_pipelines import ClipConfig, EvalLoader
from scenebias.bias.clean_statistics import with_clean_statistics
from scenebias.bias.data_bias import measure_dataset
from scenebias.bias.measures import scene_probe, swap_to_scene_rate
from scenebias.bias.measuring import BiasTest
from scenebias.bias.model_bias import CLEAN, HUMAN_ONLY
from scenebias.bias.model_bias import SWAPPED as SWAPPED_VIEW
from scenebias.clips.views import ClipChange, hide_humans, humans_only
from scenebias.data.datasets import require_scenes
from scenebias.distributed.process_place import ProcessPlace, distributed_session
from scenebias.evaluation.accuracy import Evaluation, evaluate_model, evaluation_loader_for, extract_features
from scenebias.evaluation.softmax_regression import fit_softmax_regression
from scenebias.models.action_model import ActionModel
from scenebias.models.weights import clip_config_of, load_weights
from scenebias.study.arms import Trial
from scenebias.study.data.demo_world import World
from scenebias.study.data.jhmdb import source_video
from scenebias.study.data.tied_scenes import TIED_TESTS, PackTied
from scenebias.study.jobs import Cost
from scenebias.study.measured import (
    AT_CLEAN_BN,
    CONFLICTING,
    HEAD_TRANSFERRED,
    HIDDEN,
    MEASURES_NAME,
    PROBE,
    SCENE_ALONE,
    SWAPPED,
    TRANSFERRED,
    USUAL,
    Measured,
    MeasuringJob,
)
from scenebias.study.plan import Run
from scenebias.study.training_jobs import PretrainJob, TransferJob
from shards.dataset import ShardDataset

BATCH_SIZE, LOADER_THREADS = 64, 1
TRIAL_NAME = "trial.json"


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

    def on_clean_clips(self, train: ShardDataset) -> "Subject":
        """The model with BatchNorm statistics of clean training clips; as it is where it has none."""
        clean = with_clean_statistics(self.model, self.clip, train, self.place, threads=LOADER_THREADS)
        return self if clean is None else replace(self, model=clean)

    def loader(self, dataset: ShardDataset, batch_size: int = BATCH_SIZE) -> EvalLoader:
        return evaluation_loader_for(dataset, self.clip, self.place, batch_size=batch_size, threads=LOADER_THREADS)

    def evaluate(self, dataset: ShardDataset, change: ClipChange | None = None) -> Evaluation:
        return evaluate_model(self.model, self.loader(dataset), self.model.action_count, self.place, change=change)

    def features(self, dataset: ShardDataset) -> np.ndarray:
        return extract_features(self.model, self.loader(dataset), self.place)


@dataclass(frozen=True, kw_only=True)
class MeasureData(MeasuringJob):
    """The job to measure how much the scenes of a data set tell of its actions."""

    train: Path
    val: Path

    def run(self) -> None:
        train, val = ShardDataset.open(self.train), ShardDataset.open(self.val)
        bias = measure_dataset(train, val)
        values = {"scene_bias": bias.bias, "scene_accuracy": bias.accuracy, "chance": bias.chance}
        values |= {"train_clips": len(train), "test_clips": len(val)}
        Measured(values, {}, {}).write(self.measures)


@dataclass(frozen=True)
class MeasureModel:
    """The job to measure one model by all that its training allows."""

    model: Run

    @property
    def folder(self) -> Path:
        return self.model.last.folder

    @property
    def is_done(self) -> bool:
        return measures_of(self.model).exists()

    def run(self) -> None:
        with distributed_session() as place:
            _measure(self.model, place).write(measures_of(self.model))


def measures_of(run: Run) -> Path:
    """The `Measured` that `MeasureModel` leaves of a model."""
    return run.last.folder / MEASURES_NAME


class _Findings:
    """Values and predictions, as they come."""

    def __init__(self) -> None:
        self.values: dict[str, float] = {}
        self.evaluations: dict[str, Evaluation] = {}
        self.source_videos: dict[str, list[str]] = {}

    def note(self, name: str, evaluation: Evaluation, source_videos: Sequence[str] = ()) -> None:
        """Note an accuracy; ``source_videos`` are those of its clips, where several may be of one."""
        self.values[name] = evaluation.top1
        self.evaluations[name] = evaluation
        if source_videos:
            self.source_videos[name] = list(source_videos)

    def measured(self) -> Measured:
        return Measured(
            self.values,
            {name: found.prediction_N.tolist() for name, found in self.evaluations.items()},
            {name: found.label_N.tolist() for name, found in self.evaluations.items()},
            self.source_videos,
        )


def _measure(run: Run, place: ProcessPlace) -> Measured:
    """Everything that can be had of this model."""
    found = _Findings()
    jobs: list[PretrainJob | TransferJob | None] = [run.pretraining, run.transfer]
    costs = [job.cost for job in jobs if job is not None]
    found.values |= asdict(Cost(sum(cost.wall_s for cost in costs), sum(cost.cpu_s for cost in costs)))
    if run.pretraining is not None:
        saved = Subject.load(run.pretraining.weights, place)
        subjects = {"": saved, AT_CLEAN_BN: saved.on_clean_clips(ShardDataset.open(run.pretraining.train))}
        measure = _measuring(run, run.pretraining, place)
        for suffix, subject in subjects.items():
            measure(subject, found, suffix)
    for name, transfer in ((TRANSFERRED, run.transfer), (HEAD_TRANSFERRED, run.head_transfer)):
        if transfer is not None:
            val = ShardDataset.open(transfer.val)
            found.note(name, Subject.load(transfer.weights, place).evaluate(val), source_videos(val))
    return found.measured()


def _measuring(run: Run, pretraining: PretrainJob, place: ProcessPlace) -> Callable[[Subject, _Findings, str], None]:
    """How the models of this data are measured; what is the same for all of them is looked at here."""
    if run.demo_world is not None:
        return partial(_measure_in_world, run.demo_world)
    if run.tied is not None:
        return partial(_measure_tied, run.tied)
    train, val = ShardDataset.open(pretraining.train), ShardDataset.open(pretraining.val)
    test = BiasTest.prepare(pretraining.clip, train, val, place, batch_size=BATCH_SIZE, threads=LOADER_THREADS)
    return partial(_measure_bias, test, source_videos(val))


def source_videos(dataset: ShardDataset) -> list[str]:
    """The videos that its clips were cut from, as `source_video` tells, in their order."""
    return [source_video(dataset.info(number).name) for number in range(len(dataset))]


def _measure_in_world(world: World, subject: Subject, found: _Findings, suffix: str) -> None:
    """`WORLD_MEASURES` of a model."""

    def split(name: str) -> ShardDataset:
        return ShardDataset.open(world.shards(name))

    train, swapped = split("train"), split("swapped")
    usual, on_swapped = subject.evaluate(split("test")), subject.evaluate(swapped)
    hidden = subject.evaluate(split("test"), hide_humans)
    found.note(USUAL + suffix, usual)
    found.note(SWAPPED + suffix, on_swapped)
    found.note(HIDDEN + suffix, hidden)
    found.note(SCENE_ALONE + suffix, subject.evaluate(split("scene-only")))
    found.note("human_alone" + suffix, subject.evaluate(split("human-only")))
    scene_classifier = fit_softmax_regression(require_scenes(train), train.labels, len(train.manifest.classes))
    targets = split("target-train"), split("target-test")
    features, scenes = [subject.features(target) for target in targets], list(map(require_scenes, targets))
    probe = scene_probe(features[0], scenes[0], features[1], scenes[1])
    values = {
        "scene_action_rate": swap_to_scene_rate(on_swapped, scene_classifier.predict(require_scenes(swapped))),
        "hidden_entropy": hidden.entropy,
        "clean_entropy": usual.entropy,
        PROBE: probe.accuracy,
        "probe_mlp": probe.mlp_accuracy,
        "probe_chance": probe.chance,
    }
    found.values |= {name + suffix: value for name, value in values.items()}


def _measure_bias(test: BiasTest, videos: Sequence[str], subject: Subject, found: _Findings, suffix: str) -> None:
    """`MEASURES` of a model on real clips, which are from these ``videos``."""
    bias = test.measure(subject.model)
    found.values |= {name + suffix: value for name, value in bias.values.items()}
    shown = {CLEAN: range(len(videos)), HUMAN_ONLY: test.masked.sample_M, SWAPPED_VIEW: test.swaps.sample_M}
    for view, samples in shown.items():
        if view in bias.evaluations:
            found.note(f"{view}_top1{suffix}", bias.evaluations[view], [videos[sample] for sample in samples])


def _measure_tied(tied: PackTied, subject: Subject, found: _Findings, suffix: str) -> None:
    """`TIED_MEASURES` of a model."""
    tests = [ShardDataset.open(tied.shards(subset)) for subset in TIED_TESTS]
    videos = [source_videos(test) for test in tests]
    usual, conflicting = map(subject.evaluate, tests)
    found.note(USUAL + suffix, usual, videos[0])
    found.note(CONFLICTING + suffix, conflicting, videos[1])
    sides = json.loads(tied.sides.read_text(encoding="utf-8"))
    side_A = np.array([sides[name] for name in tests[1].manifest.classes])
    on_scenes_side_N = side_A[conflicting.prediction_N] != side_A[conflicting.label_N]
    found.values["conflicting_side" + suffix] = float(on_scenes_side_N.mean())
    alone = [subject.evaluate(test, humans_only) for test in tests]
    together = Evaluation(
        np.concatenate([evaluation.probability_NA for evaluation in alone]),
        np.concatenate([evaluation.label_N for evaluation in alone]),
    )
    found.note(f"{HUMAN_ONLY}_top1{suffix}", together, [*videos[0], *videos[1]])


def evaluate_trial(run: Run) -> Trial:
    """Accuracy on usual and on swapped scenes, of a candidate that tuning looks at; measured once."""
    assert run.pretraining is not None, "a candidate is a way to pretrain"
    assert run.demo_world is not None, "tuning uses demo worlds"
    path = run.pretraining.folder / TRIAL_NAME
    if not path.exists():
        with distributed_session() as place:
            subject = Subject.load(run.pretraining.weights, place)
            found = _Findings()
            for name, split in ((USUAL, "test"), (SWAPPED, "swapped")):
                found.note(name, subject.evaluate(ShardDataset.open(run.demo_world.shards(split))))
            found.measured().write(path)
    values = Measured.read(path).values
    return Trial(in_distribution=values[USUAL], swapped=values[SWAPPED])
