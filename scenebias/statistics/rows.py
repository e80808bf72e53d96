"""Finished runs of several starts on several test sets, as the rows of a table."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Generic, Protocol, TypeVar

from scenebias.statistics.intervals import Interval, seed_interval


class FinishedRun(Protocol):
    """A run that is complete."""

    @property
    def row(self) -> str:
        """What it started from."""

    @property
    def number(self) -> int:
        """Which run of its row."""

    @property
    def target(self) -> str:
        """The data set that it was measured on."""

    @property
    def split(self) -> str:
        """Which split of that."""

    @property
    def summary(self) -> Mapping[str, float]:
        """What it came to, by the names of measures; shares of 0 to 1."""


RunT = TypeVar("RunT", bound=FinishedRun)


class ResultRows(Generic[RunT]):
    """The finished runs of one command: every row has the same targets, and every run of a row the same splits."""

    def __init__(self, runs: Sequence[RunT]) -> None:
        self.runs = tuple(runs)
        self.rows = tuple(dict.fromkeys(run.row for run in runs))
        self.targets = tuple(dict.fromkeys(run.target for run in runs))

    def splits(self, target: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(run.split for run in self.runs if run.target == target))

    def runs_of(self, row: str, target: str) -> list[RunT]:
        return [run for run in self.runs if (run.row, run.target) == (row, target)]

    def seeds(self, row: str) -> int:
        """How many runs a row has on each test set."""
        return len({run.number for run in self.runs if run.row == row})

    def measure(self, row: str, target: str, name: str) -> Interval:
        """Mean over the splits, then mean and interval over the runs of the row (see `seed_interval`)."""
        runs = self.runs_of(row, target)
        numbers = sorted({run.number for run in runs})
        return seed_interval([fmean(run.summary[name] for run in runs if run.number == n) for n in numbers])

    @property
    def reference(self) -> str:
        """The row that others are compared with: the one without debiasing, or else the first."""
        return next((row for row in self.rows if row.split(" ")[0] == "baseline"), self.rows[0])

    @property
    def compared(self) -> list[tuple[str, str]]:
        """Every other row, with every target."""
        return [(row, target) for target in self.targets for row in self.rows if row != self.reference]
