"""Where the consumer of a `TrainLoader` is, and what must be the same for another loader to go on from there."""

from collections.abc import Generator, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from dali_pipelines.windows import LATER_OPTIONS, ClipConfig
from shards.dataset import ShardDataset
from shards.errors import UserError

T = TypeVar("T")

_FORMERLY: Mapping[str, Any] = {"repeats": 1, **{f"clip.{name}": value for name, value in LATER_OPTIONS.items()}}
"""What a state says that was taken before there were these options."""


@dataclass
class Position:
    """The next batch that the consumer has not received."""

    epoch: int = 0
    """Which it is of."""
    step: int = 0
    """Within the epoch; as many as it has steps where all of its batches have been received, but not yet its end."""


def batch_identity(
    dataset: ShardDataset,
    clip: ClipConfig,
    *,
    global_batch_size: int,
    repeats: int,
    seed: int,
    shuffle_window_shards: int | None,
) -> dict[str, Any]:
    """What decides the clips and the pixels of every batch beside its `Position`: JSON values."""
    return {
        "dataset_sha256": dataset.manifest.digest,
        "global_batch_size": int(global_batch_size),
        "repeats": int(repeats),
        "seed": int(seed),
        "shuffle_window_shards": shuffle_window_shards,
        # A JSON file would make lists of tuples.
        **{f"clip.{name}": list(v) if isinstance(v, tuple) else v for name, v in asdict(clip).items()},
    }


def position_of(state: Mapping[str, Any], identity: Mapping[str, Any], steps_per_epoch: int) -> Position:
    """The position in a ``state`` of a loader whose batches ``identity`` decides.

    Raises:
        UserError: it is none, or of a loader of other batches; the sentence names what is different.
    """
    state = {**_FORMERLY, **state}
    lacks = [name for name in ("epoch", "step", *identity) if name not in state]
    if lacks:
        raise UserError(
            f"the loader's state lacks {', '.join(lacks)}: give what state_dict() of a TrainLoader returned"
        )
    differences = [
        f"{name} is {value!r} here and {state[name]!r} in the state"
        for name, value in identity.items()
        if state[name] != value
    ]
    if differences:
        raise UserError(
            f"the loader's state is of other batches: {'; '.join(differences)}. Make the loader with what the state was"
            " taken with, or leave the state and begin at a step of your own by TrainLoader.epoch(epoch, start_step)"
        )
    epoch, step = state["epoch"], state["step"]
    if not (isinstance(epoch, int) and isinstance(step, int) and epoch >= 0 and 0 <= step <= steps_per_epoch):
        raise UserError(
            f"the loader's state is damaged: epoch must be an integer from 0 on and step one in [0, {steps_per_epoch}],"
            f" got {epoch!r} and {step!r}; take an earlier one"
        )
    return Position(epoch, step)


def received(batches: Iterator[T], position: Position, steps_per_epoch: int) -> Generator[T, None, None]:
    """Yield the rest of an epoch from ``position``, which moves on with what is handed over.

    At the end it is the start of the same epoch: that is what comes where the epoch is not changed.
    """
    for batch in batches:
        position.step += 1
        yield batch
    if position.step == steps_per_epoch:  # else another iteration has ended this one
        position.step = 0
