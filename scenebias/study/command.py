"""The study from its first frame to its report."""

import os
from collections.abc import Mapping, Sequence
from itertools import chain

import torch

from scenebias.commands import Command, write_output
from scenebias.reports.html import svg
from scenebias.run_folder.folder import RunFolder
from scenebias.run_folder.record import plain
from scenebias.study.arms import ARMS, Trial, Tuned, Weights, choose_weights, mean_trial
from scenebias.study.data.demo_world import MakeWorld
from scenebias.study.data.long_takes import MakeTakes
from scenebias.study.endpoints import ENDPOINTS
from scenebias.study.folder import begin_or_continue, write_results
from scenebias.study.jobs import Job, run_jobs
from scenebias.study.measuring_jobs import MeasureData, MeasureModel, evaluate_trial
from scenebias.study.plan import Plan, Run, StudyConfig, pretrain_jobs, transfer_jobs
from scenebias.study.report.pictures import picture_sections
from scenebias.study.report.study import Report, Tuning
from scenebias.study.results import DATA, Results

OVERVIEW_NAME = "overview.svg"
"""The picture of all arms, in the study's folder."""
MAY_CHANGE = (
    "out",
    "workers",
    "arms",
    "seeds",
    "other_rho_seeds",
    "takes_seeds",
    "jhmdb_videos",
    "jhmdb_masks",
    "jhmdb_scenes",
    "hmdb51_splits",
    "jhmdb_seeds",
)
"""Options that change nothing of what has been done already."""


def main(config: StudyConfig) -> None:
    """Does debiasing help? Pretrain with and without it, on rendered worlds and on JHMDB; measure; write a report.

    Leaves results.json, report.html, overview.svg and everything that they were made from in --out. Given again, the
    same command goes on with what is missing.
    """
    with RunFolder(config.out).held("working in"):
        _study(config)


def _study(config: StudyConfig) -> None:
    settings = {"known_arms": {arm.name: plain(arm) for arm in ARMS}, "endpoints": plain(ENDPOINTS)}
    begin_or_continue(config, settings, MAY_CHANGE)
    cores = len(os.sched_getaffinity(0))
    workers = config.workers or cores
    threads = max(1, cores // workers)
    torch.set_num_threads(threads)

    def run(title: str, jobs: Sequence[Job]) -> None:
        run_jobs(jobs, title, workers=workers, threads=threads)

    plan = Plan(config.scaled())
    takes = plan.long_takes()
    run("data", [*map(MakeWorld, plan.worlds()), *([] if takes is None else [MakeTakes(takes)]), *plan.real_packs()])
    baselines, candidates = plan.tuning_baselines(), plan.candidates()
    tried = [run for values in candidates.values() for run in chain.from_iterable(values.values())]
    run("tuning", pretrain_jobs([*baselines, *tried]))
    tuning = tune(baselines, candidates)
    oracles, demo_runs = plan.oracles(), plan.demo_runs(tuning.weights)
    jhmdb_runs = [*plan.jhmdb_runs(tuning.weights), *plan.tied_runs(tuning.weights)]
    run("pretraining", pretrain_jobs([*demo_runs, *oracles]))
    run("pretraining on JHMDB", pretrain_jobs(jhmdb_runs))
    run("transfer on JHMDB", transfer_jobs(jhmdb_runs))
    takes_jobs = plan.takes_jobs(demo_runs)
    run("long takes", takes_jobs)
    data = {
        (world, seed): MeasureData(folder=config.out / "runs" / world / DATA / f"seed-{seed}", train=train, val=val)
        for (world, seed), (train, val) in plan.data_jobs().items()
    }
    runs = [*oracles, *demo_runs, *jhmdb_runs]
    run("measuring", [*data.values(), *map(MeasureModel, runs)])
    report = Report(plan, Results.read(data, runs, takes_jobs), tuning)
    pictured = [run for run in demo_runs if run.seed == 0 and run.world == report.usual and run.arm in report.pictured]
    pictures = picture_sections(pictured) if len(pictured) > 1 else []
    write_output(config.out / OVERVIEW_NAME, svg(report.overview()))
    write_results(config.out, report.results, report.page(pictures))
    print("\n".join(report.answer()))


def tune(baselines: Sequence[Run], candidates: Mapping[Tuned, Mapping[float, Sequence[Run]]]) -> Tuning:
    """What every candidate reached on the tuning worlds, and what follows; the defaults where nothing was tuned."""
    if not candidates:
        return Tuning(Weights(), None, {})
    baseline = mean_trial(list(map(evaluate_trial, baselines)))
    trials: dict[Tuned, dict[float, Trial]] = {
        name: {value: mean_trial(list(map(evaluate_trial, runs))) for value, runs in values.items()}
        for name, values in candidates.items()
    }
    return Tuning(choose_weights(trials, baseline), baseline, trials)


COMMAND = Command(main=main, options=StudyConfig, example="python -m scenebias.study --out runs/study")
