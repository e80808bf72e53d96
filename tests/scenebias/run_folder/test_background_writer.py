"""What is written in a thread: all of it, in order, and what goes wrong is told."""

import threading
from functools import partial
from pathlib import Path

import pytest

from scenebias.run_folder.background_writer import BackgroundWriter
from shards.errors import UserError


def fail() -> None:
    raise UserError("no room")


def test_all_is_done_in_order_in_another_thread_before_the_block_ends() -> None:
    done: list[int] = []
    threads: set[int] = set()
    with BackgroundWriter() as writer:
        for number in range(100):
            writer.submit(done.append, number)
        writer.submit(lambda: threads.add(threading.get_ident()))
    assert done == list(range(100))
    assert threads.isdisjoint({threading.get_ident()})


def test_waiting_returns_when_all_is_done_and_giving_work_does_not_wait() -> None:
    may_go_on, done = threading.Event(), []
    with BackgroundWriter() as writer:
        writer.wait()
        writer.submit(may_go_on.wait)
        writer.submit(done.append, 1)
        assert not done
        may_go_on.set()
        writer.wait()
        assert done == [1]


@pytest.mark.parametrize("then", ["submit", "wait", "end"])
def test_an_error_is_raised_by_whatever_comes_next_and_nothing_is_done_after_it(then: str) -> None:
    done: list[int] = []
    has_failed = threading.Event()

    def write() -> None:
        with BackgroundWriter() as writer:
            writer.submit(has_failed.wait)
            writer.submit(fail)
            writer.submit(done.append, 1)
            has_failed.set()
            if then == "wait":
                writer.wait()
            while then == "submit":
                writer.submit(lambda: None)

    with pytest.raises(UserError, match="no room"):
        write()
    assert not done


def test_an_error_of_the_block_itself_is_not_hidden_and_all_is_done_all_the_same(tmp_path: Path) -> None:
    def write() -> None:
        with BackgroundWriter() as writer:
            writer.submit(partial((tmp_path / "last").write_text, "line"))
            writer.submit(fail)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    assert (tmp_path / "last").read_text() == "line"
