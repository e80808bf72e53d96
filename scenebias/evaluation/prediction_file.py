"""The predictions of every test clip as a file (predictions.npz): what confusion matrices and intervals are made of.

Shape suffixes: N clips, A actions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scenebias.evaluation.accuracy import Evaluation
from scenebias.evaluation.result_file import read_arrays, reading, write_arrays
from shards.dataset import ShardDataset
from shards.joined_dataset import JoinedDataset

PREDICTIONS_NAME = "predictions.npz"


@dataclass(frozen=True)
class Predictions:
    """What a model predicted, and of which clips of which classes."""

    evaluation: Evaluation
    clip_names: tuple[str, ...]
    """The original names of the N clips, in the order of the data set."""
    classes: tuple[str, ...]
    """The A actions."""


def save_predictions(
    path: Path, evaluation: Evaluation, dataset: ShardDataset | JoinedDataset, sample_N: Sequence[int] | None = None
) -> None:
    """Write the predictions of clips of ``dataset``, all or ``sample_N``; ``path`` appears only when it is complete.

    An .npz file of plain arrays: ``probability_NA`` (float32), ``label_N`` (int64), ``clip_name_N`` and ``class_A``
    (text). Raises UserError where it cannot be written.
    """
    sample_N = range(len(dataset)) if sample_N is None else sample_N
    write_arrays(
        path,
        {
            "probability_NA": evaluation.probability_NA.astype(np.float32),
            "label_N": evaluation.label_N,
            "clip_name_N": np.array([dataset.info(clip).name for clip in sample_N], dtype=np.str_),
            "class_A": np.array(dataset.classes, dtype=np.str_),
        },
    )


def load_predictions(path: Path) -> Predictions:
    """Read what `save_predictions` wrote; UserError where it is missing or damaged."""
    with reading(path):
        arrays = read_arrays(path)
        probability_NA, label_N, clip_name_N, class_A = (
            arrays[name] for name in ("probability_NA", "label_N", "clip_name_N", "class_A")
        )
        if probability_NA.shape != (len(label_N), len(class_A)) or len(clip_name_N) != len(label_N):
            raise ValueError(f"{probability_NA.shape} probabilities of {len(label_N)} clips, {len(class_A)} classes")
    evaluation = Evaluation(probability_NA.astype(np.float64), label_N.astype(np.int64))
    return Predictions(evaluation, tuple(clip_name_N.tolist()), tuple(class_A.tolist()))
