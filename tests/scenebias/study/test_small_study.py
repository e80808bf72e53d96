"""The demo on a tiny world, and the study's jobs on what it leaves and on a tiny JHMDB: from videos to the report."""

import contextlib
import io
import json
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from scenebias.bias.model_bias import MEASURES
from scenebias.demo.render_takes import TakesSize
from scenebias.demo.world import WorldConfig, WorldSize
from scenebias.models.weights import load_weights, read_metadata
from scenebias.reports.html import page
from scenebias.run_folder.folder import RunFolder
from scenebias.study import demo as demo_command
from scenebias.study.arms import BASELINE, BEST, GRIDS, Weights
from scenebias.study.command import tune
from scenebias.study.data.demo_world import MakeWorld
from scenebias.study.data.jhmdb import PARTS, JhmdbConfig
from scenebias.study.data.long_takes import LongTakes, MakeTakes
from scenebias.study.demo import ARMS, DemoConfig, DemoPlan
from scenebias.study.measured import (
    ALL_MEASURES,
    AT_CLEAN_BN,
    COSTS,
    HEAD_TRANSFERRED,
    HIDDEN,
    SCENE_ALONE,
    SWAPPED,
    TAKES_MEASURES,
    TRANSFERRED,
    USUAL,
    WORLD_MEASURES,
    Measured,
)
from scenebias.study.measuring_jobs import MeasureModel, evaluate_trial, measures_of
from scenebias.study.plan import JHMDB_STARTS, SCRATCH, Plan, Run, StudyConfig, jhmdb_world, pretrain_jobs
from scenebias.study.report.demo import TITLES
from scenebias.study.report.pictures import picture_sections
from scenebias.study.takes_jobs import TransferToTakes
from shards.dataset import ShardDataset
from shards.errors import UserError
from tests.scenebias.browser import problems_of_page

SIZE = {"clips_train": 64, "clips_test": 16, "clips_target_train": 32, "clips_target_test": 32}
MODELS = (SCRATCH, *ARMS)


