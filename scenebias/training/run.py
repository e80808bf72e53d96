"""A training run from its checked inputs to its weights and result, in a folder; it goes on where it was."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from dali_pipelines import MixtureLoader, TrainLoader
from dali_pipelines.epoch_loader import EpochLoader
from scenebias.data.mixture import epoch_line, mixture_notes, open_joined
from scenebias.debiasing.debiasing_model import DebiasingModel
from scenebias.distributed.interruption import Interruption
from scenebias.distributed.process_place import ProcessPlace, distributed_session, process_count
from scenebias.evaluation.accuracy import Evaluation, evaluation_loader_for
from scenebias.evaluation.joined import evaluate_joined
from scenebias.evaluation.prediction_file import PREDICTIONS_NAME, save_predictions
from scenebias.models.batch_statistics import tracking_batch_norms
from scenebias.models.seen_clips import SeenClips, TrainedOn, identity_of
from scenebias.models.weights import WeightsMetadata, ensure_unseen, save_weights, weights_at
from scenebias.reports.terminal import tell
from scenebias.run_folder.checkpoint import CheckpointFolder
from scenebias.run_folder.folder import RunFolder, RunResult
from scenebias.run_folder.log import TrainingLog
from scenebias.run_folder.profiling import StepProfiler
from scenebias.run_folder.record import RunRecord
from scenebias.training.checks import check_run, small_batch_note, sync_batch_norm_note
from scenebias.training.computing.memory_faults import is_out_of_memory
from scenebias.training.options import WITHOUT_EFFECT, RunConfig
from scenebias.training.precise_batch_norm import LARGEST_BATCH, PreciseBatchNorm
from scenebias.training.prolonging import prolonged_epochs
from scenebias.training.trainer import Trainer
from shards.errors import UserError
from shards.joined_dataset import JoinedDataset
from shards.system.checksums import sha256_of


@dataclass(frozen=True)
class InitialModel:
    """What a run trains: the model with its objective, and where its initial weights come from."""

    model: DebiasingModel
    weights: Path | None = None
    """The file that its initial weights are of; None: they are random."""
    metadata: WeightsMetadata | None = None
    """What that file says of itself."""


def run_training(config: RunConfig, title: str, make_model: Callable[[JoinedDataset], InitialModel]) -> None:
    """Train what ``make_model`` makes for the training data, in all processes that ``torchrun`` started.

    Leaves ``run.json``, ``log.jsonl``, ``tensorboard/``, ``checkpoints/``, ``predictions.npz``, ``weights.safetensors``
    and ``result.json`` in ``config.out``. A finished run of the same configuration is left as it is, and one of
    fewer epochs goes on where its schedule permits it; another one's folder is refused, and so is one that another
    process is at work in.
    """
    with RunFolder(config.out).held("training into"):
        _run(config, title, make_model)


def _run(config: RunConfig, title: str, make_model: Callable[[JoinedDataset], InitialModel]) -> None:
    folder = RunFolder(config.out)
    train, val = open_joined(config.train_locations, config.val_locations, config.remote, config.mixture.heads)
    initial = make_model(train)
    check_run(config, train, initial.model, process_count())
    few_clips = small_batch_note(config.schedule.batch_size, process_count(), on_gpu=torch.cuda.is_available())
    nothing_to_synchronise = sync_batch_norm_note(initial.model, config.arithmetic)
    notes = [few_clips, nothing_to_synchronise, *mixture_notes(train, val)]
    if initial.weights is not None and initial.metadata is not None:
        notes += [ensure_unseen(initial.weights, initial.metadata, one, force=config.force) for one in val.datasets]
    record = _record(config, initial, train, val)
    has_begun = folder.has_begun()
    shorter = prolonged_epochs(folder, config, initial.model.config) if has_begun else None
    may_change = WITHOUT_EFFECT if shorter is None else (*WITHOUT_EFFECT, "epochs")
    changes = record.changes_since(folder.path, may_change) if has_begun else []
    if folder.is_complete and shorter is None:
        tell(f"{folder.path} is complete already: {folder.read_result().line}")
        return
    for change in changes:
        tell(f"the run goes on, although {change}")
    for note in notes:
        tell(note)
    if initial.metadata is not None and initial.metadata.focus != train.focus:
        tell(f"{initial.weights} were trained on {initial.metadata.focus}; {train.location} shows {train.focus}")
    with distributed_session(config.distributed) as place:
        if place.is_main:
            folder.remove_leftovers()
            if shorter is not None:
                folder.reopen(shorter)
            record.write(folder.path)
        place.wait_for_all()  # before any looks for a checkpoint
        try:
            log_of = partial(TrainingLog, folder.path, boards=config.boards)
            history = _trainer(config, initial, train, val, place).run(log_of, title)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise UserError(
                f"the GPU's memory does not suffice ({error}): train with a smaller --batch-size, or with --accumulate"
                f" {2 * config.arithmetic.accumulate} or --recompute"
            ) from error
        if place.is_main:
            result = RunResult.of_epochs(history, config.evaluation.eval_precision)
            _finish(record, initial, train, result, folder)
        place.wait_for_all()


def _record(config: RunConfig, initial: InitialModel, train: JoinedDataset, val: JoinedDataset) -> RunRecord:
    def identity(data: JoinedDataset) -> TrainedOn | list[TrainedOn]:
        first, *others = map(identity_of, data.datasets)
        return [first, *others] if others else first

    data = {
        "train": identity(train),
        "val": identity(val),
        "initial_weights_sha256": initial.weights and sha256_of(weights_at(initial.weights)),
    }
    computed_on = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    circumstances = {"processes": process_count(), "computed_in": str(config.arithmetic.dtype_on(computed_on))}
    return RunRecord.of(config, data, circumstances)


def _trainer(
    config: RunConfig, initial: InitialModel, train: JoinedDataset, val: JoinedDataset, place: ProcessPlace
) -> Trainer:
    """What trains and evaluates, and keeps checkpoints and predictions in the run's folder."""
    folder, schedule = RunFolder(config.out), config.schedule
    precision = config.evaluation.eval_precision
    loader_of = partial(
        _loader_of(config, train),
        clip=config.clip,
        seed=schedule.seed,
        device=place.device,
        threads=config.loader_threads,
        prefetch=config.loader_prefetch,
        decoding=config.decoding,
        faults=config.faults,
        shuffle_window_shards=config.shuffle_window_shards,
        group_size=config.compose.group_size,
        frame_means=initial.model.config.uses_frame_means,
    )
    loader = loader_of(
        global_batch_size=schedule.batch_size,
        repeats=schedule.repeated_augmentation,
        rank=place.rank,
        world_size=place.world_size,
    )
    precise_bn = None
    if schedule.precise_bn.precise_bn_clips and tracking_batch_norms(initial.model.train()):
        own_loader = loader_of(
            global_batch_size=min(schedule.batch_size, LARGEST_BATCH), rank=0, world_size=1, quiet=True
        )
        precise_bn = PreciseBatchNorm(schedule.precise_bn, own_loader)
    if len(train.datasets) > 1 and place.is_main:
        tell(epoch_line(train, config.mixture.clips_per_epoch(train), loader.steps_per_epoch))
    windows = -(-schedule.batch_size // config.arithmetic.accumulate)
    evaluation_loader_of = partial(
        evaluation_loader_for,
        clip=config.clip,
        place=place,
        batch_size=windows,
        threads=config.loader_threads,
        protocol=config.protocol,
        decoding=config.decoding,
    )
    model, evaluation_loaders = initial.model.action_model, [evaluation_loader_of(one) for one in val.datasets]

    def evaluate(interruption: Interruption) -> Evaluation:
        found = evaluate_joined(model, evaluation_loaders, val, place, interruption=interruption, precision=precision)
        if place.is_main:  # before the checkpoint that says that the epoch is over
            save_predictions(folder.path / PREDICTIONS_NAME, found, val)
        return found

    trainer = Trainer(
        initial.model,
        loader,
        evaluate,
        CheckpointFolder(folder.checkpoints, config.checkpoints.keep_checkpoints),
        place,
        schedule=schedule,
        optimization=config.optimization,
        arithmetic=config.arithmetic,
        augmentation=config.augment,
        composition=config.compose,
        checkpoint_every_steps=config.checkpoints.checkpoint_every_steps,
        profiler=StepProfiler(folder.trace if config.profile and place.is_main else None),
        precise_bn=precise_bn,
    )
    # Whether there is enough memory, and data that can be read, is known before an epoch is spent.
    first_batches = [
        evaluation_loader_of(loader.dataset, order=np.arange(min(len(loader.windows), max(windows, place.world_size))))
        for loader in evaluation_loaders
    ]
    evaluate_joined(model, first_batches, val, place, precision=precision)
    return trainer


def _loader_of(config: RunConfig, train: JoinedDataset) -> Callable[..., EpochLoader]:
    """What makes a loader of ``train``, told the rest of its arguments."""
    if len(train.datasets) == 1:
        return partial(TrainLoader, train.datasets[0])
    return partial(MixtureLoader, train, config.mixture.clips_per_epoch(train))


def _finish(
    record: RunRecord, initial: InitialModel, train: JoinedDataset, result: RunResult, folder: RunFolder
) -> None:
    """Write the weights, then the result, whose presence says that the run is complete."""
    model, before = initial.model, initial.metadata
    seen = before.seen_clips if before else None
    for one in train.datasets:
        seen = SeenClips.after(seen, one)
    metadata = WeightsMetadata(
        backbone=model.action_model.config.backbone,
        classes=train.classes,
        trained_on=(*(before.trained_on if before else ()), *map(identity_of, train.datasets)),
        seen_clips=seen,
        configuration=record.configuration,
        metrics=result.final,
        focus=train.focus,
    )
    if train.head_classes is None:
        save_weights(folder.weights, model.action_model, metadata, {"scene_head": model.scene_head})
    for number, classes in enumerate(train.head_classes or ()):
        with_head = model.action_model.with_classes(torch.from_numpy(np.flatnonzero(train.head_A == number)))
        save_weights(folder.weights_of_head(number), with_head, replace(metadata, classes=classes))
        print(f"weights with the head of {train.names[number]}: {folder.weights_of_head(number)}")
    folder.write_result(result)
    print(f"{result.line}; weights in {folder.weights}")
