"""A training run as a folder: checked inputs, a record of what was asked, checkpoints, logs, weights and a result."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dali_pipelines import ClipConfig, EvalLoader, FaultConfig, ProtocolConfig, TrainLoader
from scenebias.arithmetic import ArithmeticConfig
from scenebias.checkpoint import CheckpointConfig, CheckpointFolder
from scenebias.datasets import RemoteConfig, open_pair, require_scenes
from scenebias.distributed import (
    DistributedConfig,
    ProcessPlace,
    distributed_session,
    is_main_process,
    process_count,
)
from scenebias.evaluation import Evaluation, evaluate_model, evaluating
from scenebias.interruption import Interruption
from scenebias.model import ActionModel
from scenebias.objective import DebiasingModel, ObjectiveConfig
from scenebias.optimization import OptimizationConfig
from scenebias.predictions import PREDICTIONS_NAME, save_predictions
from scenebias.profiling import StepProfiler
from scenebias.run_record import RECORD_NAME, check_same_run, plain, write_run_record
from scenebias.trainer import ScheduleConfig, Trainer
from scenebias.training_log import TrainingLog
from scenebias.weights import TrainedOn, WeightsMetadata, ensure_unseen, save_weights
from shards.atomic import write_json
from shards.checksums import sha256_of
from shards.dataset import ShardDataset
from shards.errors import UserError
from shards.order import EpochOrder

WITHOUT_EFFECT = (
    "out",
    "train",
    "val",
    "recipe",
    "init",
    "weights",
    "loader_threads",
    "loader_prefetch",
    "remote",
    "check_ranks_every_steps",
    "checkpoints",
    "distributed",
    "faults",
    "skip_nonfinite_steps",
    "recompute",
    "profile",
    "force",
)
"""Options that decide nothing of what a run has done so far, so that it goes on with others; data and initial weights
count by their content, not their place."""
WEIGHTS_NAME = "weights.safetensors"
RESULT_NAME = "result.json"
CHECKPOINTS_NAME = "checkpoints"
TRACE_NAME = "trace.json"


@dataclass(frozen=True, kw_only=True)
class RunPlaces:
    """What a training run works on, and where."""

    train: str
    """Packed data set to train on: a folder, or its URL."""
    val: str
    """Packed data set to evaluate on after every epoch."""
    out: Path
    """Folder of the run; the same command continues a run that was interrupted."""


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """How to train, on whatever data."""

    loader_threads: int = 2
    """Decoding threads of each process."""
    loader_prefetch: int = 2
    """Batches that each process makes ahead."""
    shuffle_window_shards: int | None = None
    """Shuffle within so many shards at a time, for storage that reads best in sequence; None: over all clips."""
    force: bool = False
    """Go on even where the initial weights have seen clips of --val."""
    profile: bool = False
    """Write a trace of a few steps, by torch's profiler, to trace.json in --out; it opens in ui.perfetto.dev."""
    clip: ClipConfig = field(default_factory=ClipConfig)
    protocol: ProtocolConfig = field(default_factory=ProtocolConfig)
    faults: FaultConfig = field(default_factory=FaultConfig)
    remote: RemoteConfig = field(default_factory=RemoteConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    optimization: OptimizationConfig = field(default_factory=OptimizationConfig)
    arithmetic: ArithmeticConfig = field(default_factory=ArithmeticConfig)
    checkpoints: CheckpointConfig = field(default_factory=CheckpointConfig)
    distributed: DistributedConfig = field(default_factory=DistributedConfig)

    def __post_init__(self) -> None:
        heads_alone = self.optimization.head_warmup_epochs
        if heads_alone >= self.schedule.epochs:
            raise ValueError(
                f"head_warmup_epochs must be below epochs ({self.schedule.epochs}), got {heads_alone}: the backbone"
                " would learn nothing"
            )
        for name in ("loader_threads", "loader_prefetch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.shuffle_window_shards is not None and self.shuffle_window_shards < 1:
            raise ValueError(f"shuffle_window_shards must be at least 1 or None, got {self.shuffle_window_shards}")


@dataclass(frozen=True, kw_only=True)
class RunConfig(TrainingOptions, RunPlaces):
    """What every training run needs to know."""


@dataclass(frozen=True)
class Pupil:
    """What a run trains: the model with its objective, and where its initial weights come from."""

    model: DebiasingModel
    initial_weights: Path | None = None
    trained_on: tuple[TrainedOn, ...] = ()
    """What the initial weights have seen."""


def identity_of(dataset: ShardDataset) -> TrainedOn:
    """What tells ``dataset`` from others in a weight file."""
    manifest = dataset.manifest
    return TrainedOn(manifest.dataset, manifest.split, manifest.subset, manifest.digest)


def clip_config_of(metadata: WeightsMetadata) -> ClipConfig:
    """How the clips were cut that the weights were trained on; UserError where the weights do not say."""
    try:
        values = dict(metadata.configuration["clip"])
        return ClipConfig(**{**values, "scales": tuple(values["scales"])})
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"the weights do not say how clips are cut ({error}): give weights of a training run"
        ) from error


def check_annotations(dataset: ShardDataset, objective: ObjectiveConfig) -> None:
    """UserError where ``objective`` needs masks or scene labels that ``dataset`` was packed without.

    Some clips may lack a mask, as they take no part in the confusion then; a scene label is needed of every clip.
    """
    remedy = "pack it again with tools/make_shards.py {}, or train with --objective baseline"
    if objective.uses_masks and not dataset.mask_count:
        raise UserError(
            f"--objective {objective.objective} needs human masks, and {dataset.location} has none:"
            f" {remedy.format('--masks')}"
        )
    if objective.uses_scenes:
        require_scenes(dataset)


def has_begun(out: Path) -> bool:
    """Whether ``out`` holds work of a run; UserError where it holds something else.

    A run that failed before its first checkpoint has left nothing to continue: its folder may be used anew.
    """
    if not out.exists():
        return False
    if not out.is_dir():
        raise UserError(f"--out {out} is a file: choose a folder")
    if not (out / RECORD_NAME).exists() and any(not path.match(".*.tmp") for path in out.iterdir()):
        raise UserError(f"--out {out} holds other files: choose a new folder for the run")
    return (out / RESULT_NAME).exists() or CheckpointFolder(out / CHECKPOINTS_NAME).holds_any


def make_folder(out: Path) -> None:
    """Create the folder of a run; UserError where it cannot be."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {out} cannot be created ({error.strerror}): choose another folder") from error
    if not os.access(out, os.W_OK):
        raise UserError(f"--out {out} cannot be written to: choose another folder")


def check_model_fits(model: ActionModel, clip: ClipConfig) -> None:
    """UserError where clips of this length and size are too small for the network."""
    clip_BTHWC = torch.zeros(1, clip.frames, clip.size, clip.size, 3, dtype=torch.uint8)
    with evaluating(model), torch.inference_mode():
        try:
            model(clip_BTHWC)
        except RuntimeError as error:
            raise UserError(
                f"{model.config.backbone} cannot work on --frames {clip.frames} of --size {clip.size} ({error}):"
                " choose longer or larger clips"
            ) from error


def check_batches(train: ShardDataset, batch_size: int, world_size: int, accumulate: int) -> None:
    """UserError where a step's clips cannot be shared out: BatchNorm needs two of them in every part of each rank."""
    steps = EpochOrder(sample_count=len(train), global_batch_size=batch_size).steps_per_epoch
    if len(train) // steps // world_size < 2 * accumulate:
        parts = f" in {accumulate} parts (--accumulate)" if accumulate > 1 else ""
        raise UserError(
            f"the {len(train)} clips of {train.location} in steps of --batch-size {batch_size} leave fewer than two"
            f" for each of {world_size} processes{parts}: use a larger --batch-size, more clips or fewer processes"
        )


def evaluation_loader_for(
    dataset: ShardDataset,
    clip: ClipConfig,
    place: ProcessPlace,
    *,
    batch_size: int,
    threads: int,
    protocol: ProtocolConfig | None = None,
    order: np.ndarray | None = None,
) -> EvalLoader:
    """This rank's share of the windows of ``dataset``; ``batch_size`` counts those of all ranks together.

    ``protocol`` and ``order`` are as of `EvalLoader`.
    """
    return EvalLoader(
        dataset,
        clip,
        batch_size=max(1, batch_size // place.world_size),
        rank=place.rank,
        world_size=place.world_size,
        device=place.device,
        threads=threads,
        protocol=protocol,
        order=order,
    )


def run_training(config: RunConfig, title: str, make_pupil: Callable[[ShardDataset], Pupil]) -> None:
    """Train what ``make_pupil`` makes for the training data, in all processes that ``torchrun`` started.

    Leaves ``run.json``, ``log.jsonl``, ``tensorboard/``, ``checkpoints/``, ``predictions.npz``, ``weights.safetensors``
    and ``result.json`` in ``config.out``. A finished run of the same configuration is left as it is; another one's
    folder is refused.
    """
    train, val = open_pair(config.train, config.val, config.remote)
    pupil = make_pupil(train)
    check_annotations(train, pupil.model.config)
    ensure_unseen(pupil.trained_on, identity_of(val), force=config.force)
    initial = pupil.initial_weights
    data = {
        "train": identity_of(train),
        "val": identity_of(val),
        "initial_weights_sha256": initial and sha256_of(initial),
    }
    computed_on = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    circumstances = {"processes": process_count(), "computed_in": str(config.arithmetic.dtype_on(computed_on))}
    changes = []
    if has_begun(config.out):
        changes = check_same_run(config.out, config, data, circumstances, may_change=WITHOUT_EFFECT)
    if (config.out / RESULT_NAME).exists() and (config.out / WEIGHTS_NAME).exists():
        if is_main_process():
            print(f"{config.out} is complete already: {summary_line(config.out)}")
        return
    for change in changes if is_main_process() else []:
        print(f"the run goes on, although {change}")
    check_model_fits(pupil.model.action_model, config.clip)
    with distributed_session(config.distributed) as place:
        check_batches(train, config.schedule.batch_size, place.world_size, config.arithmetic.accumulate)
        make_folder(config.out)
        if place.is_main:
            for leftover in config.out.glob(".*.tmp"):  # of a process that was killed while it wrote
                leftover.unlink()
            write_run_record(config.out, config, data, circumstances)
        try:
            history = _train(config, title, pupil, train, val, place)
        except torch.OutOfMemoryError as error:
            raise UserError(
                f"the GPU's memory does not suffice ({error}): train with a smaller --batch-size, or with --accumulate"
                f" {2 * config.arithmetic.accumulate} or --recompute"
            ) from error
        if place.is_main:
            _finish(config, pupil, train, history)
        place.wait_for_all()


def _train(
    config: RunConfig, title: str, pupil: Pupil, train: ShardDataset, val: ShardDataset, place: ProcessPlace
) -> list[dict[str, Any]]:
    """Returns the numbers of every epoch."""
    schedule = config.schedule
    loader = TrainLoader(
        train,
        config.clip,
        global_batch_size=schedule.batch_size,
        seed=schedule.seed,
        rank=place.rank,
        world_size=place.world_size,
        device=place.device,
        threads=config.loader_threads,
        prefetch=config.loader_prefetch,
        faults=config.faults,
        shuffle_window_shards=config.shuffle_window_shards,
    )
    evaluation_loader = evaluation_loader_for(
        val,
        config.clip,
        place,
        batch_size=-(-schedule.batch_size // config.arithmetic.accumulate),
        threads=config.loader_threads,
        protocol=config.protocol,
    )

    def evaluate(interruption: Interruption) -> Evaluation:
        classes = len(train.manifest.classes)
        found = evaluate_model(pupil.model.action_model, evaluation_loader, classes, place, interruption=interruption)
        if place.is_main:  # before the checkpoint that says that the epoch is over
            save_predictions(config.out / PREDICTIONS_NAME, found, val)
        return found

    trainer = Trainer(
        pupil.model,
        loader,
        evaluate,
        CheckpointFolder(config.out / CHECKPOINTS_NAME, config.checkpoints.keep_checkpoints),
        place,
        schedule=schedule,
        optimization=config.optimization,
        arithmetic=config.arithmetic,
        checkpoint_every_steps=config.checkpoints.checkpoint_every_steps,
        profiler=StepProfiler(config.out / TRACE_NAME if config.profile and place.is_main else None),
    )
    return trainer.run(lambda step, epochs: TrainingLog(config.out, step, epochs), title)


def _finish(config: RunConfig, pupil: Pupil, train: ShardDataset, history: list[dict[str, Any]]) -> None:
    """Write the weights, then the result, whose presence says that the run is complete."""
    counted = ("skipped_clips", "skipped_steps")
    final = {name: value for name, value in history[-1].items() if name not in ("epoch", *counted)}
    metadata = WeightsMetadata(
        backbone=pupil.model.action_model.config.backbone,
        classes=train.manifest.classes,
        trained_on=(*pupil.trained_on, identity_of(train)),
        configuration=plain(config),
        metrics=final,
    )
    save_weights(config.out / WEIGHTS_NAME, pupil.model.action_model, metadata, pupil.model.scene_head)
    totals = {name: sum(numbers[name] for numbers in history) for name in counted}
    write_json(config.out / RESULT_NAME, {"final": final, "history": history, **totals})
    print(f"{summary_line(config.out)}; weights in {config.out / WEIGHTS_NAME}")


def summary_line(out: Path) -> str:
    """One line on a finished run."""
    try:
        result = json.loads((out / RESULT_NAME).read_text(encoding="utf-8"))
        top1, top5, clips = (result["final"][name] for name in ("top1", "top5", "clips"))
        skipped_clips, skipped_steps = result["skipped_clips"], result["skipped_steps"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{out / RESULT_NAME} is damaged ({error!r}): remove it to finish the run again") from error
    told = f"; {skipped_clips} training clips could not be read and were skipped" if skipped_clips else ""
    told += f"; {skipped_steps} steps without a finite loss were skipped" if skipped_steps else ""
    return f"validation top-1 {100 * top1:.1f} %, top-5 {100 * top5:.1f} %, {clips:.0f} clips{told}"
