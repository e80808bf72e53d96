"""What the report says of real videos, from invented results."""

from pathlib import Path

import numpy as np
import pytest

from scenebias.reports.html import page, paragraph
from scenebias.statistics.intervals import paired_bootstrap, seed_interval
from scenebias.study.arms import BASELINE, BEST, PAPER, Weights
from scenebias.study.data.jhmdb import SPLITS, JhmdbConfig
from scenebias.study.measured import ALL_MEASURES, CONFLICTING, COSTS, HEAD_TRANSFERRED, TRANSFERRED, USUAL, Measured
from scenebias.study.plan import JHMDB_ARMS, SCRATCH, TIED_WORLD, Plan, StudyConfig, jhmdb_world
from scenebias.study.report.real import HUMAN_ALONE, RealVideos
from scenebias.study.results import DATA, Results
from tests.scenebias.browser import problems_of_page

JHMDB = JhmdbConfig(
    jhmdb_videos=Path("videos"), jhmdb_masks=Path("masks"), jhmdb_scenes=Path("s.npz"), hmdb51_splits=Path("splits")
)
PLAN = Plan(StudyConfig(out=Path("out"), seeds=1, jhmdb=JHMDB))
WORLDS = [jhmdb_world(split) for split in SPLITS]
CHANCE = 0.1
PREDICTED = (USUAL, CONFLICTING, TRANSFERRED, HEAD_TRANSFERRED, HUMAN_ALONE, "clean_top1", "swapped_top1")


def invented(human_alone: float, conflicting: int = 120) -> Results:
    """Results of every run, in which the best arm recognises so many humans alone, and the others half of that."""
    random = np.random.default_rng(0)
    models: dict[tuple[str, str], dict[int, Measured]] = {}
    for world, seed in PLAN.data_jobs():
        values = {"scene_bias": 1.5, "chance": CHANCE, "train_clips": 551, "test_clips": 147}
        models.setdefault((world, DATA), {})[seed] = Measured(values, {}, {})
    for run in [*PLAN.jhmdb_runs(Weights()), *PLAN.tied_runs(Weights())]:
        values = dict.fromkeys([*ALL_MEASURES, *COSTS], 0.5)
        values[HUMAN_ALONE] = human_alone if run.arm == BEST else human_alone / 2
        values[TRANSFERRED] = 0.3 + 0.1 * (run.arm == BEST) + 0.01 * run.seed * (run.arm != BASELINE)
        clips = dict.fromkeys(PREDICTED, 60) | {CONFLICTING: conflicting}
        measured = Measured(
            values,
            {kind: random.integers(2, size=count).tolist() for kind, count in clips.items()},
            {kind: [0] * count for kind, count in clips.items()},
            {kind: [f"video {clip // 3}" for clip in range(count)] for kind, count in clips.items()},
        )
        models.setdefault((run.world, run.arm), {})[run.seed] = measured
    return Results(models)


def test_no_two_runs_on_real_clips_share_a_folder_and_all_see_squares_of_one_size() -> None:
    runs = [*PLAN.jhmdb_runs(Weights()), *PLAN.tied_runs(Weights())]
    assert {(run.arm, run.seed) for run in runs if run.world == TIED_WORLD} == {
        (arm, seed) for arm in JHMDB_ARMS for seed in range(JHMDB.jhmdb_seeds)
    }
    jobs = [job for run in runs for job in (run.pretraining, run.transfer, run.head_transfer) if job is not None]
    assert len({job.folder for job in jobs}) == len(jobs)
    assert len({job.clip for job in jobs}) == 1
    assert len({pack.folder for pack in PLAN.real_packs()}) == len(PLAN.real_packs()) == 7


@pytest.mark.parametrize(("human_alone", "conclusive"), [(0.31, True), (0.29, False)])
def test_what_the_report_says_first_is_whether_the_networks_see_people(human_alone: float, conclusive: bool) -> None:
    real = RealVideos(PLAN, invented(human_alone))
    for section, worlds in zip(real.sections(), (WORLDS, [TIED_WORLD]), strict=True):
        assert real.is_conclusive(worlds) == conclusive
        said = real.precondition(worlds)
        assert said.startswith("Inconclusive. ") == (not conclusive)
        assert f"(30.0 %): “{BEST}” reaches {100 * human_alone:.1f} %" in said
        assert section.body.startswith(paragraph(said))


def test_too_few_conflicting_clips_are_called_inconclusive() -> None:
    few, enough = (RealVideos(PLAN, invented(0.9, clips)).sections()[1].body for clips in (99, 100))
    assert "Inconclusive" in few
    assert "Inconclusive" not in enough
    assert "551 clips. Tested on 99 clips in the other kind" in few
    assert "of 33 source videos; and on the 147 usual clips" in few


def test_real_sections_show_every_arm_both_intervals_and_break_no_browser(tmp_path: Path) -> None:
    shown = page("real", RealVideos(PLAN, invented(0.9)).sections())
    for arm in (SCRATCH, *JHMDB_ARMS):
        assert f">{arm}<" in shown
    assert shown.count("over source videos") >= 4
    assert "nan" not in shown
    path = tmp_path / "report.html"
    path.write_text(shown, encoding="utf-8")
    assert not problems_of_page(path)


def test_differences_over_seeds_are_of_pairs_and_of_the_mean_of_the_splits() -> None:
    results = invented(0.9)
    gain, by_hand = results.gain_over(WORLDS, PAPER, TRANSFERRED), seed_interval([0.0, 0.01, 0.02])
    assert (gain.mean, gain.low, gain.high) == pytest.approx((by_hand.mean, by_hand.low, by_hand.high))
    assert results.gain_over(WORLDS, BEST, TRANSFERRED).mean == pytest.approx(0.11)
    del results.models[WORLDS[1], PAPER][2]  # type: ignore[attr-defined]
    assert np.isnan(results.gain_over(WORLDS, PAPER, TRANSFERRED).mean)


def test_clips_of_one_video_are_drawn_together() -> None:
    results = invented(0.9)
    correct = {
        arm: np.array([seed.correct(CONFLICTING) for seed in results.models[TIED_WORLD, arm].values()])
        for arm in (BEST, BASELINE)
    }
    ours = results.bootstrap_gain([TIED_WORLD], BEST, CONFLICTING)
    assert ours == paired_bootstrap(correct[BEST], correct[BASELINE], group_N=np.arange(120) // 3)
    assert ours != paired_bootstrap(correct[BEST], correct[BASELINE])


def test_a_difference_of_what_was_not_measured_is_unknown() -> None:
    assert np.isnan(invented(0.9).bootstrap_gain([TIED_WORLD], BEST, "scuba_top1").mean)
