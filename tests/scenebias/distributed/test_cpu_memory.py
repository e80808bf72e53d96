"""Freed memory is kept: in the long run, large tensors cost no page faults."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
import torch
from scenebias.distributed.cpu_memory import keep_freed_memory

torch.set_num_threads(1)
if sys.argv[1] == "keep":
    keep_freed_memory()
for number in range(40):
    if number == 30:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(64 * 2**20, dtype=torch.uint8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(mode: str) -> int:
    done = subprocess.run([sys.executable, "-c", PROGRAM, mode], capture_output=True, text=True, check=True, timeout=60)
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="tunes glibc, which is Linux's")
def test_large_tensors_that_come_and_go_cost_hardly_any_page_faults() -> None:
    assert page_faults("keep") < page_faults("return") / 5
