"""What must hold of the training benchmark's command."""

import json
import math
import multiprocessing
from pathlib import Path
from statistics import median

import pytest
import torch

from scenebias.benchmark.training.command import MEANINGS, WANTED
from scenebias.benchmark.training.processes import _peak_tensor_bytes
from tests.commands import run_tool
from tests.forked import FORKED

SMALL = ("--backbone", "small3d", "--frames", 8, "--size", 32, "--batch-size", 4, "--steps", 2, "--repeats", 2)


@pytest.fixture(scope="module")
def measured(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict]:
    """What a run printed, and its report."""
    path = tmp_path_factory.mktemp("measured") / "results.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(multiprocessing, "get_context", lambda _: FORKED)  # they have no imports to wait for
        finished = run_tool("bench_train", "--shards", tiny_dataset, *SMALL, "--json", path)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout, json.loads(path.read_text())


def test_every_ratio_is_a_number_and_in_the_table(measured: tuple[str, dict]) -> None:
    printed, report = measured
    for name in MEANINGS:
        assert report[name] > 0
        assert math.isfinite(report[name])
        assert name in printed
        assert f"{report[name]:.3f}" in printed
    assert WANTED.keys() <= MEANINGS.keys()


def test_ratios_are_medians_over_the_turns(measured: tuple[str, dict]) -> None:
    _, report = measured
    rates = {name: rates["clips_per_s_of_turns"] for name, rates in report["rates"].items()}
    assert all(len(of_turns) == 2 for of_turns in rates.values())
    for ratio, slower, faster in (
        ("debias_over_baseline", "debias", "baseline"),
        ("albar_over_baseline", "albar", "baseline"),
        ("ours_over_bare", "baseline with its loader", "bare torch"),
        ("ours_in_memory_over_bare", "baseline", "bare torch"),
        ("bf16_over_fp32", "baseline in bf16", "baseline"),
    ):
        wanted = median(b / a for a, b in zip(rates[slower], rates[faster], strict=True))
        assert report[ratio] == pytest.approx(wanted)


def test_memory_is_told_apart_in_state_and_step(measured: tuple[str, dict]) -> None:
    _, report = measured
    baseline, debias = report["memory"]["baseline"], report["memory"]["debias"]
    assert 0 < baseline["state_bytes"] < debias["state_bytes"]
    assert baseline["step_bytes"] > 0
    assert report["peak_memory_ratio"] == pytest.approx(debias["step_bytes"] / baseline["step_bytes"])
    assert report["resident_memory_ratio"] == pytest.approx(debias["resident_bytes"] / baseline["resident_bytes"])


def test_the_memory_of_tensors_is_that_of_those_that_live_at_once() -> None:
    def train() -> None:
        kept = torch.ones(1000, 1000)
        for _ in range(3):
            torch.ones(500, 1000)
        del kept

    assert _peak_tensor_bytes(train) == 4 * 1500 * 1000


def test_two_ranks_have_the_losses_of_one(measured: tuple[str, dict]) -> None:
    _, report = measured
    first, *later = report["two_ranks"]["loss_differences"]
    assert first < 1e-6
    assert max(later) < 1e-3
    assert len(report["two_ranks"]["one"]) == len(report["two_ranks"]["two"]) == 2


def test_the_report_tells_what_was_measured_where(measured: tuple[str, dict]) -> None:
    _, report = measured
    assert report["options"]["backbone"] == "small3d"
    assert report["precision"] == "fp32"
    assert report["machine"]["cpus"] >= 1
    assert "torch" in report["machine"]["versions"]


def refused(*arguments: object) -> str:
    result = run_tool("bench_train", *arguments)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    return result.stderr


def test_a_users_mistake_is_one_sentence(tiny_dataset: Path) -> None:
    assert "/nowhere" in refused("--shards", "/nowhere")
    assert "--batch-size" in refused("--shards", tiny_dataset, "--batch-size", 1)
    said = refused("--shards", tiny_dataset, *SMALL, "--steps", 30)
    assert "12 clips are too few for 31 steps of --batch-size 4" in said
