"""What must hold of the idle time in a trace."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scenebias.benchmark.gpu_check.idle_gaps import find_idle_time


def event(cat, name, begin, end):
    return {"ph": "X", "cat": cat, "name": name, "ts": begin, "dur": end - begin}


def step(begin, end):
    return event("user_annotation", "ProfilerStep#5", begin, end)


def kernel(begin, end):
    return event("kernel", "conv", begin, end)


def test_a_trace_of_a_cpu_has_none():
    assert find_idle_time([step(0, 10), event("cpu_op", "aten::conv3d", 0, 5), {"ph": "M", "name": "process"}]) is None


def test_gaps_are_named_after_what_the_program_does():
    found = find_idle_time(
        [
            step(0, 1_000_000),
            kernel(0, 100_000),
            event("cuda_runtime", "cudaStreamSynchronize", 95_000, 310_000),
            event("cpu_op", "aten::item", 90_000, 320_000),
            kernel(300_000, 500_000),
            event("gpu_memcpy", "Memcpy HtoD", 450_000, 600_000),  # on another stream, at the same time
            kernel(900_000, 950_000),
        ]
    )
    assert found.traced_s == pytest.approx(1)
    assert found.idle_share == pytest.approx(0.55)
    assert found.gap_s == {
        "Python, or waiting for data": pytest.approx(0.35),
        "cudaStreamSynchronize": pytest.approx(0.2),
    }
    assert next(iter(found.gap_s)) == "Python, or waiting for data"


spans = st.lists(st.tuples(st.integers(-20, 120), st.integers(0, 30)), min_size=1, max_size=20)


@given(spans)
def test_idle_is_what_no_work_covers(work):
    found = find_idle_time([step(0, 100), *(kernel(begin, begin + length) for begin, length in work)])
    busy = np.zeros(100, bool)
    for begin, length in work:
        busy[max(begin, 0) : max(begin + length, 0)] = True
    assert found.idle_share == pytest.approx(1 - busy.mean())
    assert sum(found.gap_s.values()) == pytest.approx((~busy).sum() / 1e6)
