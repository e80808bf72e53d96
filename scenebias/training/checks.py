"""What is refused before a run begins: data, models and batches that do not fit together."""

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from dali_pipelines import ClipConfig
from dali_pipelines.gpu_decoding import check_loader_device
from scenebias.compose.config import MIXING_ACTIONS, ComposeConfig
from scenebias.data.mixture import Heads, labelled_scenes
from scenebias.debiasing.debiasing_model import DebiasingModel
from scenebias.debiasing.objective import ObjectiveConfig
from scenebias.evaluation.accuracy import evaluating
from scenebias.models.action_model import ActionModel
from scenebias.run_folder.boards import check_boards
from scenebias.training.computing.arithmetic import ArithmeticConfig
from scenebias.training.options import RunConfig
from shards.errors import UserError
from shards.joined_dataset import JoinedDataset
from shards.order import EpochOrder, rank_share

LEAST_CLIPS_A_GPU = 16
"""Below it a run warns."""
COLOUR_OPTIONS = ("--rand-augment", "--jitter-*", "--grey-probability")
"""What gives clips other colours than those of their videos."""


def check_run(config: RunConfig, train: JoinedDataset, model: DebiasingModel, world_size: int) -> None:
    """UserError where the training data, the model and the options of a run do not go together."""
    check_boards(config.boards)
    check_loader_device(config.decoding.loader_device, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    check_annotations(train, model.config, config.compose)
    check_model_fits(model.action_model, config.clip)
    check_batches(
        sum(config.mixture.clips_per_epoch(train)),
        train.location,
        config.schedule.batch_size,
        world_size,
        accumulate=config.arithmetic.accumulate,
        repeats=config.schedule.repeated_augmentation,
        group_size=config.compose.group_size,
    )
    check_derivatives(model.config, config.arithmetic)
    check_heads(config.mixture.heads, model.config, config.compose)
    if model.config.uses_frame_means and config.augment.changes_colours:
        raise UserError(
            "--fill whole_frame_mean is a colour of clips as they are, not of those with other colours: give none of"
            f" {', '.join(COLOUR_OPTIONS)}, or another fill, such as --fill frame_mean"
        )
    if model.config.uses_frame_means and config.compose.compose:
        raise UserError(
            "--fill whole_frame_mean is a colour of clips as they are, not of composed ones: give no --compose, or"
            " another fill, such as --fill frame_mean"
        )
    if model.config.consistency and not config.compose.compose:
        raise UserError("--consistency compares clips with what they are composed to: give --compose, or leave it away")


def check_derivatives(objective: ObjectiveConfig, arithmetic: ArithmeticConfig) -> None:
    """UserError where ``objective`` needs second derivatives of what has one alone."""
    once = {"--compile": arithmetic.compile, "--sync-batch-norm": arithmetic.sync_batch_norm}
    for option, asked in once.items():
        if asked and objective.takes_second_derivatives:
            raise UserError(
                f"{option} knows no second derivatives, which the penalty of --objective {objective.name} takes: train"
                f" without {option}, or with --albar-penalty 0"
            )


def check_heads(heads: Heads, objective: ObjectiveConfig, composition: ComposeConfig) -> None:
    """UserError where a clip would be of actions of two heads."""
    asked = {f"--compose {name}": name in composition.compose for name in MIXING_ACTIONS}
    asked["--label-smoothing"] = objective.label_smoothing > 0
    for option, is_asked in asked.items():
        if heads == "separate" and is_asked:
            raise UserError(
                f"{option} teaches a clip several actions, which may be of two heads: train without it, or with --heads"
                " joined"
            )


def check_annotations(dataset: JoinedDataset, objective: ObjectiveConfig, composition: ComposeConfig) -> None:
    """UserError where ``objective`` or ``composition`` needs masks or scene labels that ``dataset`` was packed without.

    Some clips may lack a mask, as they take no part in the confusion then; a scene label is needed of every clip of one
    data set, and of all or no clips of each other.
    """
    if not dataset.mask_count:
        asking = {
            f"--objective {objective.name}": (objective.uses_masks, "train with --objective baseline"),
            f"--compose {' '.join(composition.compose)}": (composition.needs_masks, "compose otherwise"),
        }
        for option, (needs_masks, otherwise) in asking.items():
            if needs_masks:
                raise UserError(
                    f"{option} needs human masks, and {dataset.location} has none: pack it again with"
                    f" tools/make_shards.py --masks, or {otherwise}"
                )
    if objective.uses_scenes:
        labelled_scenes(dataset)


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


def sync_batch_norm_note(model: DebiasingModel, arithmetic: ArithmeticConfig) -> str | None:
    """What to say where --sync-batch-norm finds nothing to synchronise; None: nothing."""
    if not arithmetic.sync_batch_norm or any(isinstance(module, _BatchNorm) for module in model.modules()):
        return None
    return f"--sync-batch-norm does nothing: {model.action_model.config.backbone} and its heads have no BatchNorm"


def small_batch_note(batch_size: int, world_size: int, *, on_gpu: bool) -> str | None:
    """What to say of a global batch that leaves each of ``world_size`` GPUs too few clips; None: nothing."""
    if not on_gpu or batch_size >= LEAST_CLIPS_A_GPU * world_size:
        return None
    return (
        f"warning: --batch-size {batch_size} leaves {batch_size / world_size:.3g} clips to each of {world_size} GPUs:"
        f" below {LEAST_CLIPS_A_GPU} BatchNorm's statistics are rough and a GPU is hardly busy; raise it, and"
        " --learning-rate in proportion, or train with fewer processes"
    )


def check_batches(
    clips: int,
    location: str,
    batch_size: int,
    world_size: int,
    *,
    accumulate: int = 1,
    repeats: int = 1,
    group_size: int = 1,
) -> None:
    """UserError where a step's clips cannot be shared out: BatchNorm needs two of them in every part of each rank."""
    order = EpochOrder(sample_count=clips, global_batch_size=batch_size // repeats, group_size=group_size)
    shares = (
        rank_share(range(size), r, world_size, group_size) for size in order.batch_sizes for r in range(world_size)
    )
    if repeats * min(map(len, shares)) < 2 * accumulate:
        parts = f" in {accumulate} parts (--accumulate)" if accumulate > 1 else ""
        pairs = f", in groups of {group_size} that are composed with each other (--compose)" if group_size > 1 else ""
        raise UserError(
            f"the {clips} clips of {location} in steps of --batch-size {batch_size} leave fewer than two"
            f" for each of {world_size} processes{parts}{pairs}: use a larger --batch-size, more clips or fewer"
            " processes"
        )
