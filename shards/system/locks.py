"""Locks that keep every process but one from writing a folder or a file.

They are POSIX record locks, which the kernel ends with the process, however that ends. The process has them, not an
open file: nothing that it forks or starts holds them too, and what asks for a lock of its own process has it already.
NFS asks its server for them, so that they hold between machines. Where a file system knows none, a warning says so.
"""

import errno
import fcntl
import os
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from shards.errors import UserError
from shards.system.atomic import made_folder

LOCK_NAME = ".lock"
"""The lock file of a folder; it is there as long as somebody holds it, or was when its process was killed."""
_ATTEMPTS = 100
_WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
_held: set[tuple[int, Path]] = set()  # with the process: closing such a file, whoever opened it, ends the lock


@contextmanager
def locked_folder(folder: Path, name: str, doing: str) -> Iterator[None]:
    """Make ``folder`` and keep other processes out of it; what was made and is empty in the end is removed.

    Args:
        folder: The folder.
        name: What errors call it.
        doing: What is done in it, such as "training into".

    Raises:
        UserError: another process is at work in it.
        OSError: it cannot be made or written.
    """
    with made_folder(folder), _locked(folder / LOCK_NAME, name, doing, make_folder=True):
        yield


@contextmanager
def locked_file(path: Path, name: str) -> Iterator[None]:
    """Keep other processes from writing ``path``, by a lock beside it; raises as `locked_folder` does."""
    with _locked(path.with_name(f".{path.name}{LOCK_NAME}"), name, "writing", make_folder=False):
        yield


def try_lock(file: BinaryIO, start: int = 0, length: int = 1) -> bool:
    """Lock bytes of a file open for writing, 0 of them: all from ``start`` on; False where another process has any."""
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, length, start)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            return False
        if error.errno not in _WITHOUT_LOCKS:
            raise
        warnings.warn(
            f"{file.name}: its file system knows no locks ({error.strerror}); see to it yourself that no other process"
            " writes there",
            stacklevel=2,
        )
    return True


@contextmanager
def _locked(path: Path, name: str, doing: str, *, make_folder: bool) -> Iterator[None]:
    place = path.parent.resolve() / path.name
    entry = (os.getpid(), place)
    if entry in _held:
        yield
        return
    with _take(place, name, doing, make_folder) as file:
        _held.add(entry)
        try:
            yield
        finally:
            _held.remove(entry)
            if _is_at(file, place):
                place.unlink()


def _take(path: Path, name: str, doing: str, make_folder: bool) -> BinaryIO:
    """The lock file, open and locked."""
    for _ in range(_ATTEMPTS):
        if make_folder:
            path.parent.mkdir(parents=True, exist_ok=True)
        try:
            file = path.open("a+b", buffering=0)
        except FileNotFoundError:  # who had made the folder has just removed it
            if not make_folder:
                raise
            continue
        try:
            if not try_lock(file):
                file.seek(0)
                holder = file.read().decode(errors="replace").strip() or "it has not said which"
                raise UserError(
                    f"{name}: another process is {doing} it ({holder}); wait for its end, or choose another place"
                )
            if _is_at(file, path):  # else who held it has just removed it
                file.truncate(0)
                file.write(f"process {os.getpid()} on {socket.gethostname()}\n".encode())
                return file
        except BaseException:
            file.close()
            raise
        file.close()
    raise UserError(f"{name}: {path} comes and goes, as others take and leave it; give the same command again")


def _is_at(file: BinaryIO, path: Path) -> bool:
    """Whether ``path`` still is the open file."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
