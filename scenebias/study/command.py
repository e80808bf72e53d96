"""The study from its first frame to its report."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import TypeVar

import torch

from scenebias.commands import Command, write_output
from scenebias.run_folder.folder import RunFolder
from scenebias.run_folder.record import RECORD_NAME, RunRecord
from scenebias.study.arms import ARMS, BASELINE, Trial, choose
from scenebias.study.demo_world import MakeWorld
from scenebias.study.jobs import Job, run_jobs
from scenebias.study.measuring_jobs import MeasureData, MeasureDemoArm, MeasureJhmdbArm, evaluate_trial
from scenebias.study.pictures import picture_sections
from scenebias.study.plan import DemoRun, Plan, StudyConfig
from scenebias.study.report import Report
from scenebias.study.results import DATA, Results
from scenebias.training.objective import ObjectiveConfig

Run = TypeVar("Run")
RESULTS_NAME, REPORT_NAME = "results.json", "report.html"
MAY_CHANGE = (
    "out",
    "workers",
    "seeds",
    "jhmdb_videos",
    "jhmdb_masks",
    "jhmdb_scenes",
    "hmdb51_splits",
    "jhmdb_seeds",
)
"""Options that change nothing of what has been done already."""


def main(config: StudyConfig) -> None:
    """Does debiasing help? Pretrain with and without it, on rendered worlds and on JHMDB; measure; write a report.

    Leaves results.json, report.html and everything that they were made from in --out. Given again, the same command
    goes on with what is missing.
    """
    RunFolder(config.out).make()
    record = RunRecord.of(config, {"arms": {arm.name: arm for arm in ARMS}}, {})
    if (config.out / RECORD_NAME).exists():
        record.changes_since(config.out, MAY_CHANGE)
    record.write(config.out)
    cores = len(os.sched_getaffinity(0))
    workers = config.workers or cores
    threads = max(1, cores // workers)
    torch.set_num_threads(threads)

    def run(title: str, jobs: Sequence[Job]) -> None:
        run_jobs(jobs, title, workers=workers, threads=threads)

    plan = Plan(config)
    run("data", [*map(MakeWorld, plan.worlds), *plan.jhmdb_packs().values()])
    oracles, candidates = plan.oracles(), plan.candidates()
    run("oracle and tuning", [run.training for run in [*oracles, *chain.from_iterable(candidates.values())]])
    trials = {arm: [evaluate_trial(run) for run in runs] for arm, runs in candidates.items()}
    chosen = choose_objectives(trials)
    demo_runs, jhmdb_runs = plan.demo_runs(chosen), plan.jhmdb_runs(chosen)
    run("pretraining", [run.training for run in demo_runs])
    run("pretraining on JHMDB", [run.pretraining for run in jhmdb_runs if run.pretraining])
    run("transfer on JHMDB", [run.transfer for run in jhmdb_runs])
    data = {
        world: MeasureData(config.out / "runs" / world / DATA, *pair) for world, pair in plan.pretraining_data().items()
    }
    demo_runs = [*oracles, *demo_runs]
    of_demo = [MeasureDemoArm(runs) for runs in _together(demo_runs, lambda run: (run.world.name, run.arm))]
    of_jhmdb = [MeasureJhmdbArm(runs) for runs in _together(jhmdb_runs, lambda run: (run.world, run.arm))]
    run("measuring", [*data.values(), *of_demo, *of_jhmdb])
    _write(plan, Results.read(data, demo_runs, jhmdb_runs), trials, demo_runs)


def _together(runs: Iterable[Run], key: Callable[[Run], object]) -> list[tuple[Run, ...]]:
    """The runs of each key, in the order in which the keys come first."""
    groups: dict[object, list[Run]] = {}
    for run in runs:
        groups.setdefault(key(run), []).append(run)
    return list(map(tuple, groups.values()))


def choose_objectives(trials: Mapping[str, Sequence[Trial]]) -> dict[str, ObjectiveConfig]:
    """What tuning chooses for every arm that has several candidates."""
    (baseline,) = trials[BASELINE]
    return {arm: choose(tried, baseline).objective for arm, tried in trials.items() if arm != BASELINE}


def _write(plan: Plan, results: Results, trials: Mapping[str, Sequence[Trial]], demo_runs: Sequence[DemoRun]) -> None:
    out = plan.config.out
    write_output(out / RESULTS_NAME, results.records())
    report = Report(plan, results, trials)
    shown = [run for run in demo_runs if run.world == plan.usual_world and run.training.seed == 0]
    pictures = picture_sections([run for run in shown if run.arm in report.pictured])
    write_output(out / REPORT_NAME, report.page(pictures))
    for sentence in report.answer():
        print(sentence)
    print(f"numbers: {out / RESULTS_NAME}; report: {out / REPORT_NAME}")


COMMAND = Command(
    main=main,
    options=StudyConfig,
    example="tools/study.sh --out runs/study --jhmdb-videos $DATA/jhmdb/videos --jhmdb-masks $DATA/jhmdb/masks "
    "--jhmdb-scenes $DATA/jhmdb/scene_probs.npz --hmdb51-splits $DATA/labels/hmdb51",
)
