"""What must come out, written down before any run: the endpoints of the study, and whether they are reached.

All compare arms over the seeds, in pairs: a seed's world, initial weights, order of clips and their augmentation are
the same for all arms of as many epochs. Intervals are Student's, of 95 %.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from scenebias.statistics.intervals import Interval
from scenebias.study.arms import BASELINE_LONG, BEST, MOST_LOST
from scenebias.study.measured import AT_CLEAN_BN, PROBE, SCENE_ALONE, SWAPPED, USUAL
from scenebias.study.plan import ORACLE

Bound = Literal["low above", "high below"]
Gain = Callable[[str, str, str], Interval]
"""The interval of a measure's difference between two arms: (measure, arm, reference)."""


@dataclass(frozen=True)
class Endpoint:
    """A bound on the interval of a difference between two arms."""

    says: str
    arm: str
    reference: str
    measure: str
    bound: Bound
    value: float
    """A share."""
    statistics: tuple[str, ...] = ("", AT_CLEAN_BN)
    """Under which BatchNorm statistics it must hold: those that weights carry, and those of clean clips."""

    def intervals(self, gain: Gain) -> list[Interval]:
        """The difference, under each of the ``statistics``."""
        return [gain(self.measure + suffix, self.arm, self.reference) for suffix in self.statistics]

    def is_reached(self, gain: Gain) -> bool:
        """Whether it came out; an interval that is not known, as of a single seed, reaches nothing."""
        if self.bound == "low above":
            return all(interval.low > self.value for interval in self.intervals(gain))
        return all(interval.high < self.value for interval in self.intervals(gain))


PRIMARY = Endpoint(
    "the best arm gains at least 15 points on swapped scenes over the baseline of the same compute",
    BEST,
    BASELINE_LONG,
    SWAPPED,
    "low above",
    0.15,
)
CONDITION = Endpoint("it loses at most 2 points on usual scenes", BEST, BASELINE_LONG, USUAL, "low above", -MOST_LOST)
SECONDARY = (
    Endpoint("it stays within 5 points of the oracle on swapped scenes", BEST, ORACLE, SWAPPED, "low above", -0.05),
    Endpoint("it names fewer actions from the scene alone", BEST, BASELINE_LONG, SCENE_ALONE, "high below", 0.0),
    Endpoint("a probe reads less of the scene from its features", BEST, BASELINE_LONG, PROBE, "high below", 0.0),
    Endpoint(
        "the paper's mask loss in one batch gains on swapped scenes over the baseline of the same compute",
        "mask",
        BASELINE_LONG,
        SWAPPED,
        "low above",
        0.0,
    ),
    Endpoint(
        "in two passes, as released, the losses gain less than 5 points on swapped scenes over the baseline of the same"
        " compute, once BatchNorm's statistics are those of clean clips",
        "released",
        BASELINE_LONG,
        SWAPPED,
        "high below",
        0.05,
        statistics=(AT_CLEAN_BN,),
    ),
)
ENDPOINTS = (PRIMARY, CONDITION, *SECONDARY)
