"""The numbers of the study, by world, arm and seed; and what can be said of them together."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from typing import Self

import numpy as np

from scenebias.evaluation.statistics import Interval, paired_bootstrap, seed_interval
from scenebias.study.arms import BASELINE
from scenebias.study.measuring_jobs import Measured, MeasureData, measures_of
from scenebias.study.plan import Run

SWAPPED_GAIN = 0.15
DATA = "data"
"""What stands in the place of an arm where a number is of the data set itself."""


@dataclass(frozen=True)
class Results:
    """Everything that was measured."""

    models: Mapping[tuple[str, str], Mapping[int, Measured]]
    """By (world, arm), then by seed."""

    @classmethod
    def read(cls, data: Mapping[str, MeasureData], runs: Sequence[Run]) -> Self:
        """What the measuring jobs of these data sets, by world, and of these runs have left."""
        models: dict[tuple[str, str], dict[int, Measured]] = defaultdict(dict)
        for world, job in data.items():
            models[world, DATA][0] = Measured.read(job.measures)
        for run in runs:
            models[run.world, run.arm][run.seed] = Measured.read(measures_of(run))
        return cls(models)

    def records(self) -> list[dict[str, str | int | float]]:
        """One line a number; what could not be measured is left out."""
        return [
            {"world": world, "arm": arm, "seed": seed, "measure": measure, "value": value}
            for (world, arm), seeds in self.models.items()
            for seed, measured in seeds.items()
            for measure, value in measured.values.items()
            if not isnan(value)
        ]

    def values(self, world: str, arm: str, measure: str) -> list[float]:
        """One number a seed, of those that could be measured."""
        numbers = [measured.values.get(measure, np.nan) for measured in self.models[world, arm].values()]
        return [number for number in numbers if not isnan(number)]

    def interval(self, worlds: Sequence[str], arm: str, measure: str) -> Interval:
        """Mean and 95 % interval over the seeds, of each seed's mean over ``worlds``; NaN where one is not known."""
        by_world = [self.values(world, arm, measure) for world in worlds]
        if len({len(values) for values in by_world}) > 1 or not by_world[0]:
            return Interval(np.nan, np.nan, np.nan)
        return seed_interval(np.mean(by_world, axis=0).tolist())

    def gain(self, world: str, arm: str, measure: str, over: str = BASELINE) -> Interval:
        """Mean and 95 % interval over the seeds of the difference to the arm ``over``, seed by seed.

        Both have begun from the same weights and seen the same clips in the same order, so their seeds are pairs.
        """
        ours, theirs = (self.models[world, name] for name in (arm, over))
        return seed_interval([ours[seed].values[measure] - theirs[seed].values[measure] for seed in ours])

    def bootstrap_gain(self, worlds: Sequence[str], arm: str, kind: str, over: str = BASELINE) -> Interval:
        """Difference of the accuracies on the test clips of ``worlds``, by the choice of those clips."""
        return paired_bootstrap(
            [self._correct(world, arm, kind) for world in worlds],
            [self._correct(world, over, kind) for world in worlds],
        )

    def _correct(self, world: str, arm: str, kind: str) -> np.ndarray:
        return np.array([measured.correct[kind] for measured in self.models[world, arm].values()])
