"""What must hold of the data benchmark."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = [sys.executable, str(Path(__file__).resolve().parents[2] / "tools" / "bench_data.py")]


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=120)


def test_all_loaders_are_measured_as_often(tiny_dataset, tmp_path):
    out = tmp_path / "results.json"
    options = ("--batch-size", 4, "--repeats", 2, "--steps", 2, "--workers", 1, "--frames", 8, "--size", 32)
    finished = run("--shards", tiny_dataset, *options, "--json", out)
    assert finished.returncode == 0, finished.stderr
    report = json.loads(out.read_text())
    assert report["options"]["batch_size"] == 4
    assert len(report["results"]) == 4
    for name, result in report["results"].items():
        assert name.split(",")[0] in finished.stdout
        assert len(result["clips_per_s_of_passes"]) == 2
        assert min(result["clips_per_s_of_passes"]) > 0
    assert report["results"]["this project's loader"]["ours_to_this"] == 1


@pytest.mark.parametrize(
    ("arguments", "part"), [(("--shards", "/nowhere"), "/nowhere"), (("--shards", ".", "--repeats", "0"), "repeats")]
)
def test_a_users_mistake_is_one_sentence(arguments, part):
    finished = run(*arguments)
    assert finished.returncode == 2
    assert part in finished.stderr
    assert "Traceback" not in finished.stderr
