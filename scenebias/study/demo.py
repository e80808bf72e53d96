"""``python -m scenebias.study.demo``: the study of one world, one seed and two arms, in minutes."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from scenebias.commands import Command
from scenebias.demo.world import WorldConfig
from scenebias.run_folder.record import plain
from scenebias.study.arms import BASELINE
from scenebias.study.demo_world import MakeWorld, World
from scenebias.study.folder import begin_or_continue, write_results
from scenebias.study.jobs import LOG_NAME, Job, run_jobs
from scenebias.study.measuring_jobs import MeasureArm, MeasureData
from scenebias.study.plan import SCRATCH, Run, pretrain_jobs, transfer_jobs
from scenebias.study.report.demo import DemoReport
from scenebias.study.results import DATA, Results
from scenebias.study.training_jobs import PretrainJob, TransferJob
from scenebias.training.objective import ObjectiveConfig
from shards.checks import require_at_least

DEBIASED = "debiased"
OBJECTIVES = {
    BASELINE: ObjectiveConfig(name="baseline"),
    DEBIASED: ObjectiveConfig(alpha_scene=0.03, alpha_mask=1.0),
}
"""In this world the scene nearly is the action, so that unlearning it hard would unlearn the action: a small weight of
the scene loss. Both weights are those that the study chose, on another world."""
SEED = 0
AT_ONCE = 3
"""Trainings that wait for no other one."""
MAY_CHANGE = ("out", "workers")
"""Options that change nothing of what has been done already."""


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """The demo's world, and how long to train in it."""

    out: Path
    """Folder of the demo; the same command goes on with what is missing in it."""
    epochs: int = 30
    """Epochs of pretraining."""
    transfer_epochs: int = 30
    """Epochs of transfer to other actions."""
    workers: int | None = None
    """Runs side by side, three at most; by default one for each CPU core."""
    world: WorldConfig = field(default_factory=lambda: WorldConfig(seed=1))

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
        return MeasureData(self._folder(DATA), self.world.shards("train"), self.world.shards("test"))

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
            epochs=self.config.epochs,
            seed=SEED,
            objective=OBJECTIVES[arm],
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
    """Render a world, pretrain a baseline and a debiased model, transfer them to new actions, and measure all.

    Prints one table and leaves results.json, report.html and everything that they were made from in --out. Given
    again, the same command goes on with what is missing.
    """
    begin_or_continue(config, {"objectives": plain(OBJECTIVES)}, MAY_CHANGE)
    plan, cores = DemoPlan(config), len(os.sched_getaffinity(0))
    workers = config.workers or cores
    make_world = MakeWorld(plan.world, workers)
    if not make_world.is_done:
        make_world.run()

    def run(title: str, jobs: Sequence[Job]) -> None:
        at_once = min(workers, AT_ONCE)
        run_jobs(jobs, title, workers=at_once, threads=max(1, cores // at_once))

    scratch, baseline, debiased = plan.scratch, plan.pretrained(BASELINE), plan.pretrained(DEBIASED)
    runs = [scratch, baseline, debiased]
    print(f"each model tells how it gets on in {config.out}/runs/{plan.world.name}/*/*/{LOG_NAME}")
    run("pretraining", [*pretrain_jobs([debiased, baseline]), *transfer_jobs([scratch])])  # the longest first
    run("transfer", transfer_jobs([baseline, debiased]))
    run("measuring", [plan.data, *(MeasureArm((one,)) for one in runs)])
    results = Results.read({plan.world.name: plan.data}, runs)
    report = DemoReport(results, scratch, baseline, debiased)
    Console().print(report.printed())
    write_results(config.out, results, report.page())


COMMAND = Command(main=main, options=DemoConfig, example="python -m scenebias.study.demo --out runs/demo")

if __name__ == "__main__":
    COMMAND.run()
