"""Reading of label files: text in UTF-8, with or without a byte order mark, lines ended the Unix or the Windows way."""

import csv
import io
import json
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from shards.errors import UserError, refuse
from shards.sources.texts import clean, look_alikes, looks


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
    """Yield ``("<path>, line <n>", line)`` of all lines that are not empty, each as `clean` makes it.

    Raises:
        UserError: the file cannot be read, or holds nothing.
    """
    # Not splitlines, which would also split at characters that may stand in a name.
    lines = [clean(line) for line in read_text(path, option, wanted).split("\n")]
    if not any(lines):
        raise UserError(f"{option}: {path} is empty; give {wanted}")
    for number, line in enumerate(lines, start=1):
        if line:
            yield f"{path}, line {number}", line


def read_json(path: Path, option: str, wanted: str) -> Any:
    """Read a JSON file.

    Raises:
        UserError: the file cannot be read, is not JSON, or gives a name two values.
    """
    try:
        return json.loads(read_text(path, option, wanted), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{option}: {path} is not JSON ({error}); give {wanted}") from error


def read_csv(path: Path, option: str, wanted: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the number of the last line and the cells, each as `clean` makes it, of all rows that are not empty.

    Raises:
        UserError: the file cannot be read, or is no CSV.
    """
    reader = csv.reader(io.StringIO(read_text(path, option, wanted)), skipinitialspace=True, strict=True)
    try:
        for row in reader:
            if any(cells := [clean(cell) for cell in row]):
                yield reader.line_num, cells
    except csv.Error as error:
        raise UserError(
            f"{path}, line {reader.line_num}: {error}; are all quotes closed, and those in a cell doubled?"
        ) from error


def check_columns(
    path: Path, option: str, columns: Sequence[str], required: Sequence[str], known: Collection[str]
) -> Sequence[str]:
    """The columns of a CSV file as they are; a UserError where one is not there, there twice, or written otherwise."""
    refuse(
        f"{option} {path}: column {column!a} must be written {near!r}"
        for column in columns
        for near in sorted(looks(column) & {*known} - {column})
    )
    present = [column for column in columns if column in known]
    if not set(required) <= set(present) or len(present) > len(set(present)):
        raise UserError(f"{option} {path}: its columns must be {','.join(required)}, found {','.join(columns)}")
    return columns


def read_classes(path: Path, option: str = "--classes") -> tuple[str, ...]:
    """Class names in the order of their labels, one a line; empty lines do not count.

    Raises:
        UserError: the file cannot be read, or names a class twice, be it in another case or with other spaces.
    """
    places: dict[str, str] = {}
    problems = []
    for where, name in read_lines(path, option, "a text file with one class name a line"):
        if places.setdefault(name, where) != where:
            problems.append(f"{where}: class {name!r} stands already in {places[name]}; remove one of the two lines")
    refuse([*problems, *look_alikes(places, "class")])
    return tuple(places)


def require_folder(folder: Path, option: str, wanted: str) -> None:
    """Raise a UserError unless ``folder``, the value of ``option``, is a directory."""
    if not folder.is_dir():
        raise UserError(f"{option} {folder}: no such folder; give {wanted}")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object as a dictionary; a ValueError where names are repeated."""
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [repr(name) for name, count in Counter(name for name, _ in pairs).items() if count > 1]
        more = f" and {len(names) - 10} more" if len(names) > 10 else ""
        raise ValueError(f"{', '.join(names[:10])}{more} stand there twice")
    return value
