"""A model under other BatchNorm statistics than its own: those of clean clips.

What a network was trained with besides clean clips, such as clips without their humans, has a part in the statistics
that it carries; a measure that changes with them tells of them, and not of the weights alone.
"""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from dali_pipelines import ClipBatch, ClipConfig, TrainLoader
from scenebias.bias.model_bias import Measure, ModelBias
from scenebias.distributed.process_place import ProcessPlace
from scenebias.models.action_model import VideoClassifier
from scenebias.models.batch_statistics import estimate_statistics, tracking_batch_norms
from shards.dataset import ShardDataset

ModelT = TypeVar("ModelT", bound=VideoClassifier)
CLIPS, BATCH_SIZE = 1024, 32
MOST_MOVED = 0.01
"""Shares that differ by more are said to depend on the statistics."""


def with_clean_statistics(
    model: ModelT, clip: ClipConfig, train: ShardDataset, place: ProcessPlace, *, threads: int
) -> ModelT | None:
    """A copy of ``model`` whose BatchNorms have the statistics of up to `CLIPS` clips of ``train``; None without any.

    The clips are cut as ``clip`` says for training, and otherwise as they are. They are always the same ones, in the
    same batches, in any number of processes.
    """
    copy = deepcopy(model).train()
    if not tracking_batch_norms(copy):
        return None
    loader = TrainLoader(
        train,
        clip,
        global_batch_size=min(BATCH_SIZE, len(train)),
        rank=0,
        world_size=1,
        device=place.device,
        threads=threads,
    )
    batches: Iterator[ClipBatch] = islice(loader.epoch(0), -(-CLIPS // BATCH_SIZE))
    estimate_statistics(copy, batches, lambda batch: copy.features(batch.clip_BTHWC))
    return copy.train(model.training)


@dataclass(frozen=True)
class TwofoldBias:
    """What was measured of one model under both kinds of statistics."""

    saved: ModelBias
    """Under those that it carries."""
    clean_bn: ModelBias | None
    """Under those of clean training clips; None where it has no BatchNorm."""

    def cell(self, name: str, measure: Measure) -> str:
        """The value of a measure for a table, and behind it the other one where that is not the same."""
        first = measure.cell(self.saved.values[name])
        second = first if self.clean_bn is None else measure.cell(self.clean_bn.values[name])
        return first if first == second else f"{first.partition(' ')[0]} / {second}"

    def moved(self, measures: Mapping[str, Measure]) -> dict[str, float]:
        """By how much each share is higher on clean clips' statistics, of those that differ by over `MOST_MOVED`."""
        if self.clean_bn is None:
            return {}
        changes = {
            name: self.clean_bn.values[name] - self.saved.values[name]
            for name, measure in measures.items()
            if measure.unit == "share"
        }
        return {name: change for name, change in changes.items() if abs(change) > MOST_MOVED}

    def remark(self, model: str, measures: Mapping[str, Measure]) -> str | None:
        """What must be said of the model with this name, in a sentence; None where the statistics hardly matter."""
        if self.clean_bn is None:
            return f"{model} has no BatchNorm: there is one kind of statistics alone."
        moved = self.moved(measures)
        if not moved:
            return None
        amounts = "; ".join(f"{measures[name].title} {100 * change:+.1f}" for name, change in moved.items())
        return (
            f"{model} differs by more than {100 * MOST_MOVED:.0f} point under BatchNorm statistics of clean clips from"
            " what it is as saved. So these measures depend on the statistics, and not on the weights alone:"
            f" {amounts}."
        )
