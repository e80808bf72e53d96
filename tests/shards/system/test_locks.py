"""Locks of folders and files: one process at a time, and none that is dead."""

import errno
import fcntl
import multiprocessing
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from shards.errors import UserError
from shards.system.locks import LOCK_NAME, locked_file, locked_folder, try_lock

PROCESSES = multiprocessing.get_context("forkserver")
LONGEST_S = 60


def hold(path: Path, connection: Connection, fork: bool, folder: bool) -> None:
    """Lock the path until told to go on; with ``fork``, a child lives on with all that this process has open."""
    with locked_folder(path, "it", "writing to") if folder else locked_file(path, "it"):
        child = 0
        if fork and (child := os.fork()) == 0:
            signal.pause()
        connection.send(child)
        connection.recv()


@contextmanager
def holder(path: Path, *, fork: bool = False, folder: bool = True) -> Iterator[tuple[BaseProcess, Connection, int]]:
    """A process that holds the folder or file, how to tell it to go on, and the process that it has forked."""
    ours, theirs = PROCESSES.Pipe()
    process = PROCESSES.Process(target=hold, args=(path, theirs, fork, folder))
    process.start()
    assert ours.poll(LONGEST_S)
    child = ours.recv()
    try:
        yield process, ours, child
    finally:
        process.kill()
        process.join(LONGEST_S)
        if child:
            os.kill(child, signal.SIGKILL)


def attempt(path: Path, connection: Connection, folder: bool) -> None:
    try:
        with locked_folder(path, "it", "writing to") if folder else locked_file(path, "it"):
            connection.send(None)
    except UserError as error:
        connection.send(str(error))


def refusal(path: Path, *, folder: bool = True) -> str | None:
    """What another process is told that wants the lock; None where it gets it."""
    ours, theirs = PROCESSES.Pipe()
    process = PROCESSES.Process(target=attempt, args=(path, theirs, folder))
    process.start()
    assert ours.poll(LONGEST_S)
    process.join(LONGEST_S)
    return ours.recv()


def test_a_second_process_is_refused_by_name_until_the_first_has_ended(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "folder"
    with holder(folder) as (process, connection, _):
        with pytest.raises(UserError, match=rf"it: another process is writing to it \(process {process.pid} on "):
            with locked_folder(folder, "it", "writing to"):
                pass
        assert refusal(folder) is not None  # a refusal has not ended the lock
        connection.send(None)
        process.join(LONGEST_S)
        assert list(tmp_path.iterdir()) == []
    assert refusal(folder) is None


@pytest.mark.parametrize("fork", [False, True])
def test_a_killed_process_holds_nothing_even_where_a_child_of_it_lives_on(tmp_path: Path, fork: bool) -> None:
    with holder(tmp_path, fork=fork) as (process, _, child):
        process.kill()
        process.join(LONGEST_S)
        assert not child or Path(f"/proc/{child}").exists()
        assert (tmp_path / LOCK_NAME).exists()
        with locked_folder(tmp_path, "it", "writing to"):
            pass
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_is_asked_for_again_in_its_process_ends_with_the_outer_one(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    with locked_folder(tmp_path, "it", "writing to"):
        with locked_folder(tmp_path / "link", "it", "writing to"):
            pass
        assert refusal(tmp_path) is not None
    assert refusal(tmp_path) is None


def test_only_what_was_made_and_stayed_empty_is_removed(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    for folder, used in ((tmp_path / "mine", False), (tmp_path / "a" / "b", False), (tmp_path / "c" / "d", True)):
        with locked_folder(folder, "it", "writing to"):
            assert (folder / LOCK_NAME).is_file()
            if used:
                (folder / "file").touch()
    assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")} == {"mine", "c", "c/d", "c/d/file"}


def test_a_file_is_written_by_one_process_and_another_beside_it_by_another(tmp_path: Path) -> None:
    with locked_file(tmp_path / "a.json", "--json a.json"):
        told = refusal(tmp_path / "a.json", folder=False)
        assert told is not None
        assert "another process is writing it" in told
        assert refusal(tmp_path / "b.json", folder=False) is None
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FileNotFoundError), locked_file(tmp_path / "nowhere" / "a.json", "it"):
        pass


def test_who_finds_the_lock_file_just_removed_makes_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one before removes its folder between our opening the file and our locking it."""
    folder, lockf, calls = tmp_path / "folder", fcntl.lockf, 0

    def remove_and_lock(file: object, *arguments: int) -> None:
        nonlocal calls
        calls += 1
        if calls < 3:
            (folder / LOCK_NAME).unlink()
            folder.rmdir()
        lockf(file, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(fcntl, "lockf", remove_and_lock)
    with locked_folder(folder, "it", "writing to"):
        assert calls == 3
        assert refusal(folder) is not None


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_told_of_and_used(
    tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "lockf", refuse)
    with pytest.warns(UserWarning, match=r"\.lock: its file system knows no locks"):
        with locked_folder(tmp_path, "it", "writing to"):
            pass
    assert list(tmp_path.iterdir()) == []


def lock_byte(path: Path, connection: Connection, start: int, length: int) -> None:
    with path.open("ab") as file:
        connection.send(try_lock(file, start, length))


@pytest.mark.parametrize(("start", "length", "free"), [(3, 1, False), (4, 1, True), (0, 0, False), (4, 0, True)])
def test_bytes_are_locked_one_by_one_or_all(tmp_path: Path, start: int, length: int, free: bool) -> None:
    ours, theirs = PROCESSES.Pipe()
    with (tmp_path / "bytes").open("ab") as file:
        assert try_lock(file, 3)
        process = PROCESSES.Process(target=lock_byte, args=(tmp_path / "bytes", theirs, start, length))
        process.start()
        assert ours.poll(LONGEST_S)
        assert ours.recv() is free
        process.join(LONGEST_S)
