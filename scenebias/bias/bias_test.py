"""What a model leans on: its predictions for clips whose humans or backgrounds are hidden or swapped.

Shape suffixes: N clips of a data set, M of them that a view can be made of, A actions, K and W windows.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Literal

import numpy as np

from dali_pipelines import ClipBatch, ClipConfig, EvalLoader
from dali_pipelines.windows import EvaluationWindows
from scenebias.bias.action_balance import FullGrid, count_combinations, largest_full_grid
from scenebias.bias.measures import SceneProbe, background_error, contrasted_accuracy, scene_probe, swap_to_scene_rate
from scenebias.bias.outline_control import MaskedWindows, find_masked_windows, outline_accuracy
from scenebias.clips.scene_swap import SceneSwaps, draw_backgrounds, still, swap_windows, swapped_batches
from scenebias.clips.views import COVERS, HIDDEN_FILLS, ClipChange, as_it_is, hidden_name, hidden_views, humans_only
from scenebias.data.datasets import require_scenes
from scenebias.distributed.process_place import ProcessPlace
from scenebias.evaluation.accuracy import (
    Evaluation,
    class_probabilities,
    evaluating,
    evaluation_loader_for,
    extract_features,
    mean_over_windows,
)
from scenebias.evaluation.softmax_regression import SoftmaxRegression, fit_softmax_regression
from scenebias.models.action_model import ActionModel
from shards.dataset import ShardDataset

CLEAN, HUMAN_ONLY, SWAPPED, STILL = "clean", "human_only", "swapped", "still"

LEAST_PROBE_CLIPS = 20
"""Fewer validation clips say nothing of what a probe reads."""


@dataclass(frozen=True)
class Measure:
    """What a value of `ModelBias` says: a title, where a model goes that leans less on the scene, and the unit."""

    title: str
    better: Literal["up", "down"] | None
    unit: Literal["share", "nats", "clips"] = "share"

    @property
    def arrow(self) -> str:
        """Where ``better`` points."""
        return {"up": "↑", "down": "↓", None: ""}[self.better]

    def cell(self, value: float) -> str:
        """The value for a table: shares as percentages, a dash where it is unknown."""
        if np.isnan(value):
            return "–"
        return {"share": f"{100 * value:.1f} %", "nats": f"{value:.2f} nats", "clips": f"{value:.0f}"}[self.unit]


def _measures() -> dict[str, Measure]:
    measures = {
        "clean_top1": Measure("clips as they are: accuracy", "up"),
        "human_only_top1": Measure("human only, on grey: accuracy", "up"),
        "swapped_top1": Measure("background swapped: accuracy", "up"),
        "swap_to_scene_rate": Measure("background swapped: says its scene's action", "down"),
        "background_error": Measure("background swapped: says its clip's action", "down"),
        "still_top1": Measure("background swapped, one frame repeated: accuracy", "down"),
        "contrasted_accuracy": Measure("right if swapped and wrong if still", "up"),
    }
    for cover, where in COVERS.items():
        for fill, how in HIDDEN_FILLS.items():
            name, title = hidden_name(cover, fill), f"human hidden ({where}, {how})"
            measures[f"{name}_top1"] = Measure(f"{title}: accuracy", "down")
            measures[f"{name}_entropy"] = Measure(f"{title}: entropy", "up", "nats")
    return measures | {
        "outline_top1": Measure("control: the mask's outline alone, no model: accuracy", None),
        "scene_probe": Measure("scene read from features, actions balanced", "down"),
        "scene_probe_chance": Measure("scene read from features: chance", None),
        "clips": Measure("clips", None, "clips"),
        "masked_clips": Measure("clips with an effective mask", None, "clips"),
        "swapped_clips": Measure("clips with a background to go to", None, "clips"),
    }


MEASURES: dict[str, Measure] = _measures()
"""Every value of `ModelBias`, in the order in which they are read."""


@dataclass(frozen=True)
class ModelBias:
    """What was measured of one model on N validation clips.

    ``values``: the measures of `MEASURES`, shares 0 to 1, entropies in nats, NaN where one cannot be measured.
    ``reasons``: why it cannot, in a sentence, by the same names.
    ``evaluations``: the predictions by view: "clean" for all clips, "swapped" and "still" for the clips of
    `BiasTest.swaps`, all others for those with an effective mask.
    """

    values: dict[str, float]
    reasons: dict[str, str]
    evaluations: dict[str, Evaluation]


@dataclass(frozen=True)
class BiasTest:
    """The clips that models are measured on, prepared once for all models that see clips cut in this way.

    ``clip`` says how; ``train`` and ``val`` are data sets of the same classes with scene vectors (UserError where one
    has none), ``train`` what the models were trained on. ``batch_size`` counts the windows of all ranks together,
    ``threads`` decode; ``seed`` draws the backgrounds of swapped clips and the noise on hidden humans.
    """

    clip: ClipConfig
    train: ShardDataset
    val: ShardDataset
    place: ProcessPlace
    batch_size: int = 32
    threads: int = 2
    seed: int = 0

    def loader(self, dataset: ShardDataset, number_K: np.ndarray | None = None) -> EvalLoader:
        """This rank's share of the windows ``number_K`` of ``dataset``, or of all."""
        return evaluation_loader_for(
            dataset, self.clip, self.place, batch_size=self.batch_size, threads=self.threads, order=number_K
        )

    @cached_property
    def masked(self) -> MaskedWindows:
        """The windows of ``val`` with an effective mask."""
        return find_masked_windows(self.loader(self.val), self.place)

    @cached_property
    def scene_classifier(self) -> SoftmaxRegression:
        """Tells the action from the scene vector, as ``train`` has it."""
        return fit_softmax_regression(require_scenes(self.train), self.train.labels, len(self.train.manifest.classes))

    def scene_actions(self, data: ShardDataset) -> np.ndarray:
        """The action that goes with the scene of each clip of ``data``, as `scene_classifier` tells, int64 (N,).

        Raises UserError where a clip has no scene vector.
        """
        return self.scene_classifier.predict(require_scenes(data))

    @cached_property
    def scene_action_N(self) -> np.ndarray:
        """`scene_actions` of ``val``."""
        return self.scene_actions(self.val)

    @cached_property
    def swaps(self) -> SceneSwaps:
        """Who goes before whose background in the swapped clips; see `draw_backgrounds`."""
        usable_N = np.isin(np.arange(len(self.val)), self.masked.sample_M)
        scene_N = require_scenes(self.val).argmax(axis=1)
        background_N = draw_backgrounds(self.val.labels, scene_N, self.scene_action_N, usable_N, seed=self.seed)
        return swap_windows(self.masked.number_W, self.masked.sample_W, background_N)

    @cached_property
    def outline_top1(self) -> float:
        """`outline_accuracy`: no model has a part in it."""
        train = find_masked_windows(self.loader(self.train), self.place)
        actions = len(self.train.manifest.classes)
        return outline_accuracy(train, self.train.labels, self.masked, self.val.labels, actions)

    @cached_property
    def grid(self) -> FullGrid | None:
        """Actions and scenes of which every combination is in both data sets; None where too few clips are of them."""
        actions, scenes = len(self.train.manifest.classes), require_scenes(self.train).shape[1]
        occurs = [
            count_combinations(data.labels, require_scenes(data).argmax(axis=1), actions, scenes) > 0
            for data in (self.train, self.val)
        ]
        grid = largest_full_grid(occurs[0] & occurs[1])
        if grid is None or len(self._in_grid(grid, self.val)[0]) < LEAST_PROBE_CLIPS:
            return None
        return grid

    @staticmethod
    def _in_grid(grid: FullGrid, dataset: ShardDataset) -> tuple[np.ndarray, np.ndarray]:
        """The clips of ``dataset`` in ``grid``, and their weights."""
        return grid.pick(dataset.labels, require_scenes(dataset).argmax(axis=1))

    def swapped(self, swaps: SceneSwaps) -> Iterator[ClipBatch]:
        """The batches of the swapped clips; masks, labels and numbers are those of the humans' clips."""
        humans, backgrounds = (
            self.loader(self.val, number_K) for number_K in (swaps.human_window_K, swaps.background_window_K)
        )
        return swapped_batches(humans, backgrounds)

    def predict(
        self, model: ActionModel, batches: Iterable[ClipBatch], sample_M: np.ndarray, views: Mapping[str, ClipChange]
    ) -> dict[str, Evaluation]:
        """Predictions for the clips ``sample_M`` of ``val``, which ``batches`` hold, by the name of the view."""
        clips = len(self.val)

        def viewed() -> Iterator[ClipBatch]:
            """Each view as clips of their own, so that one pass serves them all."""
            for batch in batches:
                for number, change in enumerate(views.values()):
                    yield replace(batch, clip_BTHWC=change(batch), sample_B=batch.sample_B + number * clips)

        with evaluating(model):
            probability = mean_over_windows(
                partial(class_probabilities, model), viewed(), len(views) * clips, model.action_count, self.place
            ).reshape(len(views), clips, model.action_count)
        label_M = np.asarray(self.val.labels)[sample_M]
        return {name: Evaluation(probability[number, sample_M], label_M) for number, name in enumerate(views)}

    def probe(self, model: ActionModel, grid: FullGrid) -> SceneProbe:
        """The linear scene probe on the model's features, on clips balanced over ``grid``."""
        parts = []
        for dataset in (self.train, self.val):
            sample_M, weight_M = self._in_grid(grid, dataset)
            windows = EvaluationWindows(self.clip, dataset.frame_counts, dataset.frame_sizes)
            number_K = np.flatnonzero(np.isin(windows.samples(np.arange(len(windows))), sample_M))
            feature_ND = extract_features(model, self.loader(dataset, number_K), self.place)
            parts.append((feature_ND[sample_M], require_scenes(dataset)[sample_M], weight_M))
        (train_MD, train_MS, train_M), (val_MD, val_MS, val_M) = parts
        return scene_probe(train_MD, train_MS, val_MD, val_MS, train_weight_N=train_M, test_weight_N=val_M)

    def measure(self, model: ActionModel) -> ModelBias:
        """All measures of a model that lies on the device of ``place``; the same on every rank."""
        clips, masked_M, swaps = len(self.val), self.masked.sample_M, self.swaps
        evaluations = self.predict(model, self.loader(self.val), np.arange(clips), {CLEAN: as_it_is})
        values = dict.fromkeys(MEASURES, np.nan)
        if len(masked_M):
            views = {HUMAN_ONLY: humans_only, **hidden_views(self.seed)}
            evaluations |= self.predict(model, self.loader(self.val, self.masked.number_W), masked_M, views)
        if len(swaps.sample_M):
            views = {SWAPPED: as_it_is, STILL: lambda batch: still(batch.clip_BTHWC)}
            evaluations |= self.predict(model, self.swapped(swaps), swaps.sample_M, views)
            values |= self._swap_measures(evaluations[SWAPPED], evaluations[STILL])
        for name, evaluation in evaluations.items():
            values |= {f"{name}_top1": evaluation.top1, f"{name}_entropy": evaluation.entropy}
        values["outline_top1"] = self.outline_top1
        if self.grid is not None:
            probe = self.probe(model, self.grid)
            values |= {"scene_probe": probe.accuracy, "scene_probe_chance": probe.chance}
        values |= {"clips": clips, "masked_clips": len(masked_M), "swapped_clips": len(swaps.sample_M)}
        reasons = {name: self._reason(name) for name in MEASURES if np.isnan(values[name])}
        return ModelBias({name: values[name] for name in MEASURES}, reasons, evaluations)

    def _swap_measures(self, swapped: Evaluation, frozen: Evaluation) -> dict[str, float]:
        background_M = self.swaps.background_M
        return {
            "swap_to_scene_rate": swap_to_scene_rate(swapped, self.scene_action_N[background_M]),
            "background_error": background_error(swapped, self.val.labels[background_M]),
            "contrasted_accuracy": contrasted_accuracy(swapped, frozen),
        }

    def _reason(self, name: str) -> str:
        """Why this measure cannot be had of these clips."""
        if name.startswith("scene_probe"):
            return (
                f"fewer than {LEAST_PROBE_CLIPS} validation clips are of actions and scenes of which every combination"
                " is in both the training and the validation clips"
            )
        if not len(self.masked.sample_M):
            return "no validation clip has an effective human mask"
        if name == "outline_top1":
            return "no training clip has an effective human mask"
        return "no masked validation clip has another one to lend it a background"
