"""The study from its first frame to its report."""

import os
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain

import torch

from scenebias.commands import Command
from scenebias.run_folder.record import plain
from scenebias.study.arms import ARMS, BASELINE, Trial, choose
from scenebias.study.demo_world import MakeWorld
from scenebias.study.folder import begin_or_continue, write_results
from scenebias.study.jobs import Job, run_jobs
from scenebias.study.measuring_jobs import MeasureArm, MeasureData, evaluate_trial
from scenebias.study.plan import Plan, Run, StudyConfig, pretrain_jobs, transfer_jobs
from scenebias.study.report.pictures import picture_sections
from scenebias.study.report.study import Report
from scenebias.study.results import DATA, Results
from scenebias.training.objective import ObjectiveConfig

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
    begin_or_continue(config, {"arms": {arm.name: plain(arm) for arm in ARMS}}, MAY_CHANGE)
    cores = len(os.sched_getaffinity(0))
    workers = config.workers or cores
    threads = max(1, cores // workers)
    torch.set_num_threads(threads)

    def run(title: str, jobs: Sequence[Job]) -> None:
        run_jobs(jobs, title, workers=workers, threads=threads)

    plan = Plan(config)
    run("data", [*map(MakeWorld, plan.worlds), *plan.jhmdb_packs().values()])
    oracles, candidates = plan.oracles(), plan.candidates()
    run("oracle and tuning", pretrain_jobs([*oracles, *chain.from_iterable(candidates.values())]))
    trials = {arm: [evaluate_trial(run) for run in runs] for arm, runs in candidates.items()}
    chosen = choose_objectives(trials)
    demo_runs, jhmdb_runs = plan.demo_runs(chosen), plan.jhmdb_runs(chosen)
    run("pretraining", pretrain_jobs(demo_runs))
    run("pretraining on JHMDB", pretrain_jobs(jhmdb_runs))
    run("transfer on JHMDB", transfer_jobs(jhmdb_runs))
    data = {
        world: MeasureData(config.out / "runs" / world / DATA, *pair) for world, pair in plan.pretraining_data().items()
    }
    runs = [*oracles, *demo_runs, *jhmdb_runs]
    run("measuring", [*data.values(), *map(MeasureArm, _by_arm(runs))])
    _write(plan, Results.read(data, runs), trials, runs)


def _by_arm(runs: Iterable[Run]) -> list[tuple[Run, ...]]:
    """The runs of each arm in each world, in the order in which these come first."""
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.world, run.arm), []).append(run)
    return list(map(tuple, groups.values()))


def choose_objectives(trials: Mapping[str, Sequence[Trial]]) -> dict[str, ObjectiveConfig]:
    """What tuning chooses for every arm that has several candidates."""
    (baseline,) = trials[BASELINE]
    return {arm: choose(tried, baseline).objective for arm, tried in trials.items() if arm != BASELINE}


def _write(plan: Plan, results: Results, trials: Mapping[str, Sequence[Trial]], runs: Sequence[Run]) -> None:
    report = Report(plan, results, trials)
    shown = [run for run in runs if run.demo_world == plan.usual_world and run.seed == 0]
    pictures = picture_sections([run for run in shown if run.arm in report.pictured])
    for sentence in report.answer():
        print(sentence)
    write_results(plan.config.out, results, report.page(pictures))


COMMAND = Command(
    main=main,
    options=StudyConfig,
    example="tools/study.sh --out runs/study --jhmdb-videos $DATA/jhmdb/videos --jhmdb-masks $DATA/jhmdb/masks "
    "--jhmdb-scenes $DATA/jhmdb/scene_probs.npz --hmdb51-splits $DATA/labels/hmdb51",
)
