import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from torchvision.models import resnet18
from torchvision.models.segmentation import lraspp_mobilenet_v3_large

from scenebias.data.inspect_shards import COMMAND as INSPECT
from scenebias.data.make_shards import COMMAND as PROGRAM
from shards.dataset import ShardDataset
from shards.format.sample import SCENE_COUNT, Crop
from tests.commands import Result, run_here
from tests.forked import run_command, run_in_ranks
from tests.project import ROOT
from tools.trials.ready_samples import write_samples

COMMAND = [sys.executable, str(ROOT / "tools" / "make_shards.py")]


def make_shards(*arguments) -> Result:
    return run_here(PROGRAM, *arguments)


def assert_refused(result: Result, sentence: str) -> None:
    assert result.returncode == 2
    assert sentence in result.stderr
    assert result.stderr.count("\n") == 1
    assert "Traceback" not in result.stderr


@pytest.fixture
def folder(tmp_path) -> Path:
    """Three clips of two of three classes, with masks and scene vectors."""
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
    (tmp_path / "classes.txt").write_text("jump\nnobody\nrun\n")
    probabilities = random.dirichlet(np.ones(SCENE_COUNT), size=3)
    np.savez(tmp_path / "scenes.npz", clips=np.array(names), probs=probabilities)
    return tmp_path


def options(folder: Path, **changes) -> list:
    given = {
        "root": folder / "videos",
        "masks": folder / "masks",
        "scenes": folder / "scenes.npz",
        "classes": folder / "classes.txt",
        "out": folder / "out",
        "workers": 1,
        "height": 32,
    } | changes
    return [part for name, value in given.items() if value is not None for part in (f"--{name}", value)]


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
    command = [*COMMAND, "folder", *map(str, options(folder)), "--dataset", "mine"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
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
    assert json.loads((folder / "out" / "report.json").read_text())["missing"] == {
        "hop/gone": "the video does not exist"
    }


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"root": "nowhere"}, "--root nowhere: no such folder"),
        ({"masks": "nowhere"}, "--masks nowhere: no such folder"),
        ({"scenes": "nowhere.npz"}, "--scenes nowhere.npz: cannot be read"),
        ({"classes": "nowhere.txt"}, "--classes: nowhere.txt cannot be read"),
    ],
)
def test_mistakes_are_one_sentence_and_leave_nothing(folder, changes, sentence):
    before = sorted(folder.iterdir())
    assert_refused(make_shards("folder", *options(folder, **changes)), sentence)
    assert sorted(folder.iterdir()) == before


def test_scene_labels_of_other_clips_are_refused(folder):
    np.savez(folder / "scenes.npz", clips=np.array(["other/x"]), probs=np.full((1, SCENE_COUNT), 1 / SCENE_COUNT))
    assert_refused(make_shards("folder", *options(folder)), "no scene label for any of the 3 clips, such as jump/a")
    assert not list(folder.glob("*out*"))


def test_a_mask_that_misfits_is_named(folder):
    np.savez(folder / "masks" / "run" / "c.npz", masks=np.ones((4, 48, 64), bool))
    result = make_shards("folder", *options(folder))
    assert result.returncode == 0
    assert "c.npz: masks of shape 4x48x64" in result.stdout
    assert "2 of 3 classes without any clip: nobody, run" in result.stdout


def test_strict_refuses_a_broken_clip_that_is_set_aside_otherwise(folder):
    (folder / "videos" / "run" / "c.mp4").write_bytes(b"")
    assert_refused(make_shards("folder", *options(folder), "--strict"), "--strict: classes without any clip: nobody")
    (folder / "classes.txt").write_text("jump\nrun\n")
    assert_refused(make_shards("folder", *options(folder), "--strict"), "--strict: broken: run/c")
    assert not (folder / "out").exists()
    result = make_shards("folder", *options(folder))
    assert result.returncode == 0
    path = folder / "videos" / "run" / "c.mp4"
    assert f"broken: run/c: empty file ({path})" in result.stdout
    report = json.loads((folder / "out" / "report.json").read_text())
    assert report["broken"] == {"run/c": {"file": "run/c.mp4", "reason": "empty file"}}


