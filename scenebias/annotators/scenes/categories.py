"""The 365 scene categories of Places365: their order, and what probabilities over them must be.

Shape suffixes: N clips, S scene categories.
"""

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shards.errors import UserError
from shards.format.sample import SCENE_COUNT, SCENE_SUM_TOLERANCE

CATEGORIES_FILE = Path(__file__).parent / "places365_names" / "categories_places365.txt"
"""Places365's own list, which comes with the package."""


@cache
def scene_categories() -> tuple[str, ...]:
    """The names of the 365 categories, such as ``airfield``, in the order of their numbers."""
    return read_scene_categories(CATEGORIES_FILE)


def read_scene_categories(path: Path, option: str = "--scene-categories") -> tuple[str, ...]:
    """Read Places365's ``categories_places365.txt``, 365 lines such as ``/a/airfield 0``, into names like ``airfield``.

    ``option`` is the command's option that gave ``path``, for sentences.

    Raises:
        UserError: the file cannot be read, or its lines are not the categories in the order of their numbers.
    """
    remedy = "give Places365's categories_places365.txt"
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{option} {path}: cannot be read ({error}); {remedy}") from error
    rows = [line.split() for line in lines if line.strip()]
    for number, row in enumerate(rows):
        if len(row) != 2 or row[1] != str(number):
            raise UserError(f"{option} {path}: expected '<category> {number}', found {' '.join(row)!r}; {remedy}")
    names = tuple(plain_category(name) for name, _ in rows)
    if len(names) != SCENE_COUNT or len(set(names)) != SCENE_COUNT:
        raise UserError(f"{option} {path}: {len(set(names))} categories instead of {SCENE_COUNT}; {remedy}")
    return names


def plain_category(name: str) -> str:
    """Return a category without the folder of its first letter: ``airfield`` for ``/a/airfield``."""
    return re.sub(r"^/\w/", "", name)


def check_category_order(found: Sequence[str], expected: Sequence[str], where: str) -> None:
    """Raise a UserError unless ``found``, the categories of ``where``, are those ``expected``, in their order."""
    if len(found) != len(expected):
        raise UserError(f"{where}: {len(found)} categories instead of {len(expected)}; label with Places365's")
    for number, (name, wanted) in enumerate(zip(found, expected, strict=True)):
        if plain_category(name) != wanted:
            raise UserError(
                f"{where}: category {number} is {name!r}, but {wanted!r} in --scene-categories; "
                "bring the probabilities into the order of that file"
            )


def are_probabilities(values_NS: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Return bool (N,): whether a row, rounded to the float16 it is stored in, is not negative and sums to 1."""
    with np.errstate(over="ignore"):
        stored_NS = values_NS.astype(np.float16)
    totals_N = stored_NS.sum(axis=1, dtype=np.float64)
    return (np.abs(totals_N - 1) <= SCENE_SUM_TOLERANCE) & (stored_NS >= 0).all(axis=1)
