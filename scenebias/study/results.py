"""The numbers of the study, by world, arm and seed; and what can be said of them together."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from typing import Self

import numpy as np

from scenebias.statistics.intervals import Interval, paired_bootstrap, seed_interval
from scenebias.study.arms import BASELINE
from scenebias.study.measured import Measured
from scenebias.study.measuring_jobs import MeasureData, measures_of
from scenebias.study.plan import BALANCED_WORLD, ORACLE, USUAL_WORLD, Run
from scenebias.study.takes_jobs import TransferToTakes

DATA = "data"
"""What stands in the place of an arm where a number is of the data set itself."""


@dataclass(frozen=True)
class Results:
    """Everything that was measured."""

    models: Mapping[tuple[str, str], Mapping[int, Measured]]
    """By (world, arm), then by seed."""

    @classmethod
    def read(
        cls,
        data: Mapping[tuple[str, int], MeasureData],
        runs: Sequence[Run],
        takes_jobs: Sequence[TransferToTakes] = (),
    ) -> Self:
        """What the jobs have left that measured these data sets, by world and seed, and these runs, and long takes."""
        models: dict[tuple[str, str], dict[int, Measured]] = defaultdict(dict)
        for (world, seed), job in data.items():
            models[world, DATA][seed] = Measured.read(job.measures)
        for run in runs:
            models[run.world, run.arm][run.seed] = Measured.read(measures_of(run))
        for takes_job in takes_jobs:
            models[takes_job.world, takes_job.arm][takes_job.seed] = Measured.read(takes_job.measures)
        return cls(dict(models))

    def records(self) -> list[dict[str, str | int | float]]:
        """One line a number; what could not be measured is left out."""
        return [
            {"world": world, "arm": arm, "seed": seed, "measure": measure, "value": value}
            for (world, arm), seeds in self.models.items()
            for seed, measured in seeds.items()
            for measure, value in measured.values.items()
            if not isnan(value)
        ]

    def has(self, world: str, arm: str) -> bool:
        """Whether models of that arm were measured in that world."""
        return (world, arm) in self.models

    def values(self, world: str, arm: str, measure: str) -> dict[int, float]:
        """One number a seed, of those that could be measured."""
        found = {
            seed: measured.values.get(measure, np.nan) for seed, measured in self.models.get((world, arm), {}).items()
        }
        return {seed: value for seed, value in found.items() if not isnan(value)}

    def interval(self, worlds: Sequence[str], arm: str, measure: str) -> Interval:
        """Mean and 95 % interval over the seeds, of each seed's mean over ``worlds``; NaN where one is not known."""
        by_world = [self.values(world, arm, measure) for world in worlds]
        if len({tuple(values) for values in by_world}) > 1 or not by_world[0]:
            return Interval(np.nan, np.nan, np.nan)
        return seed_interval(np.mean([list(values.values()) for values in by_world], axis=0).tolist())

    def gain(self, measure: str, arm: str, over: str = BASELINE, world: str = USUAL_WORLD) -> Interval:
        """Mean and 95 % interval over the seeds of the difference to the arm ``over``, seed by seed.

        A seed's people and places and, in as many epochs, its initial weights and the order of its clips are the same
        for both: they are pairs. The oracle is that of its own world. NaN where no seed has both.
        """
        ours = self.values(world, arm, measure)
        theirs = self.values(BALANCED_WORLD if over == ORACLE else world, over, measure)
        pairs = [ours[seed] - theirs[seed] for seed in ours if seed in theirs]
        return seed_interval(pairs) if pairs else Interval(np.nan, np.nan, np.nan)

    def gain_over(self, worlds: Sequence[str], arm: str, measure: str, over: str = BASELINE) -> Interval:
        """Mean and 95 % interval over the seeds of the difference to the arm ``over``: its mean over ``worlds``.

        NaN where not every seed of both is known in every one of them.
        """
        ours, theirs = ([self.values(world, name, measure) for world in worlds] for name in (arm, over))
        seeds = {tuple(sorted(values)) for values in (*ours, *theirs)}
        if len(seeds) > 1 or not any(seeds):
            return Interval(np.nan, np.nan, np.nan)
        return seed_interval(
            [
                float(np.mean([a[seed] - b[seed] for a, b in zip(ours, theirs, strict=True)]))
                for seed in next(iter(seeds))
            ]
        )

    def bootstrap_gain(self, worlds: Sequence[str], arm: str, kind: str, over: str = BASELINE) -> Interval:
        """Difference of the accuracies on the test clips of ``worlds``, by the choice of the videos they are from.

        Where it is not known which videos these are, by the choice of the clips. NaN where an accuracy is not known.
        """
        first = {name: [next(iter(self.models[world, name].values())) for world in worlds] for name in (arm, over)}
        if not all(kind in measured.predicted for models in first.values() for measured in models):
            return Interval(np.nan, np.nan, np.nan)
        videos = [np.array(measured.source_videos[kind]) for measured in first[arm] if kind in measured.source_videos]
        return paired_bootstrap(
            [self._correct(world, arm, kind) for world in worlds],
            [self._correct(world, over, kind) for world in worlds],
            group_N=videos if len(videos) == len(worlds) else None,
        )

    def _correct(self, world: str, arm: str, kind: str) -> np.ndarray:
        return np.array([measured.correct(kind) for measured in self.models[world, arm].values()])