def test_what_is_not_read_and_what_is_odd_is_told_and_strict_refuses_the_former(folder):
    shutil.copy(folder / "videos/run/c.mp4", folder / "videos/run/d.mp4.part")
    (folder / "videos/notes").mkdir()
    (folder / "classes.txt").write_text("jump\nrun\n")
    refusal = "--strict: not read: run/d.mp4.part (the rest of a download, or compressed); "
    assert_refused(make_shards("folder", *options(folder), "--strict"), refusal)
    assert not (folder / "out").exists()
    result = make_shards("folder", *options(folder))
    assert result.returncode == 0, result.stderr
    assert "not read: run/d.mp4.part (the rest of a download, or compressed)\n" in result.stdout
    assert "folders without a video, which are no classes: notes\n" in result.stdout
    report = json.loads((folder / "out/report.json").read_text())
    assert report["unlisted"] == ["run/d.mp4.part (the rest of a download, or compressed)"]
    assert report["remarks"] == {"folders without a video, which are no classes": ["notes"]}
    (folder / "videos/run/d.mp4.part").unlink()
    assert "already holds" in make_shards("folder", *options(folder), "--strict").stdout


@pytest.mark.parametrize("source", ["jhmdb", "mini_kinetics", "diving48"])
def test_help_is_complete(source):
    result = make_shards(source, "--help")
    assert result.returncode == 0
    for option in ("--out", "--masks", "--mask-fps", "--mask-weights", "--mask-every", "--scenes", "--scene-weights"):
        assert option in result.stdout
    for option in ("--height", "--codec", "--workers", "--seed", "--strict", "--overwrite"):
        assert option in result.stdout
    assert "--root" in result.stdout


def test_options_out_of_range_are_refused(folder):
    result = make_shards("folder", *options(folder, height=100))
    assert result.returncode == 2
    assert "--height must be a multiple of 16 up to 65500, got 100" in result.stderr


def test_paths_in_brackets_are_printed_as_they_are(folder):
    out = folder / "[/red]" / "[bold]"
    for sentence in (f"-> {out}; ", f"{out} already holds"):
        result = make_shards("folder", *options(folder, out=out))
        assert result.returncode == 0, result.stderr
        assert sentence in result.stdout


def test_one_clip_without_masks_is_one_clip(folder):
    (folder / "masks" / "run" / "c.npz").unlink()
    result = make_shards("folder", *options(folder))
    assert "1 clip has no masks" in result.stdout
    assert_refused(make_shards("folder", *options(folder, seed=1), "--strict"), "--strict: without masks: run/c;")


def test_squares_around_people_are_packed_and_who_has_none_is_told(folder):
    masks = np.zeros((5, 48, 64), bool)
    np.savez(folder / "masks" / "jump" / "b.npz", masks=masks)
    masks[:, 10:20, 40:50] = True
    np.savez(folder / "masks" / "jump" / "a.npz", masks=masks)
    arguments = (*options(folder), "--focus", "person", "--focus-margin", "1.6")
    result = make_shards("folder", *arguments)
    assert result.returncode == 0, result.stderr
    assert "1 clip has no mask with a person in it: the centre of the frame is stored" in result.stdout
    dataset = ShardDataset.open(folder / "out")
    crops = {dataset.info(i).name: dataset.info(i).crop for i in range(3)}
    assert crops["jump/a"] == Crop(left=36, top=6, width=16, height=16, on_person=True)
    assert crops["jump/b"] == Crop(left=8, top=0, width=48, height=48, on_person=False)
    assert "already holds this data set" in make_shards("folder", *arguments).stdout
    assert_refused(
        make_shards("folder", *options(folder, masks="none", out=folder / "other"), "--focus", "person"),
        "--focus person: needs masks",
    )
    result = make_shards("folder", *options(folder, out=folder / "other"), "--focus-margin", "0.5")
    assert result.returncode == 2
    assert "--focus-margin must be at least 1, got 0.5" in result.stderr
    result = run_here(INSPECT, folder / "out", "--verify", "--html", folder / "page.html")
    assert result.returncode == 0, result.stderr
    told = "squares around people (--focus person --focus-margin 1.6); 1 without people show the centre"
    assert told in " ".join(result.stdout.split())
    page = (folder / "page.html").read_text()
    assert "16x16 at (36, 6) around its people" in page
    assert "48x48 at (8, 0) around nobody: the centre" in page


