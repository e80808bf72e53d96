"""What a model leans on: its predictions for clips whose humans or backgrounds are hidden or swapped.

Shape suffixes: N clips of a data set, M of them that a view can be made of, A actions, K and W windows.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Self

import numpy as np

from dali_pipelines import ClipBatch, ClipConfig, EvalLoader
from dali_pipelines.windows import EvaluationWindows
from scenebias.bias.action_balance import FullGrid, largest_full_grid
from scenebias.bias.benchmarks import clean_measures, hat_ratios, hat_swap_measures, scuba_measures, scuba_views
from scenebias.bias.groups import LEAST_GROUP_CLIPS
from scenebias.bias.hat_pairs import find_pairs
from scenebias.bias.measures import SceneProbe, background_error, contrasted_accuracy, scene_probe, swap_to_scene_rate
from scenebias.bias.model_bias import CLEAN, CONFLFG, HAT_SWAPPED, HUMAN_ONLY, MEASURES, STILL, SWAPPED, ModelBias
from scenebias.bias.outline_control import find_outlined_windows, outline_accuracy
from scenebias.clips.human_placing import place_humans
from scenebias.clips.scene_swap import Placing, SceneSwaps, draw_backgrounds, still, swap_windows, swapped_batches
from scenebias.clips.still_pictures import STRIPES, Backdrop, backdrop_of, conflicting_foreground
from scenebias.clips.views import ClipChange, Cover, as_it_is, hidden_views, humans_only
from scenebias.data.datasets import count_combinations, require_scenes
from scenebias.distributed.process_place import ProcessPlace
from scenebias.evaluation.accuracy import (
    Evaluation,
    evaluating,
    evaluation_loader_for,
    extract_features,
    mean_over_windows,
)
from scenebias.evaluation.masked_windows import MaskedWindows
from scenebias.evaluation.softmax_regression import SoftmaxRegression, fit_softmax_regression
from scenebias.models.action_model import VideoClassifier, class_probabilities
from shards.dataset import ShardDataset
from shards.errors import UserError

OUTLINES: dict[str, Cover] = {"outline_top1": "pixels", "outline_boxes_top1": "boxes"}
"""Which outline a measure is of."""
LEAST_PROBE_CLIPS = 20
"""Fewer validation clips say nothing of what a probe reads."""


@dataclass(frozen=True)
class BiasTest:
    """The clips that models are measured on, prepared once for all models that see clips cut in this way."""

    clip: ClipConfig
    """How the models see clips cut."""
    train: ShardDataset
    """What the models were trained on."""
    val: ShardDataset
    place: ProcessPlace
    masked: MaskedWindows
    """The windows of ``val`` with an effective mask."""
    scene_classifier: SoftmaxRegression
    """Tells the action from the scene vector, as ``train`` has it."""
    swaps: SceneSwaps
    """Who goes before whose background in the swapped clips; see `draw_backgrounds`."""
    hat_swaps: SceneSwaps
    """The same for HAT's swap: of its list of pairs, or `swaps`."""
    hat_listed: int | None
    """How many pairs that list has; None without one."""
    backdrop: Backdrop
    """The still picture behind the people of a SCUBA clip."""
    outlines: Mapping[str, float]
    """`outline_accuracy`, by the measure's name: no model has a part in it."""
    grid: FullGrid | None
    """Actions and scenes of which every combination is in both data sets; None where too few clips are of them."""
    batch_size: int = 32
    """Windows of all ranks together."""
    threads: int = 2
    """Decoding threads of each rank."""
    seed: int = 0
    """Of the backgrounds of swapped clips, and of the noise on hidden humans."""

    @classmethod
    def prepare(
        cls,
        clip: ClipConfig,
        train: ShardDataset,
        val: ShardDataset,
        place: ProcessPlace,
        *,
        batch_size: int = 32,
        threads: int = 2,
        seed: int = 0,
        needs_swaps: bool = False,
        scuba: str = STRIPES,
        hat_pairs: Path | None = None,
    ) -> Self:
        """Look at the masks and scenes of both data sets, which have the same classes; all ranks together.

        The arguments are as the fields; ``scuba`` is as of `backdrop_of`, and ``hat_pairs`` a list as of `find_pairs`.
        Raises UserError as these do, where a clip has no scene vector or, with ``needs_swaps``, where no clip has
        another one to lend it a background.
        """
        backdrop = backdrop_of(scuba, seed=seed)
        loader_for = partial(evaluation_loader_for, clip=clip, place=place, batch_size=batch_size, threads=threads)
        actions = len(train.manifest.classes)
        scene_classifier = fit_softmax_regression(require_scenes(train), train.labels, actions)
        masked = find_outlined_windows(loader_for(val), place)
        usable_N = np.isin(np.arange(len(val)), masked.sample_M)
        scene_NS = require_scenes(val)
        background_N = draw_backgrounds(
            val.labels, scene_NS.argmax(axis=1), scene_classifier.predict(scene_NS), usable_N, seed=seed
        )
        swaps = swap_windows(masked.number_W, masked.sample_W, background_N)
        if needs_swaps and not len(swaps.sample_M):
            raise UserError(
                f"{val.location} has no clips whose humans can change backgrounds, which the gallery shows: it takes"
                " clips of several actions and scenes with human masks (tools/make_shards.py --masks)"
            )
        hat_swaps, hat_listed = swaps, None
        if hat_pairs is not None:
            pairs = find_pairs(hat_pairs, val, usable_N)
            hat_swaps, hat_listed = swap_windows(masked.number_W, masked.sample_W, pairs.background_N), pairs.listed
        outlines = find_outlined_windows(loader_for(train), place)
        return cls(
            clip,
            train,
            val,
            place,
            masked,
            scene_classifier,
            swaps,
            hat_swaps,
            hat_listed,
            backdrop,
            {
                name: outline_accuracy(outlines, train.labels, masked, val.labels, actions, cover)
                for name, cover in OUTLINES.items()
            },
            _common_grid(train, val),
            batch_size,
            threads,
            seed,
        )

    def loader(self, dataset: ShardDataset, number_K: np.ndarray | None = None) -> EvalLoader:
        """This rank's share of the windows ``number_K`` of ``dataset``, or of all."""
        return evaluation_loader_for(
            dataset, self.clip, self.place, batch_size=self.batch_size, threads=self.threads, order=number_K
        )

    def scene_actions(self, data: ShardDataset) -> np.ndarray:
        """The action that goes with the scene of each clip of ``data``, as `scene_classifier` tells, int64 (N,).

        Raises UserError where a clip has no scene vector.
        """
        return self.scene_classifier.predict(require_scenes(data))

    def swapped(self, swaps: SceneSwaps, placing: Placing | None = None) -> Iterator[ClipBatch]:
        """The batches of the swapped clips, as of `swapped_batches`; labels and numbers are the humans' clips'."""
        return swapped_batches(*self._loaders(swaps), placing=placing)

    def with_still_persons(self) -> Iterator[ClipBatch]:
        """The batches of ConflFG: of `swaps` the humans' clips, with the people of those that lend the background."""
        for human, other in zip(*self._loaders(self.swaps), strict=True):
            yield replace(human, clip_BTHWC=conflicting_foreground(human, other, self.backdrop, seed=self.seed))

    def _loaders(self, swaps: SceneSwaps) -> tuple[EvalLoader, EvalLoader]:
        """The humans' clips, and in the same places those of the backgrounds."""
        return self.loader(self.val, swaps.human_window_K), self.loader(self.val, swaps.background_window_K)

    def predict(
        self,
        model: VideoClassifier,
        batches: Iterable[ClipBatch],
        sample_M: np.ndarray,
        views: Mapping[str, ClipChange],
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

    def probe(self, model: VideoClassifier, grid: FullGrid) -> SceneProbe:
        """The scene probes on the model's features, on clips balanced over ``grid``."""
        parts = []
        for dataset in (self.train, self.val):
            sample_M, weight_M = _in_grid(grid, dataset)
            windows = EvaluationWindows(self.clip, dataset.frame_counts, dataset.frame_sizes)
            number_K = np.flatnonzero(np.isin(windows.samples(np.arange(len(windows))), sample_M))
            feature_ND = extract_features(model, self.loader(dataset, number_K), self.place)
            parts.append((feature_ND[sample_M], require_scenes(dataset)[sample_M], weight_M))
        (train_MD, train_MS, train_M), (val_MD, val_MS, val_M) = parts
        return scene_probe(train_MD, train_MS, val_MD, val_MS, train_weight_N=train_M, test_weight_N=val_M)

    def measure(self, model: VideoClassifier) -> ModelBias:
        """All measures of a model that lies on the device of ``place``; the same on every rank."""
        clips, masked_M, swaps, hat = len(self.val), self.masked.sample_M, self.swaps, self.hat_swaps
        evaluations = self.predict(model, self.loader(self.val), np.arange(clips), {CLEAN: as_it_is})
        values = dict.fromkeys(MEASURES, np.nan)
        scene_N = require_scenes(self.val).argmax(axis=1)
        values |= clean_measures(evaluations[CLEAN], self.scene_actions(self.val), scene_N)
        if len(masked_M):
            views = {HUMAN_ONLY: humans_only, **hidden_views(self.seed), **scuba_views(self.backdrop, self.seed)}
            evaluations |= self.predict(model, self.loader(self.val, self.masked.number_W), masked_M, views)
            values |= scuba_measures(evaluations) | hat_ratios(evaluations, masked_M)
        if len(swaps.sample_M):
            views = {SWAPPED: as_it_is, STILL: lambda batch: still(batch.clip_BTHWC)}
            evaluations |= self.predict(model, self.swapped(swaps), swaps.sample_M, views)
            conflicting = self.with_still_persons()
            evaluations |= self.predict(model, conflicting, swaps.sample_M, {CONFLFG: as_it_is})
            values |= self._swap_measures(evaluations)
        if len(hat.sample_M):
            placed = self.swapped(hat, place_humans)
            evaluations |= self.predict(model, placed, hat.sample_M, {HAT_SWAPPED: as_it_is})
            values |= hat_swap_measures(evaluations, self.val.labels[hat.background_M])
        for name, evaluation in evaluations.items():
            values |= {f"{name}_top1": evaluation.top1, f"{name}_entropy": evaluation.entropy}
        values |= self.outlines
        if self.grid is not None:
            probe = self.probe(model, self.grid)
            values |= {
                "scene_probe": probe.accuracy,
                "scene_probe_mlp": probe.mlp_accuracy,
                "scene_probe_chance": probe.chance,
            }
        values |= {"clips": clips, "masked_clips": len(masked_M), "swapped_clips": len(swaps.sample_M)}
        values["hat_pairs"] = len(hat.sample_M)
        reasons = {name: self._reason(name) for name in MEASURES if np.isnan(values[name])}
        return ModelBias({name: values[name] for name in MEASURES}, reasons, evaluations)

    def _swap_measures(self, evaluations: Mapping[str, Evaluation]) -> dict[str, float]:
        background_M, swapped = self.swaps.background_M, evaluations[SWAPPED]
        return {
            "swap_to_scene_rate": swap_to_scene_rate(swapped, self.scene_actions(self.val)[background_M]),
            "background_error": background_error(swapped, self.val.labels[background_M]),
            "contrasted_accuracy": contrasted_accuracy(swapped, evaluations[STILL]),
            "conflfg_error": background_error(evaluations[CONFLFG], self.val.labels[background_M]),
        }

    def _reason(self, name: str) -> str:
        """Why this measure cannot be had of these clips."""
        if name.startswith("scene_probe"):
            return (
                f"fewer than {LEAST_PROBE_CLIPS} validation clips are of actions and scenes of which every combination"
                " is in both the training and the validation clips"
            )
        if name == "conflicting_top1":
            return "the scene of every validation clip goes with its action"
        if name == "worst_group_top1":
            return f"no action and scene have {LEAST_GROUP_CLIPS} validation clips together"
        if not len(self.masked.sample_M):
            return "no validation clip has an effective human mask"
        if name in OUTLINES:
            return "no training clip has an effective human mask"
        if name in ("hat_bor", "hat_hor"):
            return "the action of no clip with an effective mask is recognised, as HAT's ratios ask for"
        if name == "hat_sberr" and len(self.hat_swaps.sample_M):
            return "the clips of every pair of HAT's are of one action"
        return "no masked validation clip has another one to lend it a background"


def _common_grid(train: ShardDataset, val: ShardDataset) -> FullGrid | None:
    """See `BiasTest.grid`."""
    actions, scenes = len(train.manifest.classes), require_scenes(train).shape[1]
    occurs = [
        count_combinations(data.labels, require_scenes(data).argmax(axis=1), actions, scenes) > 0
        for data in (train, val)
    ]
    grid = largest_full_grid(occurs[0] & occurs[1])
    if grid is None or len(_in_grid(grid, val)[0]) < LEAST_PROBE_CLIPS:
        return None
    return grid


def _in_grid(grid: FullGrid, dataset: ShardDataset) -> tuple[np.ndarray, np.ndarray]:
    """The clips of ``dataset`` in ``grid``, and their weights."""
    return grid.pick(dataset.labels, require_scenes(dataset).argmax(axis=1))
