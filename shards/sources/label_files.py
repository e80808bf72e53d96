"""Reading of label files: text in UTF-8, with or without a byte order mark, lines ended the Unix or the Windows way."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from shards.errors import UserError


def read_text(path: Path, option: str, wanted: str) -> str:
    """Read a file that ``option`` names or leads to; ``wanted`` tells the user what it should have been.

    Raises:
        UserError: it cannot be read, or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        reason = error.strerror
    except UnicodeDecodeError as error:
        reason = f"byte {error.start} is not UTF-8"
    raise UserError(f"{option}: {path} cannot be read ({reason}); give {wanted}")


def read_lines(path: Path, option: str, wanted: str) -> Iterator[tuple[str, str]]:
    """Yield ``("<path>, line <n>", line)``, without the space around a line and without empty lines.

    Raises:
        UserError: the file cannot be read, or holds nothing.
    """
    # Not splitlines, which would also split at characters that may stand in a name.
    lines = [line.strip() for line in read_text(path, option, wanted).split("\n")]
    if not any(lines):
        raise UserError(f"{option}: {path} is empty; give {wanted}")
    for number, line in enumerate(lines, start=1):
        if line:
            yield f"{path}, line {number}", line


def read_json(path: Path, option: str, wanted: str) -> Any:
    """Read a JSON file.

    Raises:
        UserError: the file cannot be read, or is not JSON.
    """
    try:
        return json.loads(read_text(path, option, wanted))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{option}: {path} is not JSON ({error}); give {wanted}") from error


def read_classes(path: Path, option: str = "--classes") -> tuple[str, ...]:
    """Class names in the order of their labels, one a line; empty lines do not count."""
    return tuple(line for _, line in read_lines(path, option, "a text file with one class name a line"))


def require_folder(folder: Path, option: str, wanted: str) -> None:
    """Raise a UserError unless ``folder``, the value of ``option``, is a directory."""
    if not folder.is_dir():
        raise UserError(f"{option} {folder}: no such folder; give {wanted}")
