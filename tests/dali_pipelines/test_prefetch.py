"""What must hold of the background thread."""

import gc
import subprocess
import sys
import threading
import time

import pytest

from dali_pipelines.prefetch import BackgroundIterator


def prefetch_threads() -> int:
    return sum(thread.name == "prefetch" for thread in threading.enumerate())


def test_items_come_in_order_and_then_end():
    items = BackgroundIterator((i for i in range(100)), depth=3)
    assert list(items) == list(range(100))
    assert list(items) == []
    assert prefetch_threads() == 0


def test_no_more_than_depth_items_are_made_ahead():
    made = []
    items = BackgroundIterator((made.append(i) or i for i in range(100)), depth=3)
    next(items)
    time.sleep(0.1)
    assert len(made) == 4
    items.close()


def test_an_error_follows_the_items_before_it():
    def broken():
        yield 1
        raise KeyError("broken")

    items = BackgroundIterator(broken(), depth=2)
    assert next(items) == 1
    with pytest.raises(KeyError, match="broken"):
        next(items)
    assert list(items) == []


@pytest.mark.parametrize("stop", ["close", "forget"])
def test_stopping_early_ends_the_thread_and_closes_the_source(stop):
    closed = threading.Event()

    def endless():
        try:
            while True:
                yield 0
        finally:
            closed.set()

    items = BackgroundIterator(endless(), depth=2)
    next(items)
    if stop == "close":
        items.close()
        items.close()
        assert list(items) == []
    else:
        del items
        gc.collect()
    assert closed.is_set()
    assert prefetch_threads() == 0


def test_the_interpreter_exits_while_items_are_left():
    program = (
        "from dali_pipelines.prefetch import BackgroundIterator\n"
        "import itertools\n"
        "items = BackgroundIterator((i for i in itertools.count()), depth=2)\n"
        "next(items)\n"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (finished.returncode, finished.stderr) == (0, "")
