"""What is refused before a run begins: data, models and batches that do not fit together."""

import torch

from dali_pipelines import ClipConfig
from scenebias.data.datasets import require_scenes
from scenebias.evaluation.accuracy import evaluating
from scenebias.models.action_model import ActionModel
from scenebias.training.debiasing_model import DebiasingModel
from scenebias.training.objective import ObjectiveConfig
from scenebias.training.options import RunConfig
from shards.dataset import ShardDataset
from shards.errors import UserError
from shards.order import EpochOrder


def check_run(config: RunConfig, train: ShardDataset, model: DebiasingModel, world_size: int) -> None:
    """UserError where the training data, the model and the options of a run do not go together."""
    check_annotations(train, model.config)
    check_model_fits(model.action_model, config.clip)
    check_batches(train, config.schedule.batch_size, world_size, config.arithmetic.accumulate)


def check_annotations(dataset: ShardDataset, objective: ObjectiveConfig) -> None:
    """UserError where ``objective`` needs masks or scene labels that ``dataset`` was packed without.

    Some clips may lack a mask, as they take no part in the confusion then; a scene label is needed of every clip.
    """
    remedy = "pack it again with tools/make_shards.py {}, or train with --objective baseline"
    if objective.uses_masks and not dataset.mask_count:
        raise UserError(
            f"--objective {objective.name} needs human masks, and {dataset.location} has none:"
            f" {remedy.format('--masks')}"
        )
    if objective.uses_scenes:
        require_scenes(dataset)


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
