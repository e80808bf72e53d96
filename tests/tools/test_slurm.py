"""tools/slurm.sh with a Slurm that starts its tasks on this machine: two torchruns train as one does."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.forked import run_command, run_in_ranks
from tests.project import ROOT

LONGEST_RUN_S = 180
TIMINGS = {"step_s", "data_wait_share", "clips_per_s", "precise_bn_s"}
SMALL = ("--backbone", "small3d", "--frames", "8", "--size", "32", "--batch-size", "4", "--learning-rate", "0.01")
SCONTROL = """#!/usr/bin/env bash
case $1 in
    show) echo 127.0.0.1; echo another.machine ;;
    requeue) echo "$2" >> "$(dirname "$0")/requeued" ;;
esac
"""
SRUN = """#!/usr/bin/env bash
while [[ $1 == -* ]]; do shift; done
for ((node = 0; node < SLURM_JOB_NUM_NODES; node++)); do "$@" & tasks+=($!); done
trap 'kill -USR1 "${tasks[@]}"' USR1
trap 'kill "${tasks[@]}"' TERM
status=0
for task in "${tasks[@]}"; do
    while kill -0 "$task" 2> /dev/null; do wait "$task" || status=$?; done
done
exit "$status"
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a job on two machines with a process on each, both of which are this one."""
    commands = tmp_path_factory.mktemp("slurm")
    for name, content in (("scontrol", SCONTROL), ("srun", SRUN)):
        (commands / name).write_text(content)
        (commands / name).chmod(0o755)
    return {
        **os.environ,
        "PATH": f"{commands}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "SLURM_JOB_ID": str(os.getpid()),
        "SLURM_JOB_NODELIST": "node[1-2]",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_GPUS_ON_NODE": "1",
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[str]]]:
    """All that are started, each in a process group of its own; ended with the test."""
    found: list[subprocess.Popen[str]] = []
    yield found
    for process in found:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # the processes of a torchrun end with it
        process.communicate(timeout=LONGEST_RUN_S)


def start(started: list[subprocess.Popen[str]], environment: dict[str, str], *line: object) -> subprocess.Popen[str]:
    started.append(
        subprocess.Popen(
            [*map(str, line)],
            env=environment,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
    )
    return started[-1]


def log_of(out: Path) -> list[dict[str, Any]]:
    """Whole lines only, as it may be growing; without times."""
    if not (out / "log.jsonl").exists():
        return []
    entries = [json.loads(line) for line in (out / "log.jsonl").read_text().split("\n")[:-1]]
    return [{name: value for name, value in entry.items() if name not in TIMINGS} for entry in entries]


def test_two_machines_lose_as_two_processes_do_and_go_on_after_the_time_is_up(
    tiny_dataset: Path,
    tiny_test_dataset: Path,
    tmp_path: Path,
    cluster: dict[str, str],
    started: list[subprocess.Popen[str]],
) -> None:
    options = (*SMALL, "--epochs", 8, "--train", tiny_dataset, "--val", tiny_test_dataset)
    command = (ROOT / "tools" / "slurm.sh", "-m", "scenebias.pretrain", *options, "--out", tmp_path / "job")
    job = start(started, cluster, *command)
    while len(log_of(tmp_path / "job")) < 4:
        assert job.poll() is None, job.communicate()[0]
        time.sleep(0.01)
    os.kill(job.pid, signal.SIGUSR1)  # as Slurm tells the script alone
    output, _ = job.communicate(timeout=LONGEST_RUN_S)
    assert "SIGUSR1: saved after step" in output
    requeued = Path(cluster["PATH"].split(":")[0]) / "requeued"
    assert requeued.read_text() == f"{os.getpid()}\n", output
    assert len(log_of(tmp_path / "job")) < 32
    again = start(started, cluster, *command)
    one_machine = [*options, "--out", tmp_path / "expected"]
    run_in_ranks(tmp_path / "printed", 2, run_command, "scenebias.pretrain", one_machine)
    output, _ = again.communicate(timeout=LONGEST_RUN_S)
    assert again.returncode == 0, output
    assert len(log_of(tmp_path / "expected")) == 32
    assert log_of(tmp_path / "job") == log_of(tmp_path / "expected")
    assert requeued.read_text() == f"{os.getpid()}\n"


@pytest.mark.parametrize(
    "checker", [["bash", "-n"], ["shellcheck", "-x", "-P", "SCRIPTDIR"]], ids=lambda checker: checker[0]
)
def test_the_scripts_are_sound(checker: list[str]) -> None:
    if shutil.which(checker[0]) is None:
        pytest.skip(f"there is no {checker[0]}")
    for script in (ROOT / "tools").glob("*.sh"):
        subprocess.run([*checker, script], check=True)
