"""``python -m scenebias.study.demo``: the study of one world, one seed and three arms, in minutes."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from scenebias.commands import Command
from scenebias.demo.world import WorldConfig
from scenebias.run_folder.folder import RunFolder
from scenebias.run_folder.record import plain
from scenebias.study.arms import BASELINE_LONG, BEST, PAPER, Weights, arm_named
from scenebias.study.data.demo_world import MakeWorld, World
from scenebias.study.folder import begin_or_continue, write_results
from scenebias.study.jobs import LOG_NAME, Job, run_jobs
from scenebias.study.measuring_jobs import MeasureData, MeasureModel
from scenebias.study.plan import SCRATCH, Run, pretrain_jobs, transfer_jobs
from scenebias.study.report.demo import DemoReport
from scenebias.study.results import DATA, Results
from scenebias.study.training_jobs import PretrainJob, TransferJob
from shards.checks import require_at_least

ARMS = (BASELINE_LONG, PAPER, BEST)
"""The published method, and what the study found best, beside a baseline of as much compute: they pass clips twice."""
WEIGHTS = Weights(mask=1.0, scene=0.03)
"""Of the losses: those at which its reported numbers were made, and not what tuning chose for twice its epochs."""
SEED = 0
AT_ONCE = 4
"""Trainings that wait for no other one."""
MAY_CHANGE = ("out", "workers")
"""Options that change nothing of what has been done already."""


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """The demo's world, and how long to train in it."""

    out: Path
    """Folder of the demo; the same command goes on with what is missing in it."""
    epochs: int = 20
    """Epochs of pretraining; twice as many of the baseline's."""
    transfer_epochs: int = 30
    """Epochs of transfer to other actions."""
    workers: int | None = None
    """Runs side by side, four at most; by default one for each CPU core."""
    world: WorldConfig = field(default_factory=lambda: WorldConfig(seed=1, clips_train=1200))

    def __post_init__(self) -> None:
        require_at_least(1, epochs=self.epochs, transfer_epochs=self.transfer_epochs, workers=self.workers)


@dataclass(frozen=True)
class DemoPlan:
    """Everything that follows from the options."""

    config: DemoConfig

    @property
    def world(self) -> World:
        """The world that all models are trained and measured in."""
        return World("demo", self.config.out, self.config.world)

    @property
    def data(self) -> MeasureData:
        """What its scenes tell of its actions."""
        return MeasureData(folder=self._folder(DATA), train=self.world.shards("train"), val=self.world.shards("test"))

    @property
    def scratch(self) -> Run:
        """A model that learns the new actions alone."""
        return Run(world=self.world.name, arm=SCRATCH, seed=SEED, pretraining=None, transfer=self._transfer(SCRATCH))

    def pretrained(self, arm: str) -> Run:
        """A model that is pretrained as ``arm`` says, and transferred to the new actions."""
        pretraining = PretrainJob(
            folder=self._folder(arm),
            train=self.world.shards("train"),
            val=self.world.shards("test"),
            epochs=arm_named(arm).times_longer * self.config.epochs,
            seed=SEED,
            method=arm_named(arm).method(WEIGHTS),
        )
        return Run(
            world=self.world.name,
            arm=arm,
            seed=SEED,
            pretraining=pretraining,
            transfer=self._transfer(arm, pretraining.weights),
            demo_world=self.world,
        )

    def _transfer(self, arm: str, start: Path | None = None) -> TransferJob:
        return TransferJob(
            folder=self._folder(f"{arm}-transfer"),
            train=self.world.shards("target-train"),
            val=self.world.shards("target-test"),
            epochs=self.config.transfer_epochs,
            seed=SEED,
            start=start,
        )

    def _folder(self, name: str) -> Path:
        return self.config.out / "runs" / self.world.name / name / f"seed-{SEED}"


def main(config: DemoConfig) -> None:
    """Render a world, pretrain a baseline and two debiased models, transfer them to new actions, and measure all.

    Prints one table and leaves results.json, report.html and everything that they were made from in --out. Given
    again, the same command goes on with what is missing.
    """
    with RunFolder(config.out).held("working in"):
        _demo(config)


def _demo(config: DemoConfig) -> None:
    methods = {arm: plain(arm_named(arm).method(WEIGHTS)) for arm in ARMS}
    begin_or_continue(config, {"methods": methods}, MAY_CHANGE)
    plan, cores = DemoPlan(config), len(os.sched_getaffinity(0))
    workers = config.workers or cores
    make_world = MakeWorld(plan.world, workers)
    if not make_world.is_done:
        make_world.run()

    def run(title: str, jobs: Sequence[Job]) -> None:
        at_once = min(workers, AT_ONCE)
        run_jobs(jobs, title, workers=at_once, threads=max(1, cores // at_once))

    scratch, pretrained = plan.scratch, [plan.pretrained(arm) for arm in ARMS]
    runs = [scratch, *pretrained]
    print(f"each model tells how it gets on in {config.out}/runs/{plan.world.name}/*/*/{LOG_NAME}")
    run("pretraining", [*pretrain_jobs(reversed(pretrained)), *transfer_jobs([scratch])])  # the longest first
    run("transfer", transfer_jobs(pretrained))
    run("measuring", [plan.data, *map(MeasureModel, runs)])
    results = Results.read({(plan.world.name, SEED): plan.data}, runs)
    report = DemoReport(results, scratch, pretrained)
    Console().print(report.printed())
    write_results(config.out, results, report.page())


COMMAND = Command(main=main, options=DemoConfig, example="python -m scenebias.study.demo --out runs/demo")

if __name__ == "__main__":
    COMMAND.run()
