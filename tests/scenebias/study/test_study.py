"""The study's plan, choices and numbers, without training anything."""

import json
import os
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import chain, combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scenebias.bias.model_bias import CLEAN
from scenebias.distributed.interruption import noted_signals
from scenebias.study.arms import ARMS, BASELINE, LONGER, Trial, arm_named, choose, long
from scenebias.study.jhmdb import JhmdbConfig
from scenebias.study.jobs import Cost, cost_added, run_jobs
from scenebias.study.measuring_jobs import (
    ALL_MEASURES,
    COSTS,
    IN_DISTRIBUTION,
    PROBE,
    SWAPPED,
    TRANSFERRED,
    Measured,
)
from scenebias.study.plan import TUNING_SEED, WORLD_SEED, Plan, Run, StudyConfig, pretrain_jobs, transfer_jobs
from scenebias.study.report.study import Report
from scenebias.study.results import DATA, Results
from scenebias.training.objective import ObjectiveConfig
from shards.errors import UserError
from tests.scenebias.browser import problems_of_page

JHMDB = JhmdbConfig(
    jhmdb_videos=Path("videos"), jhmdb_masks=Path("masks"), jhmdb_scenes=Path("s.npz"), hmdb51_splits=Path("splits")
)
CHOSEN = {
    "scene": ObjectiveConfig(name="scene", alpha_scene=0.1),
    "mask": ObjectiveConfig(name="mask", alpha_mask=1.0),
    "both": ObjectiveConfig(alpha_scene=0.03, alpha_mask=1.0),
    "both-released": ObjectiveConfig(mask_loss="released", alpha_mask=1.0),
}
SHARES = st.floats(0, 1)


def plan(seeds: int = 2) -> Plan:
    return Plan(StudyConfig(out=Path("out"), seeds=seeds, jhmdb=JHMDB))


@given(st.lists(st.tuples(SHARES, SHARES), min_size=1, max_size=6), SHARES)
def test_tuning_takes_the_best_on_swapped_scenes_that_does_no_harm(
    trials: list[tuple[float, float]], usual: float
) -> None:
    tried = [Trial(ObjectiveConfig(alpha_mask=float(number)), *trial) for number, trial in enumerate(trials)]
    chosen = choose(tried, Trial(ObjectiveConfig(name="baseline"), usual, 0.0))
    harmless = [trial for trial in tried if usual - trial.in_distribution <= 0.02]
    if harmless:
        assert chosen in harmless
        assert all(chosen.swapped >= trial.swapped for trial in harmless)
    else:
        assert all(chosen.in_distribution >= trial.in_distribution for trial in tried)


def test_an_arm_that_takes_over_a_setting_changes_nothing_but_what_it_says() -> None:
    for arm in ARMS:
        if arm.as_tuned:
            taken_over = arm_named(arm.as_tuned).objective(CHOSEN)
            assert arm.objective(CHOSEN) == replace(taken_over, **arm.changes)
            assert bool(arm.changes) == (arm.times_longer == 1)


def test_long_arms_train_twice_as_long_on_the_same_world() -> None:
    usual = [run for run in plan().demo_runs(CHOSEN) if run.demo_world == plan().usual_world]
    jobs = {(run.arm, run.seed): job for run, job in zip(usual, pretrain_jobs(usual), strict=True)}
    for arm in LONGER:
        once, twice = jobs[arm, 1], jobs[long(arm), 1]
        assert twice.epochs == 2 * once.epochs
        assert twice.objective == once.objective
        assert twice.train == once.train


def test_no_two_runs_share_a_folder() -> None:
    study = plan(seeds=3)
    demo = [*study.oracles(), *chain.from_iterable(study.candidates().values()), *study.demo_runs(CHOSEN)]
    runs = [*demo, *study.jhmdb_runs(CHOSEN)]
    folders = [job.folder for job in [*pretrain_jobs(runs), *transfer_jobs(runs)]]
    assert len(folders) > len(runs) > len(demo)
    assert len(folders) == len(set(folders))
    assert not any(a in b.parents for a, b in combinations(folders, 2))


def test_tuning_sees_other_people_and_clips_than_the_reported_runs_do() -> None:
    study = plan()
    reported = [*study.oracles(), *study.demo_runs(CHOSEN)]
    assert WORLD_SEED != TUNING_SEED
    assert world_seeds(chain.from_iterable(study.candidates().values())) == {TUNING_SEED}
    assert world_seeds(reported) == {WORLD_SEED}
    assert TUNING_SEED not in {job.seed for job in pretrain_jobs(reported)}


def world_seeds(runs: Iterable[Run]) -> set[int | None]:
    """Of the worlds that are trained in."""
    return {run.demo_world and run.demo_world.config.seed for run in runs}


def test_pretraining_and_transfer_on_jhmdb_share_no_class() -> None:
    packs = plan().jhmdb_packs()
    assert len(packs) == 6
    for run in plan().jhmdb_runs(CHOSEN):
        split = run.world.removeprefix("jhmdb-split")
        assert run.transfer
        if run.pretraining:
            assert run.transfer.start == run.pretraining.weights
            assert run.pretraining.train.parent.name == f"pretrain-{split}"
        assert run.transfer.train.parent.name == f"transfer-{split}"


def test_half_of_jhmdb_is_refused() -> None:
    with pytest.raises(ValueError, match="jhmdb_masks"):
        JhmdbConfig(jhmdb_videos=Path("videos"))


@dataclass(frozen=True)
class Note:
    """A job that notes the process it ran in."""

    folder: Path
    fails: bool = False

    @property
    def is_done(self) -> bool:
        return (self.folder / "note").exists()

    def run(self) -> None:
        print("hello")
        if self.fails:
            raise UserError("nothing to write on: bring paper")
        (self.folder / "note").write_text(str(os.getpid()))


