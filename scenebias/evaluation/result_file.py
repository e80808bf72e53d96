"""Files of results (.npz without pickles, JSON): how their faults are told, whatever they hold."""

import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shards.errors import NO_ROOM, UserError, system_fault
from shards.system.atomic import atomic_write


def write_arrays(path: Path, arrays: Mapping[str, NDArray]) -> None:
    """Write an .npz file, which appears only when it is complete. UserError where it cannot be written."""
    try:
        with atomic_write(path) as file:
            np.savez(file, **dict(arrays))  # type: ignore[arg-type]
    except OSError as error:
        remedy = "make room" if error.errno in NO_ROOM else "choose another place"
        raise UserError(f"{path} cannot be written ({error.strerror}): {remedy}") from error


def read_arrays(path: Path) -> dict[str, NDArray]:
    """The arrays of an .npz file, none of them unpickled; raises what `reading` tells."""
    with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Tell a UserError where what is read inside is missing, of another form, or cannot be got at."""
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        if (fault := system_fault(error)) and not isinstance(error, FileNotFoundError):
            raise UserError(f"{path} cannot be read ({fault}): mend that") from error
        raise UserError(
            f"{path} is missing or damaged ({error}): evaluate again, or remove the run's folder to train it again"
        ) from error