def test_a_file_name_that_is_not_utf8_is_set_aside(folder):
    (folder / "videos" / "run" / "c.mp4").rename(os.fsdecode(bytes(folder / "videos" / "run") + b"/\xff.mp4"))
    result = make_shards("folder", *options(folder))
    assert result.returncode == 0, result.stderr
    assert r"broken: run/\xff: its name is not UTF-8: rename it" in result.stdout


def test_interrupting_the_whole_group_ends_quickly_and_keeps_what_is_done(folder):
    rows = "".join(f"videos/jump/a.mp4,hop{number},0,4\n" for number in range(20_000))
    (folder / "list.csv").write_text(f"path,label,start,end\n{rows}")
    arguments = ["--file", folder / "list.csv", "--out", folder / "out", "--workers", 2, "--height", 32]
    command = [*COMMAND, "csv", *map(str, arguments)]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # As a terminal starts it: a test run in the background of a shell inherits that SIGINT is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline_s = time.monotonic() + 60
    while not list(folder.glob(".out.packing/journals/*.journal")) and time.monotonic() < deadline_s:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    try:
        _, errors = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "interrupted"
    assert "Traceback" not in errors
    assert not (folder / "out").exists()
    assert list(folder.glob(".out.packing/journals/*.journal"))


def test_names_with_blanks_and_signs_are_packed(folder):
    renamed = folder / "videos ü #1!" / "jümp & run!"
    shutil.copytree(folder / "videos" / "jump", renamed)
    (renamed / "a.mp4").rename(renamed / "100% #a!;(ß) 'q'.mp4")
    (renamed / "loop").symlink_to(renamed)
    (renamed / "notes.mp4").mkdir()
    result = make_shards("folder", *options(folder, root=renamed.parent, classes=None, masks="none", scenes="none"))
    assert result.returncode == 0, result.stderr
    dataset = ShardDataset.open(folder / "out")
    names = {dataset.info(i).name for i in range(len(dataset))}
    assert names == {"jümp & run!/100% #a!;(ß) 'q'", "jümp & run!/b"}


@pytest.mark.parametrize("option", ["root", "out"])
def test_urls_are_refused_where_folders_are_wanted(folder, monkeypatch, option):
    """As a path, one would name a new folder below the current one."""
    monkeypatch.chdir(folder)
    result = make_shards("folder", *options(folder, **{option: "s3://bucket/train"}, masks="none", scenes="none"))
    assert_refused(result, f"{option} must be a folder on this machine or mounted there, not the URL s3:/bucket/train")
    assert not (folder / "s3:").exists()


def test_a_split_that_does_not_exist_is_refused(folder):
    result = make_shards("jhmdb", "--root", folder, "--labels", folder, "--out", folder / "out", "--split", 4)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert "invalid choice '4' for argument '--split'" in result.stderr


def test_pickled_objects_in_masks_are_never_loaded(folder):
    class Bomb:
        def __reduce__(self) -> tuple:
            return Path.touch, (folder / "boom",)

    (folder / "masks" / "run" / "c.npz").unlink()
    np.save(folder / "masks" / "run" / "c.npy", np.array([Bomb()]), allow_pickle=True)
    result = make_shards("folder", *options(folder))
    assert result.returncode == 0
    assert re.search(r"broken: run/c: .*c\.npy", result.stdout)
    assert not (folder / "boom").exists()


def test_a_data_set_inside_the_folder_of_videos_is_refused(folder):
    out = folder / "videos" / "packed"
    assert_refused(make_shards("folder", *options(folder, out=out)), f"--out {out}: lies in --root")
    assert not out.exists()


def test_weights_without_a_network_are_refused(folder):
    for kind in ("mask", "scene"):
        weights = ["--" + kind + "-weights", folder / "scenes.npz"]
        result = make_shards("folder", *options(folder), *weights)
        assert result.returncode == 2
        assert f"--{kind}-weights goes with a network" in result.stderr


