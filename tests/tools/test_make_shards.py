import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest

from shards.dataset import ShardDataset
from shards.sample import SCENE_COUNT

PROJECT_ROOT = Path(__file__).resolve().parents[2]


def make_shards(*arguments) -> subprocess.CompletedProcess:
    command = [sys.executable, str(PROJECT_ROOT / "tools" / "make_shards.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=PROJECT_ROOT, check=False)


def assert_refused(result: subprocess.CompletedProcess, sentence: str) -> None:
    assert result.returncode == 2
    assert sentence in result.stderr
    assert result.stderr.count("\n") == 1
    assert "Traceback" not in result.stderr


@pytest.fixture
def folder(tmp_path) -> Path:
    """Three clips of two classes and an empty third class, with masks and scene vectors."""
    names = ["jump/a", "jump/b", "run/c"]
    random = np.random.default_rng(0)
    for name in names:
        for kind in ("videos", "masks"):
            (tmp_path / kind / name).parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(tmp_path / "videos" / f"{name}.mp4"), "w") as container:
            stream = container.add_stream("mpeg4", rate=25)
            stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
            for frame in random.integers(0, 256, (5, 48, 64, 3), dtype=np.uint8):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode())
        np.savez(tmp_path / "masks" / f"{name}.npz", masks=np.ones((5, 48, 64), bool))
    (tmp_path / "videos" / "nobody").mkdir()
    probabilities = random.dirichlet(np.ones(SCENE_COUNT), size=3)
    np.savez(tmp_path / "scenes.npz", clips=np.array(names), probs=probabilities)
    return tmp_path


def options(folder: Path, **changes) -> list:
    given = {
        "root": folder / "videos",
        "masks": folder / "masks",
        "scenes": folder / "scenes.npz",
        "out": folder / "out",
        "workers": 1,
        "height": 32,
    } | changes
    return [part for name, value in given.items() for part in (f"--{name}", value)]


def test_a_folder_is_packed_and_a_second_run_says_that_it_is_there(folder):
    result = make_shards("folder", *options(folder), "--dataset", "mine")
    assert result.returncode == 0, result.stderr
    assert "3 clips in" in result.stdout
    dataset = ShardDataset.open(folder / "out")
    assert len(dataset) == 3
    assert dataset.has_masks
    assert dataset.has_scenes
    assert dataset.manifest.dataset == "mine"
    report = json.loads((folder / "out" / "report.json").read_text())
    assert report["classes"]["nobody"] == {"wanted": 0, "packed": 0, "missing": 0, "broken": 0}
    result = make_shards("folder", *options(folder), "--dataset", "mine")
    assert result.returncode == 0
    assert "already holds this data set" in result.stdout


def test_masks_and_scenes_may_be_none(folder):
    result = make_shards("folder", *options(folder, masks="none", scenes="none"))
    assert result.returncode == 0, result.stderr
    dataset = ShardDataset.open(folder / "out")
    assert not dataset.has_masks
    assert not dataset.has_scenes


def test_a_csv_file_is_packed(folder):
    (folder / "list.csv").write_text("path,label,start,end\nvideos/jump/a.mp4,hop,1,4\nvideos/gone.mp4,hop,,\n")
    arguments = ["--file", folder / "list.csv", "--out", folder / "out", "--workers", 1, "--height", 32]
    result = make_shards("csv", *arguments)
    assert result.returncode == 0, result.stderr
    assert ShardDataset.open(folder / "out").frame_counts.tolist() == [3]
    assert json.loads((folder / "out" / "report.json").read_text())["missing"] == ["hop/gone"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"root": "nowhere"}, "--root nowhere: no such folder"),
        ({"masks": "nowhere"}, "--masks nowhere: no such folder"),
        ({"scenes": "nowhere.npz"}, "--scenes nowhere.npz: cannot be read"),
        ({"classes": "nowhere.txt"}, "--classes nowhere.txt: cannot be read"),
    ],
)
def test_mistakes_are_one_sentence_and_leave_nothing(folder, changes, sentence):
    before = sorted(folder.iterdir())
    assert_refused(make_shards("folder", *options(folder, **changes)), sentence)
    assert sorted(folder.iterdir()) == before


