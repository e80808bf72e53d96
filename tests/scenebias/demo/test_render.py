"""The demo world on disk: the files that other commands read."""

import json
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from scenebias.demo.render import RenderConfig, render_world
from scenebias.demo.world import SPLITS, plan_clip, render_clip
from shards.errors import UserError


def small_world(out: Path, **options) -> RenderConfig:
    sizes = {"clips_train": 10, "clips_test": 8, "clips_target_train": 4, "clips_target_test": 4, "frames": 10}
    return RenderConfig(out=out, **({"workers": 1} | sizes | options))


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> RenderConfig:
    config = small_world(tmp_path_factory.mktemp("demo") / "world")
    render_world(config)
    return config


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def decode(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def test_the_bytes_do_not_depend_on_the_number_of_workers(world, tmp_path):
    other = replace(world, out=tmp_path / "world", workers=2)
    render_world(other)
    assert files(other.out) == files(world.out)


@pytest.mark.parametrize("split", SPLITS)
def test_every_clip_has_a_video_masks_a_scene_vector_and_a_truth(world, split):
    folder = world.out / split
    truth = json.loads((folder / "truth.json").read_text())
    assert len(truth) == world.clip_count(split)
    with np.load(folder / "scene_probs.npz", allow_pickle=False) as scenes:
        assert sorted(scenes["clips"].tolist()) == sorted(truth)
        assert scenes["probs"].shape == (len(truth), 365)
        np.testing.assert_allclose(scenes["probs"].sum(axis=1, dtype=np.float64), 1, atol=2e-3)
    for kind, suffix in (("videos", ".mp4"), ("masks", ".npz")):
        found = {str(path.relative_to(folder / kind).with_suffix("")) for path in (folder / kind).rglob(f"*{suffix}")}
        assert found == truth.keys()
    for name, facts in truth.items():
        assert name.split("/")[0] == facts["action"]


@pytest.mark.parametrize("split", SPLITS)
def test_videos_decode_to_what_was_drawn(world, split):
    plan = plan_clip(world, split, 1)
    clip = render_clip(world, plan)
    decoded = decode(world.out / split / "videos" / f"{plan.name}.mp4")
    assert decoded.shape == (world.frames, world.height, world.width, 3)
    assert np.abs(decoded.astype(int) - clip.frames).mean() < 6
    with np.load(world.out / split / "masks" / f"{plan.name}.npz", allow_pickle=False) as content:
        assert content["masks"].dtype == np.uint8
        np.testing.assert_array_equal(content["masks"], clip.masks)


def test_a_finished_world_is_kept(world, capsys):
    before = {path: path.stat().st_mtime_ns for path in world.out.rglob("*")}
    render_world(replace(world, workers=2))
    assert "already rendered" in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in world.out.rglob("*")}


def test_another_world_in_the_folder_is_refused_by_option(world):
    with pytest.raises(UserError, match=r"other options \(rho, seed\)"):
        render_world(replace(world, rho=0.5, seed=7))


def test_other_files_in_the_folder_are_refused_and_kept(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="--out"):
        render_world(small_world(tmp_path))
    assert files(tmp_path) == {"thesis.txt": b"mine"}


def test_an_interrupted_render_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("scenebias.demo.writing._write_truths", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        render_world(small_world(tmp_path / "world", clips_train=2, clips_test=0))
    assert list(tmp_path.iterdir()) == []


def test_splits_without_clips_are_left_out(tmp_path):
    render_world(small_world(tmp_path / "world", clips_train=2, clips_test=0, clips_target_train=0))
    assert {path.name for path in (tmp_path / "world").iterdir()} == {"train", "target-test", "world.json"}
