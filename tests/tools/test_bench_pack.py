"""What must hold of the packing benchmark."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from tests.commands import run_tool
from tests.project import ROOT


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("videos")
    for number, name in enumerate(("run/a.mp4", "run/b 'c'.mkv", "walk/deep/d.mp4", "e.avi")):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(root / name), "w") as container:
            stream = container.add_stream("mpeg4", rate=25)
            stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
            for _ in range(5 + number):
                frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 40 * number, np.uint8), format="rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
    return root


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="there is no ffmpeg program")
def test_every_way_is_measured_as_often_on_as_many_videos(videos, tmp_path):
    out = tmp_path / "results.json"
    arguments = ["--videos", videos, "--repeats", 2, "--limit", 3, "--json", out]
    command = [sys.executable, ROOT / "tools" / "bench_pack.py", *arguments]  # it measures its own memory
    finished = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=120)
    assert finished.returncode == 0, finished.stderr
    report = json.loads(out.read_text())
    assert report["clips"] == 3
    results = report["results"]
    assert len(results) == 5
    for result in results.values():
        assert len(result["clips_per_s_of_repeats"]) == 2
        assert min(result["clips_per_s_of_repeats"]) > 0
    rates = {name: result["clips_per_s"] for name, result in results.items()}
    ours = rates.pop("this project's packing")
    one_process = max(rate for name, rate in rates.items() if "many videos" in name)
    best = max(rate for name, rate in rates.items() if "many videos" not in name)
    assert report["ratio_to_ffmpeg"] == ours / best
    assert report["ratio_to_ffmpeg_one_process"] == ours / one_process
    assert results["this project's packing"]["parent_peak_rss_mib"] > 10
    assert f"ratio_to_ffmpeg: {ours / best:.2f}" in finished.stdout


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="there is no ffmpeg program")
def test_a_video_that_cannot_be_packed_is_named(tmp_path):
    (tmp_path / "clip.mp4").write_bytes(b"no video" * 1000)
    finished = run_tool("bench_pack", "--videos", tmp_path)
    assert finished.returncode == 2
    assert "clip" in finished.stderr
    assert "Traceback" not in finished.stderr


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("--videos", "/nowhere"), "/nowhere"),
        (("--videos", ".", "--repeats", "0"), "repeats"),
        (("--videos", "tests"), "no video"),
    ],
)
def test_a_users_mistake_is_one_sentence(arguments, part):
    if "0" not in arguments and shutil.which("ffmpeg") is None:
        pytest.skip("there is no ffmpeg program")
    finished = run_tool("bench_pack", *arguments)
    assert finished.returncode == 2
    assert part in finished.stderr
    assert "Traceback" not in finished.stderr


def test_without_ffmpeg_there_is_nothing_to_compare_with(videos, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    finished = run_tool("bench_pack", "--videos", videos)
    assert finished.returncode == 2
    assert "install it" in finished.stderr
    assert "Traceback" not in finished.stderr
