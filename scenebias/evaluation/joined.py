"""Accuracy on several data sets: of all their clips together, and of each by itself.

Shape suffixes: N clips, A actions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dali_pipelines import EvalLoader
from scenebias.clips.views import ClipChange
from scenebias.distributed.interruption import Interruption
from scenebias.distributed.process_place import ProcessPlace
from scenebias.evaluation.accuracy import Evaluation, evaluate_model
from scenebias.evaluation.precision import EvaluationPrecision
from scenebias.models.action_model import ActionModel
from shards.joined_dataset import JoinedDataset


@dataclass(frozen=True)
class JoinedEvaluation(Evaluation):
    """Predictions for the clips of several data sets, one set after another."""

    by_set: Mapping[str, Evaluation] = field(kw_only=True)
    """Those of each, by its name."""

    def summary(self) -> dict[str, float]:
        """The numbers of all clips together and, as ``top1/NAME`` and the like, of each data set."""
        of_sets = {
            f"{number}/{name}": value
            for name, found in self.by_set.items()
            for number, value in found.summary().items()
        }
        return super().summary() | of_sets


class _OneHead(nn.Module):
    """``model`` with the logits of one of several heads in a row; the others are below what softmax shows."""

    is_other_A: Tensor

    def __init__(self, model: ActionModel, is_its_A: NDArray[np.bool_]) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("is_other_A", torch.from_numpy(~is_its_A).to(next(model.parameters()).device))
        self.train(model.training)

    def forward(self, clip_BTHWC: Tensor) -> Tensor:
        logits_BA: Tensor = self.model(clip_BTHWC)
        return logits_BA.masked_fill(self.is_other_A, float("-inf"))


def evaluate_joined(
    model: ActionModel,
    loaders: Sequence[EvalLoader],
    data: JoinedDataset,
    place: ProcessPlace,
    *,
    change: ClipChange | None = None,
    interruption: Interruption | None = None,
    precision: EvaluationPrecision = "fp32",
) -> Evaluation:
    """Predict every clip that ``loaders`` serve, one of each data set of ``data``; as of `evaluate_model`."""
    found = []
    for number, loader in enumerate(loaders):
        subject = model if data.head_classes is None else _OneHead(model, data.head_A == number)
        one = evaluate_model(
            subject, loader, len(data.classes), place, change=change, interruption=interruption, precision=precision
        )
        found.append(replace(one, label_N=data.labels_of(number, one.label_N)))
    if len(found) == 1:
        return found[0]
    return JoinedEvaluation(
        np.concatenate([one.probability_NA for one in found]),
        np.concatenate([one.label_N for one in found]),
        by_set=dict(zip(data.names, found, strict=True)),
    )
