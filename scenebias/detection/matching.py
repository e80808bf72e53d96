"""Which detections are right: each true instance is found once, at every threshold of overlap.

Shape suffixes: D detections and G true instances of one video, K thresholds.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from scenebias.detection.instances import AMBIGUOUS

Protocol = Literal["voc", "thumos"]
"""How detections are matched and average precision is computed; see `match` and `average_precision`."""
PROTOCOLS: tuple[Protocol, ...] = ("voc", "thumos")
PROTOCOL_NAMES: dict[Protocol, str] = {"voc": "VOC all-point AP", "thumos": "THUMOS AP"}
"""What tables call them."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """The detections of one video beside its truth."""

    overlap_DG: NDArray[np.float64]
    """0 to 1, of whatever classes."""
    label_D: NDArray[np.int64]
    score_D: NDArray[np.float64]
    label_G: NDArray[np.int64]
    """`AMBIGUOUS` where nobody can tell."""


@dataclass(frozen=True, eq=False)
class Verdict:
    """What became of the detections of one video, in their order."""

    hit_DK: NDArray[np.bool_]
    """Whether each is right."""
    counted_DK: NDArray[np.bool_]
    """Whether it counts at all."""


def match(comparison: Comparison, thresholds: tuple[float, ...], protocol: Protocol) -> Verdict:
    """Match detections with true instances of their class, each with one at most.

    ``voc``, as in ActivityNet's evaluation (``eval_detection.py``) and that of ACT (Kalogeiton et al., ICCV 2017): from
    the best score down, each detection takes the true instance that it overlaps most of those that are left, if by the
    threshold at least. (Pascal VOC's own code looks at the instance that it overlaps most of all, left or not.)
    `AMBIGUOUS` instances are as if they were not there.

    ``thumos``, as in the evaluation kit of THUMOS 2014 (``TH14eventdetpr.m``): each true instance, in the order of the
    truth, takes the detection that overlaps it most of those that are left, if by more than the threshold. What is left
    then and overlaps an `AMBIGUOUS` instance, however little, is not counted.

    Of equal scores, and of equal overlaps, the first of the list is taken.
    """
    detections, count = len(comparison.label_D), len(thresholds)
    hit_DK = np.zeros((detections, count), dtype=np.bool_)
    take = _take_truth if protocol == "voc" else _take_detections
    order_D = np.argsort(-comparison.score_D, kind="stable")
    for label in np.intersect1d(comparison.label_D, comparison.label_G):
        of_class_d = order_D[comparison.label_D[order_D] == label]
        overlap_dg = comparison.overlap_DG[np.ix_(of_class_d, comparison.label_G == label)]
        for k, threshold in enumerate(thresholds):
            hit_DK[of_class_d[take(overlap_dg, threshold)], k] = True
    if protocol == "voc":
        return Verdict(hit_DK, np.ones_like(hit_DK))
    ambiguous_D1 = (comparison.overlap_DG[:, comparison.label_G == AMBIGUOUS] > 0).any(axis=1, keepdims=True)
    return Verdict(hit_DK, hit_DK | ~ambiguous_D1)


def _take_truth(overlap_DG: NDArray[np.float64], threshold: float) -> list[int]:
    """The detections that take a true instance, each in its turn."""
    left_DG, hits = overlap_DG.copy(), []
    for detection in np.flatnonzero(overlap_DG.max(axis=1) >= threshold).tolist():
        best = int(left_DG[detection].argmax())
        if left_DG[detection, best] >= threshold:
            hits.append(detection)
            left_DG[:, best] = -1
    return hits


def _take_detections(overlap_DG: NDArray[np.float64], threshold: float) -> list[int]:
    """The detections that true instances take, each in its turn."""
    left_DG, hits = overlap_DG.copy(), []
    for instance in range(overlap_DG.shape[1]):
        best = int(left_DG[:, instance].argmax())
        if left_DG[best, instance] > threshold:
            hits.append(best)
            left_DG[best] = -1
    return hits
