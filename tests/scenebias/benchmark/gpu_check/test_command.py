"""What must hold of the command: one table, one file, one exit status, and advice for what has failed."""

import json
from dataclasses import replace

import pytest

from scenebias.benchmark.gpu_check import command
from scenebias.benchmark.gpu_check.check import Outcome, run_here
from scenebias.benchmark.gpu_check.command import CHECKS, COMMAND
from tests.commands import run_here as run_command
from tests.project import ROOT

OUTCOMES = {
    "environment": Outcome(found="driver 580.65, 8 x NVIDIA H100"),
    "pixels": Outcome(found="100 clips", problems=("3 of 100 clips are another picture",)),
    "loader": Outcome(skipped=("everything: no GPU: skipped",)),
}


@pytest.fixture
def played(monkeypatch):
    """Lets the checks find what they are told to, in this process."""

    def play(outcomes):
        checks = tuple(
            replace(check, run=lambda options, found=outcomes[check.name]: found)
            for check in CHECKS
            if check.name in outcomes
        )
        monkeypatch.setattr(command, "CHECKS", checks)
        monkeypatch.setattr(command, "run_apart", lambda check, options: run_here(check.run, options))

    return play


def run(tiny_dataset, tmp_path, *options):
    path = tmp_path / "out.json"
    finished = run_command(COMMAND, "--shards", tiny_dataset, "--batch-size", 4, "--json", path, *options)
    return finished, json.loads(path.read_text()) if path.exists() else None


def test_a_failure_is_told_with_what_it_means_and_what_to_try(played, tiny_dataset, tmp_path):
    played(OUTCOMES)
    finished, report = run(tiny_dataset, tmp_path)
    assert finished.returncode == 1
    assert report["failed"] == ["pixels"]
    status = {name: check["status"] for name, check in report["checks"].items()}
    assert status == {"environment": "passed", "pixels": "failed", "loader": "skipped"}
    words = " ".join(finished.stdout.split())
    pixels = next(check for check in CHECKS if check.name == "pixels")
    for part in (pixels.means, pixels.remedy, "3 of 100 clips", "no GPU: skipped"):
        assert " ".join(part.split())[:40] in words
    environment = next(check for check in CHECKS if check.name == "environment")
    assert environment.remedy[:30] not in words


def test_nothing_failed_is_status_0(played, tiny_dataset, tmp_path):
    played({name: outcome for name, outcome in OUTCOMES.items() if name != "pixels"})
    finished, report = run(tiny_dataset, tmp_path)
    assert finished.returncode == 0
    assert report["failed"] == []


def test_checks_are_chosen_by_name(played, tiny_dataset, tmp_path):
    played(OUTCOMES)
    finished, report = run(tiny_dataset, tmp_path, "--checks", "loader", "environment")
    assert finished.returncode == 0
    assert report["checks"].keys() == {"environment", "loader"}


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (("--checks", "pixel"), ["--checks", "pixels", "got pixel"]),
        (("--seconds", "0"), ["seconds", "positive"]),
        (("--longest-idle-share", "2"), ["--longest-idle-share", "0 to 1"]),
    ],
)
def test_a_mistake_is_one_sentence(tiny_dataset, tmp_path, options, parts):
    finished, _ = run(tiny_dataset, tmp_path, *options)
    assert finished.returncode == 2
    for part in parts:
        assert part in finished.stderr


def test_data_that_cannot_show_everything_is_refused(tiny_dataset):
    finished = run_command(COMMAND, "--shards", tiny_dataset, "--batch-size", 500)
    assert finished.returncode == 2
    assert "has 12 clips, fewer than --batch-size 500" in finished.stderr


def test_every_check_says_what_it_means_and_what_to_try():
    assert len({check.name for check in CHECKS}) == len(CHECKS)
    for check in CHECKS:
        assert check.means.endswith(".")
        assert check.remedy.endswith(".")
        assert not check.looks_at.endswith(".")


def test_the_script_starts_the_command():
    text = (ROOT / "tools" / "gpu_check.sh").read_text()
    assert 'exec python -m scenebias.benchmark.gpu_check "$@"' in text
