"""What the runs of a transfer command come to: rows by targets, means over splits, intervals over seeds and clips.

Shape suffixes: R runs (seeds), N clips, A actions.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from scenebias.evaluation.accuracy import class_accuracies
from scenebias.evaluation.prediction_file import PREDICTIONS_NAME, Predictions, load_predictions
from scenebias.statistics.intervals import Interval, paired_bootstrap
from scenebias.statistics.rows import ResultRows
from scenebias.transfer.published import PublishedResult, published_results

MEASURES = {"top1": "top-1", "top5": "top-5", "mean_class_accuracy": "mean class accuracy"}
"""What is measured, by the names of `Evaluation.summary`, all shares of 0 to 1."""


@dataclass(frozen=True)
class FinishedRun:
    """A run that is complete."""

    row: str
    """What it started from."""
    number: int
    """Which run of its row."""
    target: str
    split: str
    folder: Path

    @cached_property
    def predictions(self) -> Predictions:
        """For the test clips, after the last epoch; UserError where they cannot be read."""
        return load_predictions(self.folder / PREDICTIONS_NAME)

    @cached_property
    def summary(self) -> dict[str, float]:
        """The numbers of `Evaluation.summary`."""
        return self.predictions.evaluation.summary()


class TransferResults(ResultRows[FinishedRun]):
    """The finished runs of one command."""

    def classes(self, target: str) -> tuple[str, ...]:
        return next(run.predictions.classes for run in self.runs if run.target == target)

    def clip_counts(self, target: str) -> list[int]:
        """Test clips of each split."""
        runs = [run for run in self.runs_of(self.rows[0], target) if run.number == 0]
        return [len(run.predictions.clip_names) for run in runs]

    def describe(self, target: str) -> str:
        """The size of a target, as a clause."""
        clips = " + ".join(map(str, self.clip_counts(target)))
        return f"{target} {clips} of {len(self.classes(target))} classes"

    def published(self, target: str) -> list[PublishedResult]:
        """What others have published of a target; see `published_results`."""
        return published_results(target, len(self.classes(target)), min(self.clip_counts(target)))

    @cached_property
    def differences(self) -> dict[tuple[str, str], Interval]:
        """By (row, target): how much more top-1 accuracy than the reference, with its interval over the test clips."""
        return {
            (row, target): paired_bootstrap(self._correct(row, target), self._correct(self.reference, target))
            for row, target in self.compared
        }

    def _correct(self, row: str, target: str) -> list[np.ndarray]:
        """Whether each run is right on each clip, bool (R, N), split by split."""
        runs = self.runs_of(row, target)
        by_split = ([run.predictions.evaluation for run in runs if run.split == s] for s in self.splits(target))
        return [np.stack([one.prediction_N == one.label_N for one in evaluations]) for evaluations in by_split]

    def confusion_AA(self, row: str, target: str) -> np.ndarray:
        """Counts of clips, true class by predicted class, summed over all runs."""
        return np.sum([run.predictions.evaluation.confusion_AA for run in self.runs_of(row, target)], axis=0)

    def class_accuracy_A(self, row: str, target: str) -> np.ndarray:
        """Share of each class's clips predicted right in all runs together; NaN for a class without clips."""
        return class_accuracies(self.confusion_AA(row, target))