def test_jobs_run_in_other_processes_and_only_once(tmp_path: Path) -> None:
    jobs = [Note(tmp_path / str(number)) for number in range(3)]
    run_jobs(jobs[:2], "notes", workers=2, threads=1)
    before = [(job.folder / "note").read_text() for job in jobs[:2]]
    assert str(os.getpid()) not in before
    assert (tmp_path / "0" / "log.txt").read_text() == "hello\n"
    run_jobs(jobs, "notes", workers=1, threads=1)
    assert [(job.folder / "note").read_text() for job in jobs[:2]] == before
    assert jobs[2].is_done


def test_the_error_of_a_job_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="bring paper"):
        run_jobs([Note(tmp_path / "a", fails=True)], "notes", workers=1, threads=1)


@dataclass(frozen=True)
class Interrupting:
    """A job that ends as training does when its process is asked to, and asks for that by Ctrl-C."""

    folder: Path
    study: int
    is_done = False

    def run(self) -> None:
        (self.folder / "begun").touch()
        with noted_signals() as interruption:
            os.kill(self.study, signal.SIGINT)
            until_s = time.monotonic() + 30
            while interruption.requested is None and time.monotonic() < until_s:
                time.sleep(0.01)
            raise interruption.ended()


def test_ctrl_c_ends_the_jobs_and_begins_no_other(tmp_path: Path) -> None:
    jobs = [Interrupting(tmp_path / str(number), os.getpid()) for number in range(6)]
    with pytest.raises(KeyboardInterrupt):
        run_jobs(jobs, "jobs", workers=1, threads=1)
    assert len(list(tmp_path.glob("*/begun"))) == 1


def test_cost_counts_what_went_wrong_too(tmp_path: Path) -> None:
    path = tmp_path / "cost.json"
    assert Cost.read(path) == Cost(0.0, 0.0)

    def fail() -> None:
        with cost_added(path):
            time.sleep(0.02)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    first = Cost.read(path)
    with cost_added(path):
        begun_s = time.process_time()
        while time.process_time() < begun_s + 0.02:
            pass
    second = Cost.read(path)
    assert 0.02 <= first.wall_s < second.wall_s
    assert second.cpu_s >= first.cpu_s + 0.02


def invented(study: Plan, gain: float) -> Results:
    """Results as if every debiased arm were ``gain`` better on swapped scenes, and its probe 0.1 lower."""
    random = np.random.default_rng(0)
    models: dict[tuple[str, str], dict[int, Measured]] = {}
    for world in study.pretraining_data():
        models[world, DATA] = {0: Measured({"scene_bias": 1.5}, {})}
    for run in [*study.oracles(), *study.demo_runs(CHOSEN), *study.jhmdb_runs(CHOSEN)]:
        seed, debiased = run.seed, not run.arm.startswith(BASELINE)
        values = dict.fromkeys(ALL_MEASURES, 0.5) | {
            IN_DISTRIBUTION: 0.8 + 0.01 * seed,
            SWAPPED: 0.3 + 0.02 * seed + (gain + 0.01 * seed) * debiased,
            PROBE: 0.9 - 0.1 * debiased,
            **dict.fromkeys(COSTS, 60.0),
            "scene_probe": np.nan,
        }
        correct = {kind: (random.random(40) < 0.5).tolist() for kind in (CLEAN, SWAPPED, TRANSFERRED)}
        models.setdefault((run.world, run.arm), {})[seed] = Measured(values, correct)
    return Results(models)


def report_on(results: Results, study: Plan) -> Report:
    baseline = Trial(arm_named(BASELINE).candidates[0], 0.8, 0.3)
    trials = {name: [Trial(objective, 0.8, 0.4)] for name, objective in CHOSEN.items()}
    return Report(study, results, {BASELINE: [baseline], **trials})


def test_gains_are_those_of_pairs_of_seeds() -> None:
    results = invented(plan(seeds=3), gain=0.2)
    gain = results.gain("demo-rho-0.8", "both", SWAPPED)
    differences = [0.2, 0.21, 0.22]
    assert gain.mean == pytest.approx(np.mean(differences))
    half_width = 4.302653 * np.std(differences, ddof=1) / np.sqrt(3)
    assert gain.high - gain.mean == pytest.approx(half_width, rel=1e-5)


@pytest.mark.parametrize(("gain", "said"), [(0.16, "is reached"), (0.10, "is not reached")])
def test_the_report_says_whether_the_target_is_reached(gain: float, said: str) -> None:
    study = plan()
    comparisons = [
        sentence for sentence in report_on(invented(study, gain), study).answer() if "The target" in sentence
    ]
    assert len(comparisons) == 3
    assert all(f"reads less of the scene, {said}." in sentence for sentence in comparisons)


def test_the_page_shows_every_arm_and_breaks_no_browser(tmp_path: Path) -> None:
    study = plan()
    page = report_on(invented(study, 0.2), study).page([])
    for arm in ARMS:
        assert f">{arm.name}<" in page
    assert "JHMDB" in page
    assert "nan" not in page
    path = tmp_path / "report.html"
    path.write_text(page, encoding="utf-8")
    assert not problems_of_page(path)


def test_records_name_world_arm_seed_and_measure_and_leave_out_what_is_unknown(tmp_path: Path) -> None:
    records = invented(plan(seeds=1), 0.2).records()
    assert {frozenset(record) for record in records} == {frozenset({"world", "arm", "seed", "measure", "value"})}
    assert "scene_probe" not in {record["measure"] for record in records}
    json.dumps(records, allow_nan=False)
    assert {"world": "demo-rho-0.8", "arm": "both", "seed": 0, "measure": PROBE, "value": 0.8} in records
