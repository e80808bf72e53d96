import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

import pytest

from shards.errors import UserError
from shards.system import worker_pool
from shards.system.worker_pool import LONGEST_SOCKET_FOLDER_BYTES, run_in_order
from tests.project import ROOT


def results(tasks, **options) -> list:
    found = []
    for future in run_in_order(tasks, **options):
        try:
            found.append(future.result())
        except (BrokenProcessPool, ZeroDivisionError) as error:
            found.append(type(error))
    return found


def test_results_come_in_order_and_errors_stay_with_their_task():
    tasks = [partial(divmod, 7, number - 3) for number in range(8)]
    expected = [divmod(7, number - 3) if number != 3 else ZeroDivisionError for number in range(8)]
    assert results(tasks, workers=2, in_flight=3) == expected


def test_no_more_tasks_are_begun_ahead_than_asked():
    begun = []

    def tasks() -> Iterator:
        for number in range(20):
            begun.append(number)
            yield partial(abs, number)

    for taken, _ in enumerate(run_in_order(tasks(), workers=2, in_flight=5)):
        assert len(begun) <= taken + 5


@pytest.mark.parametrize("length", [20, LONGEST_SOCKET_FOLDER_BYTES, LONGEST_SOCKET_FOLDER_BYTES + 1, 200])
def test_workers_start_whatever_the_length_of_the_folder_for_temporary_files(tmp_path, length):
    folder = tmp_path / ("x" * max(1, length - len(str(tmp_path)) - 1))
    folder.mkdir()
    code = (
        "import tempfile; from functools import partial; from shards.system.worker_pool import run_in_order\n"
        "for future in run_in_order([partial(abs, -7)], workers=1, in_flight=1): print(future.result())\n"
        "print(tempfile.gettempdir())"
    )
    environment = {**os.environ, "TMPDIR": str(folder), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"7\n{folder}\n", "")
    assert list(folder.iterdir()) == []


def test_where_no_folder_has_a_short_name_it_is_tmpdir_that_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("x" * 200)))
    monkeypatch.setattr(worker_pool, "SHORT_FOLDERS", (str(tmp_path / "nowhere"),))
    with pytest.raises(UserError, match=r"^TMPDIR .*x: too long for the sockets of worker processes; give one of at"):
        results([partial(abs, 1)], workers=1, in_flight=1)


@pytest.mark.parametrize("killers", [{0}, {5}, {3, 4}, {9}])
def test_a_task_that_kills_its_process_harms_no_other(killers):
    tasks = [partial(os._exit, 1) if number in killers else partial(abs, number) for number in range(10)]
    expected = [BrokenProcessPool if number in killers else number for number in range(10)]
    assert results(tasks, workers=2, in_flight=4) == expected


PARENT = """
import os, sys, time
from functools import partial
from pathlib import Path
from shards.system.worker_pool import run_in_order

if __name__ == "__main__":
    for future in run_in_order((os.getpid for _ in range(10**9)), workers=2, in_flight=8):
        with open(sys.argv[1], "a") as file:
            file.write(f"{future.result()}\\n")
        time.sleep(0.01)
"""


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_workers_end_with_a_parent_that_is_killed(tmp_path):
    script, log = tmp_path / "parent.py", tmp_path / "workers"
    script.write_text(PARENT)
    parent = subprocess.Popen([sys.executable, str(script), str(log)], env=os.environ | {"PYTHONPATH": str(ROOT)})
    deadline_s = time.monotonic() + 60
    while not log.exists() or len(set(log.read_text().splitlines()[:-1])) < 2:
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    workers = {int(line) for line in log.read_text().splitlines()[:-1]}
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    while any(map(is_running, workers)):
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
