"""Results of several starts on several test sets, as the texts of tables."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from scenebias.statistics.intervals import Interval
from scenebias.statistics.rows import ResultRows

NONE = "–"
Cells = tuple[Sequence[str], Sequence[Sequence[str]]]
"""The header and the rows of a table."""


def percent(interval: Interval) -> str:
    """A share with half of its interval, where that is known."""
    if math.isnan(interval.mean):
        return NONE
    half = "" if math.isnan(interval.low) else f" ± {50 * (interval.high - interval.low):.1f}"
    return f"{100 * interval.mean:.1f}{half}"


def by_target(results: ResultRows[Any], name: str) -> Cells:
    """One measure: a row for each start, a column for each target."""
    rows = [
        [
            row,
            str(results.seeds(row)),
            *(percent(results.measure(row, target, name)) for target in results.targets),
        ]
        for row in results.rows
    ]
    return ("start", "seeds", *results.targets), rows


def by_measure(results: ResultRows[Any], target: str, titles: Mapping[str, str]) -> Cells:
    """One target: a row for each start, a column for each measure, called by its title."""
    rows = [
        [row, str(results.seeds(row)), *(percent(results.measure(row, target, name)) for name in titles)]
        for row in results.rows
    ]
    return ("start", "seeds", *titles.values()), rows


def differences(results: ResultRows[Any], found: Mapping[tuple[str, str], Interval]) -> Cells:
    """What the rows have more than the reference, by (row, target), in percentage points with its interval."""
    rows = [
        [row, *(_points(found[row, target]) for target in results.targets)]
        for row in results.rows
        if row != results.reference
    ]
    return ("start", *results.targets), rows


def _points(difference: Interval) -> str:
    mean, low, high = (100 * value for value in (difference.mean, difference.low, difference.high))
    return f"{mean:+.1f} ({low:+.1f} to {high:+.1f})"
