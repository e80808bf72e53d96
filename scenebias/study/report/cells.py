"""What stands in the tables of a study: names of measures, and numbers with their intervals."""

from math import isnan

from scenebias.statistics.intervals import Interval
from scenebias.study.measured import ALL_MEASURES, COSTS


def titled(measure: str) -> str:
    """What a measure is called, with an arrow to where less of the scene is used."""
    return f"{ALL_MEASURES[measure].title} {ALL_MEASURES[measure].arrow}"


def scaled(interval: Interval, unit: str) -> Interval:
    """Shares as percentages; other units as they are."""
    factor = 100 if unit == "share" else 1
    return Interval(factor * interval.mean, factor * interval.low, factor * interval.high)


def spread(interval: Interval, unit: str) -> str:
    """A mean with the half width of its interval: shares as percentages."""
    if isnan(interval.mean):
        return "–"
    factor, digits = {"share": (100, 1), "nats": (1, 2), "seconds": (1, 0), "clips": (1, 0)}[unit]
    text = f"{factor * interval.mean:.{digits}f}"
    half = factor * (interval.high - interval.low) / 2
    return text if isnan(half) else f"{text} ± {half:.{digits}f}"


def points(interval: Interval) -> str:
    """A difference of shares with its interval, in percentage points."""
    if isnan(interval.mean):
        return "–"
    if isnan(interval.low):
        return f"{100 * interval.mean:+.1f}"
    return f"{100 * interval.mean:+.1f} [{100 * interval.low:+.1f}, {100 * interval.high:+.1f}]"


def unit_of(measure: str) -> str:
    """The unit of a measure or a cost, as `spread` takes it."""
    return "seconds" if measure in COSTS else ALL_MEASURES[measure].unit
