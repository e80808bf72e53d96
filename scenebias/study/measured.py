"""The measures of the study by their names, and what was measured of one model as a file."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Self

import numpy as np

from scenebias.bias.model_bias import HUMAN_ONLY, MEASURES, Measure
from scenebias.commands import null_for_nan
from shards.system.atomic import write_json

MEASURES_NAME = "measures.json"
AT_CLEAN_BN = "@clean_bn"

USUAL, SWAPPED, SCENE_ALONE, HIDDEN, PROBE = "usual", "swapped", "scene_alone", "hidden", "probe"
"""Measures that conclusions rest on."""
WORLD_MEASURES = {
    USUAL: Measure("usual scenes: accuracy", "up"),
    SWAPPED: Measure("swapped scenes: accuracy", "up"),
    "scene_action_rate": Measure("swapped scenes: says the scene's action", "down"),
    SCENE_ALONE: Measure("scene alone: says its usual action", "down"),
    "human_alone": Measure("human alone, before a grey wall: accuracy", "up"),
    HIDDEN: Measure("human hidden: accuracy", "down"),
    "hidden_entropy": Measure("human hidden: entropy", "up", "nats"),
    "clean_entropy": Measure("usual scenes: entropy", None, "nats"),
    PROBE: Measure("scene read from the features, new balanced actions: linear", "down"),
    "probe_mlp": Measure("scene read from the features, new balanced actions: one hidden layer", "down"),
    "probe_chance": Measure("chance of that", None),
}
"""What is measured in a demo world, where clips of every kind can be rendered."""
CONFLICTING = "conflicting"
TIED_MEASURES = {
    USUAL: WORLD_MEASURES[USUAL],
    CONFLICTING: Measure("scenes of the other classes' kind: accuracy", "up"),
    "conflicting_side": Measure("scenes of the other classes' kind: says one of those classes", "down"),
    f"{HUMAN_ONLY}_top1": MEASURES[f"{HUMAN_ONLY}_top1"],
}
"""What is measured where the kind of scene and the class are tied in training."""
TRANSFERRED, HEAD_TRANSFERRED = "transfer_top1", "head_transfer_top1"
TRANSFER_MEASURES = {
    TRANSFERRED: Measure("new classes, all layers tuned: accuracy", "up"),
    HEAD_TRANSFERRED: Measure("new classes, a new head alone: accuracy", "up"),
}
TASKS = {
    "localize_map_50": "localising in long takes: mAP at IoU 0.5",
    "detect_frame_map_50": "detecting in their frames: frame-mAP at IoU 0.5",
}
LOCALIZED, DETECTED = TASKS
TAKES_MEASURES = {
    f"{task}_{scenes}": Measure(f"{title}, {scenes} scenes", "up")
    for task, title in TASKS.items()
    for scenes in (USUAL, SWAPPED)
}
"""What is measured where a model is transferred to long takes."""
_ONCE: dict[str, Measure] = {**MEASURES, **WORLD_MEASURES, **TIED_MEASURES, **TRANSFER_MEASURES}
ALL_MEASURES: dict[str, Measure] = (
    _ONCE | {f"{name}{AT_CLEAN_BN}": measure for name, measure in _ONCE.items()} | TAKES_MEASURES
)
COSTS = {"wall_s": "wall time of a run, in seconds", "cpu_s": "CPU time of a run, in seconds"}
"""Beside the measures: the fields of `Cost`, of the training."""


@dataclass(frozen=True)
class Measured:
    """What was measured of one model, or of a data set."""

    values: Mapping[str, float]
    """By the names of `ALL_MEASURES` and `COSTS`; NaN where one could not be measured."""
    predicted: Mapping[str, list[int]]
    """The class that the model named for each test clip, by the measure: any interval can be computed from it."""
    labels: Mapping[str, list[int]]
    """The clips' own classes, by the same names."""
    source_videos: Mapping[str, list[str]] = field(default_factory=dict)
    """The videos that the clips were cut from, by the same names; only where several may be of one."""

    @classmethod
    def read(cls, path: Path) -> Self:
        """What `write` has left."""
        measured = cls(**json.loads(path.read_text(encoding="utf-8")))
        values = {name: math.nan if value is None else value for name, value in measured.values.items()}
        return replace(measured, values=values)

    def write(self, path: Path) -> None:
        """As JSON; what could not be measured is null there."""
        write_json(path, asdict(self) | {"values": null_for_nan(dict(self.values))})

    def correct(self, kind: str) -> np.ndarray:
        """Whether the model was right, bool, for each test clip."""
        return np.equal(self.predicted[kind], self.labels[kind])


@dataclass(frozen=True, kw_only=True)
class MeasuringJob:
    """What jobs that leave a `Measured` in a folder have in common."""

    folder: Path

    @property
    def measures(self) -> Path:
        """The `Measured` that it leaves."""
        return self.folder / MEASURES_NAME

    @property
    def is_done(self) -> bool:
        return self.measures.exists()
