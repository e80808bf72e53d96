"""The study's jobs on a tiny world and a tiny JHMDB: from videos to measured models and pictures."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scenebias.models.weights import read_metadata
from scenebias.reports.html import page
from scenebias.run_folder.folder import RunFolder
from scenebias.study.arms import BASELINE
from scenebias.study.demo_world import MakeWorld, WorldScale
from scenebias.study.jhmdb import PARTS, JhmdbConfig
from scenebias.study.measuring_jobs import (
    ALL_MEASURES,
    COSTS,
    Measured,
    MeasureData,
    MeasureDemoArm,
    MeasureJhmdbArm,
    evaluate_trial,
)
from scenebias.study.pictures import picture_sections
from scenebias.study.plan import DemoRun, JhmdbRun, Plan, StudyConfig
from shards.dataset import ShardDataset
from tests.scenebias.browser import problems_of_page

SCALE = WorldScale(clips_train=64, clips_test=16, clips_target_train=32, clips_target_test=32, epochs=1)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """A plan whose usual world is made, and whose JHMDB is that world's videos under other names."""
    out = tmp_path_factory.mktemp("study")
    plan = Plan(StudyConfig(out=out, seeds=1, world=SCALE))
    MakeWorld(plan.usual_world).run()
    jhmdb = make_jhmdb(plan.usual_world.folder / "world" / "train", out / "given")
    return Plan(replace(plan.config, jhmdb=jhmdb))


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


@pytest.fixture(scope="module")
def demo_runs(study: Plan) -> list[DemoRun]:
    """The trained baseline and the arm with both losses."""
    runs = [run for run in study.demo_runs(chosen(study)) if run.world == study.usual_world]
    runs = [run for run in runs if run.arm in (BASELINE, "both")]
    for run in runs:
        run.training.run()
    return runs


def chosen(study: Plan) -> dict:
    return {arm: runs[0].training.objective for arm, runs in study.candidates().items()}


def test_a_run_says_when_it_is_done_and_how_long_it_took(demo_runs: list[DemoRun]) -> None:
    training = demo_runs[0].training
    assert training.is_done
    assert RunFolder(training.run_folder).result.exists()
    assert training.cost.wall_s > 0
    assert training.cost.cpu_s > 0
    assert not replace(training, folder=training.folder / "other").is_done


def test_a_model_of_the_demo_world_gets_every_measure(demo_runs: list[DemoRun]) -> None:
    for run in demo_runs:
        job = MeasureDemoArm((run,))
        assert not job.is_done
        job.run()
        assert job.is_done
        measured = Measured.read(run.training.folder)
        wanted = {name for name in ALL_MEASURES if not name.startswith("transfer")} | set(COSTS)
        assert set(measured.values) == wanted
        for kind, measure in (("clean", "clean_top1"), ("world_swapped", "world_swapped_top1")):
            assert np.mean(measured.correct[kind]) == pytest.approx(measured.values[measure])
        trial = evaluate_trial(run)
        assert trial.in_distribution == pytest.approx(measured.values["clean_top1"])
        assert trial.swapped == pytest.approx(measured.values["world_swapped_top1"])


def test_scenes_of_the_demo_world_tell_its_actions(study: Plan, tmp_path: Path) -> None:
    job = MeasureData(tmp_path, *study.pretraining_data()[study.usual_world.name])
    job.run()
    assert Measured.read(tmp_path).values["scene_bias"] > 1


def test_pictures_of_two_models_show_in_a_browser(demo_runs: list[DemoRun], tmp_path: Path) -> None:
    path = tmp_path / "pictures.html"
    path.write_text(page("pictures", picture_sections(demo_runs)), encoding="utf-8")
    assert path.read_text().count("<img") >= 2 * (1 + 2) + 3
    assert not problems_of_page(path)


def test_jhmdb_is_transferred_to_classes_that_pretraining_has_not_seen(study: Plan) -> None:
    for (part, split), pack in study.jhmdb_packs().items():
        if split == 1:
            pack.folder.mkdir(parents=True)
            pack.run()
            assert pack.is_done
            assert set(ShardDataset.open(pack.shards("test")).manifest.classes) <= set(PARTS[part])
    runs: list[JhmdbRun] = [run for run in study.jhmdb_runs(chosen(study)) if (run.split, run.seed) == (1, 0)]
    for run in runs:
        if run.pretraining is not None:
            run.pretraining.run()
        run.transfer.run()
        MeasureJhmdbArm((run,)).run()
        measured = Measured.read(run.transfer.folder)
        assert measured.values["transfer_top1"] == pytest.approx(np.mean(measured.correct["transfer"]))
        assert ("clean_top1" in measured.values) == (run.pretraining is not None)
        seen = [data.dataset for data in read_metadata(run.transfer.weights).trained_on]
        assert seen == (["jhmdb-transfer"] if run.pretraining is None else ["jhmdb-pretrain", "jhmdb-transfer"])