def random_weights(path: Path, network: torch.nn.Module, seed: int) -> Path:
    torch.manual_seed(seed)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    torch.save(network.state_dict(), path)
    return path


def test_networks_annotate_and_processes_share_the_work(folder):
    """Two processes write the bytes that one writes."""
    masks = random_weights(folder / "m.pth", lraspp_mobilenet_v3_large(weights=None, weights_backbone=None), 0)
    scenes = random_weights(folder / "s.pth", resnet18(num_classes=SCENE_COUNT), 1)
    chosen = options(folder, masks="lraspp_mobilenet_v3_large", scenes="resnet18_places365", **{"samples-per-shard": 2})
    chosen += ["--mask-weights", masks, "--scene-weights", scenes, "--mask-every", 2, "--scene-every", 3]
    result = make_shards("folder", *chosen)
    assert result.returncode == 0, result.stderr
    dataset = ShardDataset.open(folder / "out")
    assert list(dataset.verify()) == []
    assert dataset.mask_count == dataset.scene_count == 3
    provenance = dataset.manifest.provenance
    assert (provenance["masks"]["every"], provenance["scenes"]["every"]) == (2, 3)
    (folder / "out").rename(folder / "one")
    printed = run_in_ranks(folder / "printed", 2, run_command, "scenebias.data.make_shards", ["folder", *chosen])
    assert "".join(printed).count("3 clips in") == 1
    for path in (folder / "one").iterdir():
        assert path.read_bytes() == (folder / "out" / path.name).read_bytes()
    assert not list(folder.glob(".out*"))


@pytest.mark.parametrize(
    ("trial", "options"),
    [
        ("kill_packing.py", ["--kills", "3", "--clips", "120"]),
        ("pack_memory.py", ["--clips", "400"]),
        ("flip_bits.py", ["--flips", "16"]),
    ],
)
def test_a_small_trial_passes(trial, options):
    command = [sys.executable, f"tools/trials/{trial}", *options]
    result = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env=os.environ | {"PYTHONPATH": "."}, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_clips_that_another_data_set_has_too_are_told_and_reported(folder):
    rows = {"train": ["jump/a,jump", "jump/b,jump"], "test": ["copy of a,run", "run/c,run"]}
    shutil.copy(folder / "videos" / "jump" / "a.mp4", folder / "videos" / "copy of a.mp4")
    for subset, lines in rows.items():
        cells = [line.split(",") for line in lines]
        (folder / f"{subset}.csv").write_text(
            "path,label\n" + "".join(f"{path}.mp4,{label}\n" for path, label in cells)
        )

    def pack(subset: str, *more) -> Result:
        listing = ("csv", "--file", folder / f"{subset}.csv", "--root", folder / "videos")
        return make_shards(*listing, "--height", 32, "--workers", 1, "--out", folder / subset, *more)

    assert pack("train").returncode == 0
    assert json.loads((folder / "train" / "report.json").read_text())["shared"] == {}
    apart = ("--apart-from", folder / "train")
    refused = pack("test", *apart, "--strict")
    assert_refused(refused, f"--strict: also in {folder / 'train'}: run/copy of a; leave them out of one")
    assert not (folder / "test").exists()
    told = f"1 clip is of video frames that {folder / 'train'} has too: run/copy of a"
    assert told in pack("test", *apart).stdout
    report = json.loads((folder / "test" / "report.json").read_text())
    assert report["shared"] == {str(folder / "train"): ["run/copy of a"]}
    again = pack("test", *apart)
    assert told in again.stdout
    assert "nothing to do" in again.stdout
    assert pack("test").returncode == 0
    assert_refused(pack("test", *apart, "--strict"), "--strict: also in")


def test_data_that_do_not_say_of_which_videos_they_are_are_refused_before_anything_is_packed(folder, synthetic_sample):
    sample = synthetic_sample(0)
    write_samples(
        folder / "other", [replace(sample, info=replace(sample.info, source_sha256=""))], ("clap", "jump", "wave")
    )
    result = make_shards("folder", *options(folder), "--apart-from", folder / "other")
    assert_refused(result, "other does not say of which videos its clips are")
    assert not list(folder.glob(".*packing"))
