"""A training run as a folder: checked inputs, a record of what was asked, checkpoints, logs, weights and a result."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from dali_pipelines import ClipConfig, EvalLoader, TrainLoader
from scenebias.checkpoint import CheckpointFolder
from scenebias.distributed import ProcessPlace, distributed_session
from scenebias.evaluation import Evaluation, evaluate_model
from scenebias.model import ActionModel
from scenebias.objective import DebiasingModel, ObjectiveConfig
from scenebias.optimization import OptimizationConfig
from scenebias.trainer import ScheduleConfig, Trainer
from scenebias.training_log import TrainingLog, check_same_run, plain, write_run_record
from scenebias.weights import TrainedOn, WeightsMetadata, save_weights
from shards.atomic import write_json
from shards.dataset import ShardDataset
from shards.errors import UserError

WEIGHTS_NAME = "weights.safetensors"
RESULT_NAME = "result.json"


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What every training run needs to know."""

    train: Path
    """Packed data set to train on."""
    val: Path
    """Packed data set to evaluate on after every epoch."""
    out: Path
    """Folder of the run; the same command continues a run that was interrupted."""
    loader_threads: int = 2
    """Decoding threads of each process."""
    clip: ClipConfig = field(default_factory=ClipConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    optimization: OptimizationConfig = field(default_factory=OptimizationConfig)

    def __post_init__(self) -> None:
        if self.loader_threads < 1:
            raise ValueError(f"loader_threads must be at least 1, got {self.loader_threads}")


@dataclass(frozen=True)
class Pupil:
    """What a run trains: the model, its objective, and the data that its initial weights have seen."""

    model: ActionModel
    objective: ObjectiveConfig
    trained_on: tuple[TrainedOn, ...] = ()


def identity_of(dataset: ShardDataset) -> TrainedOn:
    """What tells ``dataset`` from others in a weight file."""
    manifest = dataset.manifest
    return TrainedOn(manifest.dataset, manifest.split, manifest.subset, manifest.digest)


def clip_config_of(metadata: WeightsMetadata) -> ClipConfig:
    """How the clips were cut that the weights were trained on."""
    values = dict(metadata.configuration["clip"])
    return ClipConfig(**{**values, "scales": tuple(values["scales"])})


def open_pair(config: RunConfig) -> tuple[ShardDataset, ShardDataset]:
    """The training and validation data; UserError where their classes differ or where they are the same clips."""
    train, val = ShardDataset.open(config.train), ShardDataset.open(config.val)
    if train.manifest.classes != val.manifest.classes:
        raise UserError(
            f"--val {config.val} has other classes than --train {config.train}: pack both from one data set"
        )
    if train.manifest.digest == val.manifest.digest:
        raise UserError(f"--val {config.val} holds the very clips of --train {config.train}: give the test clips")
    return train, val


def check_annotations(dataset: ShardDataset, objective: ObjectiveConfig) -> None:
    """UserError where ``objective`` needs masks or scene labels that ``dataset`` was packed without."""
    for needed, present, what, option in (
        (objective.uses_masks, dataset.has_masks, "human masks", "--masks"),
        (objective.uses_scenes, dataset.has_scenes, "scene labels", "--scenes"),
    ):
        if needed and not present:
            raise UserError(
                f"--objective {objective.objective} needs {what}, and {dataset.directory} has none:"
                f" pack it again with tools/make_shards.py {option}, or train with --objective baseline"
            )


def check_batches(train: ShardDataset, batch_size: int, world_size: int) -> None:
    """UserError where a step's clips cannot be shared out: BatchNorm needs two of them on every rank."""
    steps = -(-len(train) // batch_size)
    if len(train) // steps < 2 * world_size:
        raise UserError(
            f"the {len(train)} clips of {train.directory} in steps of --batch-size {batch_size} leave fewer than two"
            f" for each of {world_size} processes: use a larger --batch-size, more clips or fewer processes"
        )


def evaluation_loader_for(
    dataset: ShardDataset, clip: ClipConfig, place: ProcessPlace, *, batch_size: int, threads: int
) -> EvalLoader:
    """This rank's share of the windows of ``dataset``; ``batch_size`` counts those of all ranks together."""
    return EvalLoader(
        dataset,
        clip,
        batch_size=max(1, batch_size // place.world_size),
        rank=place.rank,
        world_size=place.world_size,
        device=place.device,
        threads=threads,
    )


def run_training(config: RunConfig, title: str, make_pupil: Callable[[ShardDataset], Pupil]) -> None:
    """Train what ``make_pupil`` makes for the training data, in all processes that ``torchrun`` started.

    Leaves ``run.json``, ``log.jsonl``, ``tensorboard/``, ``checkpoints/``, ``weights.safetensors`` and ``result.json``
    in ``config.out``. A finished run of the same configuration is left as it is; another one's folder is refused.
    """
    train, val = open_pair(config)
    data = {"train": identity_of(train), "val": identity_of(val)}
    check_same_run(config.out, config, data, may_change=("out", "train", "val", "loader_threads"))
    if (config.out / RESULT_NAME).exists():
        Console(soft_wrap=True).print(f"{config.out} is complete already: {summary_line(config.out)}")
        return
    pupil = make_pupil(train)
    check_annotations(train, pupil.objective)
    with distributed_session() as place:
        check_batches(train, config.schedule.batch_size, place.world_size)
        if place.is_main:
            config.out.mkdir(parents=True, exist_ok=True)
            write_run_record(config.out, config, data, place.world_size)
        begun_s = time.perf_counter()
        history, final = _train(config, title, pupil, train, val, place)
        if place.is_main:
            _finish(config, pupil, train, history, final, time.perf_counter() - begun_s)
        place.wait_for_all()


def _train(
    config: RunConfig, title: str, pupil: Pupil, train: ShardDataset, val: ShardDataset, place: ProcessPlace
) -> tuple[list[dict[str, Any]], Evaluation]:
    """Returns the numbers of every epoch, and the final model's predictions."""
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
    )
    evaluation_loader = evaluation_loader_for(
        val, config.clip, place, batch_size=schedule.batch_size, threads=config.loader_threads
    )

    def evaluate() -> Evaluation:
        return evaluate_model(
            pupil.model,
            evaluation_loader,
            len(train.manifest.classes),
            place,
            precision=schedule.dtype_on(place.device),
        )

    trainer = Trainer(
        DebiasingModel(pupil.model, pupil.objective),
        loader,
        evaluate,
        CheckpointFolder(config.out / "checkpoints"),
        place,
        schedule,
        config.optimization,
    )
    history = trainer.run(lambda step: TrainingLog(config.out, step), title)
    return history, evaluate()


def _finish(
    config: RunConfig,
    pupil: Pupil,
    train: ShardDataset,
    history: list[dict[str, Any]],
    final: Evaluation,
    duration_s: float,
) -> None:
    """Write the weights, then the result, whose presence says that the run is complete."""
    metadata = WeightsMetadata(
        backbone=pupil.model.config.backbone,
        classes=train.manifest.classes,
        trained_on=(*pupil.trained_on, identity_of(train)),
        configuration=plain(config),
        metrics=final.summary(),
    )
    save_weights(config.out / WEIGHTS_NAME, pupil.model, metadata)
    result = {"final": final.summary(), "history": history, "duration_s": duration_s}
    write_json(config.out / RESULT_NAME, result)
    console = Console(soft_wrap=True)
    console.print(f"{summary_line(config.out)}; weights in {config.out / WEIGHTS_NAME}")


def summary_line(out: Path) -> str:
    """One line on a finished run."""
    final = json.loads((out / RESULT_NAME).read_text())["final"]
    return (
        f"validation top-1 {100 * final['top1']:.1f} %, top-5 {100 * final['top5']:.1f} %, {final['clips']:.0f} clips"
    )
