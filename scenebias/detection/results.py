"""What the runs of a command that finds things come to: rows by targets, intervals over seeds and videos."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from scenebias.detection.average_precision import Matches
from scenebias.detection.bootstrap import paired_bootstrap_of_maps
from scenebias.statistics.intervals import Interval
from scenebias.statistics.rows import ResultRows


@dataclass(frozen=True, eq=False)
class DetectionRun:
    """A run that is complete."""

    row: str
    """What it started from."""
    number: int
    """Which run of its row."""
    target: str
    split: str
    folder: Path
    summary: Mapping[str, float]
    """Shares of 0 to 1, by the names of measures."""
    compared: Matches
    """Of the test videos, at the thresholds whose mean rows are compared by."""
    classes: tuple[str, ...]


class DetectionResults(ResultRows[DetectionRun]):
    """The finished runs of one command."""

    @cached_property
    def differences(self) -> dict[tuple[str, str], Interval]:
        """By (row, target): how much more mAP than the reference, with its interval over the test videos."""
        return {
            (row, target): paired_bootstrap_of_maps(self._matches(row, target), self._matches(self.reference, target))
            for row, target in self.compared
        }

    def _matches(self, row: str, target: str) -> Sequence[Sequence[Matches]]:
        runs = self.runs_of(row, target)
        return [[run.compared for run in runs if run.split == split] for split in self.splits(target)]

    def video_counts(self, target: str) -> list[int]:
        """Test videos of each split."""
        runs = [run for run in self.runs_of(self.rows[0], target) if run.number == 0]
        return [len(run.compared.truth_VC) for run in runs]

    def classes(self, target: str) -> tuple[str, ...]:
        return next(run.classes for run in self.runs if run.target == target)

    def describe(self, target: str) -> str:
        """The size of a target, as a clause."""
        videos = " + ".join(map(str, self.video_counts(target)))
        return f"{target} {videos} of {len(self.classes(target))} classes"