def run_demo(config: DemoConfig) -> str:
    """Do it, and return what it prints."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        demo_command.main(config)
    return printed.getvalue()


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> DemoPlan:
    """The whole demo, done."""
    config = DemoConfig(
        out=tmp_path_factory.mktemp("demo"), epochs=1, transfer_epochs=1, workers=2, world=WorldConfig(**SIZE)
    )
    (config.out / "printed.txt").write_text(run_demo(config))
    return DemoPlan(config)


@pytest.fixture(scope="module")
def demo_runs(demo: DemoPlan) -> list[Run]:
    """The trained baseline and the debiased models."""
    return [demo.pretrained(arm) for arm in ARMS]


def test_every_measure_has_a_value_for_every_pretrained_model_and_a_place_in_the_table(demo: DemoPlan) -> None:
    printed = (demo.config.out / "printed.txt").read_text()
    records = json.loads((demo.config.out / "results.json").read_text())
    values = {(record["arm"], record["measure"]): record["value"] for record in records}
    assert len(values) == len(records)
    assert {record["world"] for record in records} == {"demo"}
    assert len(TITLES) == len(set(TITLES.values())) == 9
    for measure, title in TITLES.items():
        assert f"{title} {ALL_MEASURES[measure].arrow}" in printed
        for arm in ARMS:
            assert isinstance(values[arm, measure], float)
            assert ALL_MEASURES[measure].cell(values[arm, measure]) in printed
            if ALL_MEASURES[measure].unit == "share":
                assert 0 <= values[arm, measure] <= 1
    assert all((arm, TRANSFERRED) in values for arm in MODELS)
    assert {measure for arm, measure in values if arm == SCRATCH} == {TRANSFERRED, *COSTS}


def test_the_report_shows_what_models_say_bars_table_and_curves(demo: DemoPlan) -> None:
    page = (demo.config.out / "report.html").read_text()
    clips, bars, curves = 3, 5, 4
    assert page.count("data:image/") == clips + bars + curves
    assert page.count('class="answer right"') + page.count('class="answer wrong"') == clips * len(ARMS)
    assert "swapped scenes: accuracy" in page


def test_the_report_is_shown_whole_in_a_browser(demo: DemoPlan) -> None:
    assert problems_of_page(demo.config.out / "report.html") == []


def test_the_demo_given_again_does_what_is_missing_and_nothing_else(demo: DemoPlan) -> None:
    out, lost = demo.config.out, demo.pretrained(BEST)
    assert lost.transfer is not None
    results, printed = (out / "results.json").read_bytes(), (out / "printed.txt").read_text()
    others = {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}
    others.pop(lost.transfer.weights)
    shutil.rmtree(lost.transfer.run_folder)
    (out / "report.html").unlink()
    assert printed.endswith(run_demo(demo.config))
    assert lost.transfer.is_done
    assert (out / "report.html").exists()
    assert (out / "results.json").read_bytes() == results
    assert others.items() <= {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}.items()


def test_a_folder_of_another_demo_is_refused(demo: DemoPlan) -> None:
    with pytest.raises(UserError, match="epochs"):
        demo_command.main(DemoConfig(out=demo.config.out, epochs=2, transfer_epochs=1, world=WorldConfig(**SIZE)))


def test_a_run_says_when_it_is_done_and_how_long_it_took(demo_runs: list[Run]) -> None:
    training = demo_runs[0].pretraining
    assert training is not None
    assert training.is_done
    assert RunFolder(training.run_folder).result.exists()
    assert training.cost.wall_s > 0
    assert training.cost.cpu_s > 0
    assert not replace(training, folder=training.folder / "other").is_done


def twice(measures: Iterable[str]) -> set[str]:
    """The names of measures under both kinds of BatchNorm statistics."""
    return {name + suffix for name in measures for suffix in ("", AT_CLEAN_BN)}


def test_a_model_of_the_demo_world_gets_every_measure(demo_runs: list[Run]) -> None:
    for run in demo_runs:
        assert MeasureModel(run).is_done
        measured = Measured.read(measures_of(run))
        assert set(measured.values) == {*twice(WORLD_MEASURES), TRANSFERRED, *COSTS}
        accuracies = {*twice((USUAL, SWAPPED, SCENE_ALONE, HIDDEN, "human_alone")), TRANSFERRED}
        assert measured.predicted.keys() == measured.labels.keys() == accuracies
        for measure in accuracies:
            assert np.mean(measured.correct(measure)) == pytest.approx(measured.values[measure])
        trial = evaluate_trial(run)
        assert trial.in_distribution == pytest.approx(measured.values[USUAL])
        assert trial.swapped == pytest.approx(measured.values[SWAPPED])


def test_a_model_that_is_not_measured_yet_is_measured_and_the_same_again(demo: DemoPlan) -> None:
    job, path = MeasureModel(demo.scratch), measures_of(demo.scratch)
    before = path.read_bytes()
    path.unlink()
    assert not job.is_done
    job.run()
    assert job.is_done
    assert path.read_bytes() == before


def test_scenes_of_the_demo_world_tell_its_actions(demo: DemoPlan) -> None:
    assert Measured.read(demo.data.measures).values["scene_bias"] > 1


def test_pictures_of_two_models_show_in_a_browser(demo_runs: list[Run], tmp_path: Path) -> None:
    path = tmp_path / "pictures.html"
    path.write_text(page("pictures", picture_sections([demo_runs[0], demo_runs[-1]])), encoding="utf-8")
    assert path.read_text().count("<img") >= 2 * (1 + 2) + 3
    assert not problems_of_page(path)


@pytest.fixture(scope="module")
def study(demo: DemoPlan, tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """A plan whose JHMDB is the demo's videos under other names."""
    out = tmp_path_factory.mktemp("study")
    jhmdb = make_jhmdb(demo.world.rendered / "train", out / "given")
    return Plan(StudyConfig(out=out, seeds=1, tuning_seeds=1, epochs=1, world=WorldSize(**SIZE), jhmdb=jhmdb))


def make_jhmdb(rendered: Path, folder: Path) -> JhmdbConfig:
    """Two actions for pretraining and two for transfer, eight clips each; every second one is for the test."""
    classes = [*PARTS["pretrain"][:2], *PARTS["transfer"][:2]]
    (folder / "splits").mkdir(parents=True)
    with np.load(rendered / "scene_probs.npz") as file:
        probabilities = dict(zip(file["clips"].tolist(), file["probs"], strict=True))
    scenes = {}
    for class_name, action in zip(classes, sorted(path.name for path in (rendered / "videos").iterdir()), strict=False):
        lines = []
        for number, video in enumerate(sorted((rendered / "videos" / action).iterdir())):
            for kind, suffix in (("videos", "mp4"), ("masks", "npz")):
                target = folder / kind / class_name / f"clip{number}.{suffix}"
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(rendered / kind / action / f"{video.stem}.{suffix}", target)
            scenes[f"{class_name}/clip{number}"] = probabilities[f"{action}/{video.stem}"]
            lines.append(f"clip{number}.avi {1 + number % 2}\n")
        for split in (1, 2, 3):
            (folder / "splits" / f"{class_name}_test_split{split}.txt").write_text("".join(lines))
    np.savez(folder / "scenes.npz", clips=np.array(list(scenes)), probs=np.stack(list(scenes.values())))
    return JhmdbConfig(
        jhmdb_videos=folder / "videos",
        jhmdb_masks=folder / "masks",
        jhmdb_scenes=folder / "scenes.npz",
        hmdb51_splits=folder / "splits",
        jhmdb_epochs=1,
        transfer_epochs=1,
    )


