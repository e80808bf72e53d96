"""What must hold of the data benchmark's command; of the loaders that it compares, see test_benchmark_peers.py."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.commands import Result, run_tool

SMALL = ("--batch-size", 4, "--repeats", 2, "--steps", 2, "--least-pass-s", 0, "--workers", 1)
SMALL_CLIPS = ("--frames", 8, "--size", 32)


@pytest.fixture(scope="module")
def measured(tiny_dataset, tmp_path_factory) -> tuple[Result, Path]:
    """A run with everything but the loaders that need videos, and the folder of its files."""
    folder = tmp_path_factory.mktemp("measured")
    files = ("--json", folder / "results.json", "--plot", folder / "plot.png")
    profile = ("--profile-step", "--profile-networks", "small3d", "--profile-steps", 2, "--profile-s", 0.2)
    return run_tool("bench_data", "--shards", tiny_dataset, *SMALL, *SMALL_CLIPS, *files, *profile, "--sweep"), folder


@pytest.fixture(scope="module")
def report(measured) -> dict:
    finished, folder = measured
    assert finished.returncode == 0, finished.stderr
    return json.loads((folder / "results.json").read_text())


def test_every_loader_has_its_rates(measured, report):
    rates = {result["name"]: result for result in report["results"]}
    assert list(rates)[:3] == ["ours", "ours_crop", "decode_only"]
    for name, result in rates.items():
        assert name in measured[0].stdout
        assert len(result["clips_per_s_of_passes"]) == 2
        assert 0 < result["clips_per_s_min"] <= result["clips_per_s_median"] <= result["clips_per_s_max"]
        assert result["ours_to_this"] == pytest.approx(
            rates["ours"]["clips_per_s_median"] / result["clips_per_s_median"]
        )


def test_loaders_without_videos_are_left_out_with_the_reason(measured, report):
    assert {"frames_on_disk", "torchcodec", "webdataset", "spdl"} <= report["left_out"].keys()
    assert "--videos" in report["left_out"]["spdl"]
    assert "left out: spdl: " in measured[0].stdout


def test_the_report_tells_what_was_measured_where(report):
    assert report["device"] == "cpu"
    assert report["options"]["batch_size"] == 4
    assert report["machine"]["cpus"] >= 1
    assert report["machine"]["versions"].keys() >= {"torch", "torchcodec", "spdl"}


def test_the_stages_add_up_to_the_whole(report):
    stages = report["stages"]["stages_cpu_ms_per_clip"]
    assert stages.keys() == {"read", "assemble", "decode", "resize", "mask", "hand-over"}
    assert sum(stages.values()) == pytest.approx(report["stages"]["cpu_ms_per_clip"])
    assert sum(report["stages"]["stages_share"].values()) == pytest.approx(1)


def test_every_option_that_matters_is_swept(measured, report):
    sweep = report["sweep"]
    assert {"as asked", "prefetch 1", "prefetch 4"} <= sweep.keys()
    assert not [name for name in sweep if "hw_decoder_load" in name]
    assert sweep["as asked"]["to_as_asked"] == 1
    for name, measured_rates in sweep.items():
        assert name in measured[0].stdout
        assert measured_rates["clips_per_s_median"] > 0


def test_the_steps_of_a_training_run_are_profiled(report):
    (profile,) = report["step_profile"]
    assert profile["network"] == "small3d"
    assert profile["steps"] >= 2
    assert 0 <= profile["data_wait_share"] < 1
    alone = (profile["loader_alone_clips_per_s"], profile["model_alone_clips_per_s"])
    assert profile["of_the_slower"] == pytest.approx(profile["clips_per_s"] / min(alone))
    assert profile["engines"] == {}


def test_the_plot_is_a_picture(measured):
    with Image.open(measured[1] / "plot.png") as image:
        pixels = np.asarray(image.convert("RGB"))
    assert min(pixels.shape[:2]) > 100
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 5


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("--shards", "/nowhere"), ["/nowhere"]),
        (("--shards", ".", "--repeats", "0"), ["repeats"]),
        (("--shards", ".", "--peers", "mine"), ["peers", "frames_on_disk"]),
        (("--shards", ".", "--plot", "chart.jpg"), ["plot", ".png"]),
    ],
)
def test_a_users_mistake_is_one_sentence(arguments, parts):
    assert_refused(arguments, parts)


def test_a_peer_that_is_asked_for_must_be_measurable(tiny_dataset):
    arguments = ("--shards", tiny_dataset, "--peers", "torchcodec", *SMALL, *SMALL_CLIPS)
    assert_refused(arguments, ["--peers torchcodec", "--videos"])


def assert_refused(arguments, parts):
    result = run_tool("bench_data", *arguments)
    assert result.returncode == 2
    for part in parts:
        assert part in result.stderr
    assert "Traceback" not in result.stderr
