"""What must hold of a check in a process of its own."""

import multiprocessing
import os
import signal
import subprocess
import time
from dataclasses import replace

import pytest

from scenebias.benchmark.gpu_check.check import Check, Outcome, run_apart, run_here
from tests.forked import FORKED


@pytest.fixture(autouse=True)
def forked(monkeypatch):
    """Processes without imports to wait for."""
    monkeypatch.setattr(multiprocessing, "get_context", lambda _: FORKED)


def check(run) -> Check:
    return Check(name="it", looks_at="", means="", remedy="", run=run)


def finds(options):
    return Outcome(found=f"batches of {options.batch_size}", values={"pid": os.getpid()})


def raises(options):
    raise RuntimeError(f"no {options.backbone} here")


def crashes(options):
    os.kill(os.getpid(), signal.SIGSEGV)


def hangs(options):
    child = subprocess.Popen(["sleep", "1000"])
    options.json.write_text(str(child.pid))
    time.sleep(1000)


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        (Outcome(found="all"), "passed"),
        (Outcome(found="some", skipped=("more: no GPU: skipped",)), "passed"),
        (Outcome(skipped=("no GPU: skipped",)), "skipped"),
        (Outcome(found="all", problems=("wrong",), skipped=("more",)), "failed"),
    ],
)
def test_the_status_is_that_of_the_worst(outcome, status):
    assert outcome.status == status == outcome.as_json()["status"]


def test_what_is_found_comes_back_from_another_process(small):
    outcome = run_apart(check(finds), small)
    assert outcome.found == "batches of 4"
    assert outcome.values["pid"] != os.getpid()


def test_a_check_that_raises_has_failed(small):
    for run in (run_apart(check(raises), small), run_here(raises, small)):
        assert run.problems == ("RuntimeError: no small3d here",)
        assert "raise RuntimeError" in run.values["traceback"]


def test_a_check_that_crashes_has_failed(small):
    assert run_apart(check(crashes), small).problems == ("its process ended with SIGSEGV",)


def test_a_check_that_hangs_is_ended_with_all_that_it_started(small, tmp_path):
    options = replace(small, limit_s=10.0, json=tmp_path / "child")
    assert run_apart(check(hangs), options).problems == ("it had not ended after 10 s",)
    child = int(options.json.read_text())
    for _ in range(100):
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
        with open(f"/proc/{child}/stat", encoding="ascii") as file:
            if file.read().rpartition(")")[2].split()[0] == "Z":  # dead, and nobody has asked how
                return
    pytest.fail("the check's own child lives on")