def test_jhmdb_is_transferred_to_classes_that_pretraining_has_not_seen(study: Plan) -> None:
    for (part, split), pack in study.jhmdb_packs().items():
        if split == 1:
            pack.folder.mkdir(parents=True)
            pack.run()
            assert pack.is_done
            assert set(ShardDataset.open(pack.shards("test")).manifest.classes) <= set(PARTS[part])
    runs = [run for run in study.jhmdb_runs(Weights()) if (run.world, run.seed) == (jhmdb_world(1), 0)]
    assert [run.arm for run in runs] == list(JHMDB_STARTS)
    for run in runs:
        assert run.transfer is not None
        for training in (run.pretraining, run.transfer, run.head_transfer):
            if training is not None:
                training.run()
        job = MeasureModel(run)
        assert not job.is_done
        job.run()
        assert job.is_done
        measured = Measured.read(measures_of(run))
        expected = {TRANSFERRED, *COSTS}
        if run.pretraining is not None:
            expected |= {HEAD_TRANSFERRED, *twice(MEASURES)}
        assert set(measured.values) == expected
        assert {TRANSFERRED} <= measured.predicted.keys() <= expected
        for measure in measured.predicted:
            assert measured.values[measure] == pytest.approx(np.mean(measured.correct(measure)))
        for transfer in (run.transfer, run.head_transfer):
            if transfer is not None:
                seen = [data.dataset for data in read_metadata(transfer.weights).trained_on]
                assert seen == (["jhmdb-transfer"] if run.pretraining is None else ["jhmdb-pretrain", "jhmdb-transfer"])


def test_weights_are_transferred_to_both_tasks_in_long_takes_trained_once_and_tested_twice(
    demo_runs: list[Run], tmp_path: Path
) -> None:
    takes = LongTakes("takes", tmp_path / "takes", 0.8, TakesSize(takes_train=3, takes_test=1))
    make = MakeTakes(takes)
    assert not make.is_done
    make.folder.mkdir()
    make.run()
    assert make.is_done
    assert demo_runs[0].pretraining is not None
    job = TransferToTakes(
        folder=tmp_path / "run", takes=takes, arm=BASELINE, seed=0, weights=demo_runs[0].pretraining.weights
    )
    assert not job.is_done
    job.run()
    assert job.is_done
    values = Measured.read(job.measures).values
    assert values.keys() == TAKES_MEASURES.keys()
    assert all(0 <= value <= 1 for value in values.values())
    for task in ("localize", "detect"):
        assert (job.folder / task / "test" / "checkpoints").exists()
        assert not (job.folder / task / "swapped" / "checkpoints").exists()


def test_a_new_head_alone_leaves_the_pretrained_backbone_as_it_is(study: Plan) -> None:
    run = next(run for run in study.jhmdb_runs(Weights()) if (run.world, run.arm) == (jhmdb_world(1), BASELINE))
    assert run.pretraining is not None
    assert run.transfer is not None
    assert run.head_transfer is not None
    before, tuned, with_new_head = (
        load_weights(job.weights)[0].backbone.state_dict() for job in (run.pretraining, run.transfer, run.head_transfer)
    )
    assert all(torch.equal(before[name], value) for name, value in with_new_head.items())
    assert not all(torch.equal(before[name], value) for name, value in tuned.items())


def test_tuning_chooses_among_what_its_candidates_reach_in_their_world(study: Plan) -> None:
    baselines, candidates = study.tuning_baselines(), study.candidates()
    assert {name: tuple(values) for name, values in candidates.items()} == GRIDS
    few = {name: dict(list(candidates[name].items())[:2]) for name in ("mask", "conditional")}
    tried = [run for values in few.values() for runs in values.values() for run in runs]
    (world,) = {run.demo_world for run in [*baselines, *tried]}
    assert world is not None
    world.folder.mkdir(parents=True)
    MakeWorld(world).run()
    for job in pretrain_jobs([*baselines, *tried]):
        job.run()
    tuning = tune(baselines, few)
    assert tuning.baseline == evaluate_trial(baselines[0])
    assert tuning.trials == {
        name: {value: evaluate_trial(runs[0]) for value, runs in values.items()} for name, values in few.items()
    }
    assert tuning.weights.scene == Weights().scene
    assert tuning.weights.mask in few["mask"]
    assert tuning.weights.conditional in few["conditional"]