def test_scene_vectors_of_other_clips_are_refused(folder):
    np.savez(folder / "scenes.npz", clips=np.array(["other/x"]), probs=np.full((1, SCENE_COUNT), 1 / SCENE_COUNT))
    assert_refused(make_shards("folder", *options(folder)), "no scene vector for jump/a, but 1 for other clips")
    assert not (folder / "out").exists()


def test_a_mask_that_misfits_is_named(folder):
    np.savez(folder / "masks" / "run" / "c.npz", masks=np.ones((4, 48, 64), bool))
    assert_refused(make_shards("folder", *options(folder)), "c.npz: masks of shape 4x48x64")
    assert {path.name for path in folder.iterdir()} == {"videos", "masks", "scenes.npz"}


def test_strict_refuses_a_broken_clip_that_is_set_aside_otherwise(folder):
    (folder / "videos" / "run" / "c.mp4").write_bytes(b"")
    assert_refused(make_shards("folder", *options(folder), "--strict"), "--strict: broken: run/c")
    assert not (folder / "out").exists()
    result = make_shards("folder", *options(folder))
    assert result.returncode == 0
    assert "broken: run/c: empty file" in result.stdout


@pytest.mark.parametrize("source", ["jhmdb", "folder", "csv"])
def test_help_is_complete(source):
    result = make_shards(source, "--help")
    assert result.returncode == 0
    for option in ("--out", "--masks", "--mask-fps", "--scenes", "--height", "--workers", "--seed", "--strict"):
        assert option in result.stdout
    if source == "jhmdb":
        assert "--labels" in result.stdout


def test_options_out_of_range_are_refused(folder):
    result = make_shards("folder", *options(folder, height=100))
    assert result.returncode == 2
    assert "height must be a multiple of 16 up to 65500, got 100" in result.stderr


def test_paths_in_brackets_are_printed_as_they_are(folder):
    out = folder / "[/red]" / "[bold]"
    for sentence in (f"-> {out}; ", f"{out} already holds"):
        result = make_shards("folder", *options(folder, out=out))
        assert result.returncode == 0, result.stderr
        assert sentence in result.stdout


def test_one_clip_without_masks_is_one_clip(folder):
    (folder / "masks" / "run" / "c.npz").unlink()
    result = make_shards("folder", *options(folder))
    assert "1 clip has no mask file" in result.stdout
    assert_refused(make_shards("folder", *options(folder, seed=1), "--strict"), "--strict: without a mask file: run/c;")


def test_a_file_name_that_is_not_utf8_is_set_aside(folder):
    (folder / "videos" / "run" / "c.mp4").rename(os.fsdecode(bytes(folder / "videos" / "run") + b"/\xff.mp4"))
    result = make_shards("folder", *options(folder))
    assert result.returncode == 0, result.stderr
    assert r"broken: run/\xff: its name is not UTF-8: rename it" in result.stdout


def test_interrupting_the_whole_group_ends_quickly_and_leaves_nothing(folder):
    rows = "".join(f"videos/jump/a.mp4,hop{number},0,4\n" for number in range(20_000))
    (folder / "list.csv").write_text(f"path,label,start,end\n{rows}")
    before = sorted(folder.iterdir())
    arguments = ["--file", folder / "list.csv", "--out", folder / "out", "--workers", 2, "--height", 32]
    command = [sys.executable, str(PROJECT_ROOT / "tools" / "make_shards.py"), "csv", *map(str, arguments)]
    process = subprocess.Popen(
        command,
        cwd=PROJECT_ROOT,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # As a terminal starts it: a test run in the background of a shell inherits that SIGINT is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline_s = time.monotonic() + 60
    while not list(folder.glob(".out.*/shard-000000.tar")) and time.monotonic() < deadline_s:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    try:
        _, errors = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "interrupted"
    assert "Traceback" not in errors
    assert sorted(folder.iterdir()) == before
