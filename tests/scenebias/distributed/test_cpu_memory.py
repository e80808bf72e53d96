"""Freed memory is kept: in the long run, large tensors cost no page faults."""

import resource
import sys
from pathlib import Path

import pytest
import torch

from scenebias.distributed.cpu_memory import keep_freed_memory
from tests.forked import run_in_ranks


def come_and_go(keep: bool) -> None:
    """Print how many page faults tensors cost that are as large as many before."""
    if keep:
        keep_freed_memory()
    for number in range(40):
        if number == 30:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(64 * 2**20, dtype=torch.uint8)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)


def page_faults(folder: Path, keep: bool) -> int:
    (printed,) = run_in_ranks(folder, 1, come_and_go, keep)
    return int(printed)


@pytest.mark.skipif(sys.platform != "linux", reason="tunes glibc, which is Linux's")
def test_large_tensors_that_come_and_go_cost_hardly_any_page_faults(tmp_path: Path) -> None:
    assert page_faults(tmp_path / "kept", keep=True) < page_faults(tmp_path / "returned", keep=False) / 5
