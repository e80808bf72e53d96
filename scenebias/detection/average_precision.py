"""Average precision (AP) of detections in many videos, and its mean over classes (mAP).

Shape suffixes: N detections of all videos, K thresholds of overlap, C classes, V videos, P points of a curve.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from scenebias.detection.matching import Protocol


@dataclass(frozen=True, eq=False)
class Matches:
    """All detections of V videos, matched with their truth."""

    thresholds: tuple[float, ...]
    """Of overlap, K."""
    protocol: Protocol
    """How they were matched."""
    truth_VC: NDArray[np.int64]
    """How many true instances of each class each video has."""
    video_N: NDArray[np.int64]
    label_N: NDArray[np.int64]
    score_N: NDArray[np.float64]
    """The best first."""
    hit_NK: NDArray[np.bool_]
    """Whether each is right."""
    counted_NK: NDArray[np.bool_]
    """Whether it counts."""

    def at(self, *thresholds: float) -> "Matches":
        """The same at some of its thresholds. Raises ValueError for one that it does not have."""
        columns = [self.thresholds.index(threshold) for threshold in thresholds]
        return replace(
            self, thresholds=thresholds, hit_NK=self.hit_NK[:, columns], counted_NK=self.counted_NK[:, columns]
        )

    @cached_property
    def _of_class(self) -> list[NDArray[np.int64]]:
        """The detections of each class, the best first."""
        return [np.flatnonzero(self.label_N == label) for label in range(self.truth_VC.shape[1])]

    def average_precision_KC(self, weight_V: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
        """AP of each class at each threshold, 0 to 1; NaN for classes without truth.

        ``weight_V`` tells how often each video is there; None: once.
        """
        weight_V = np.ones(len(self.truth_VC), dtype=np.int64) if weight_V is None else weight_V
        truth_C = weight_V @ self.truth_VC
        ap_KC = np.full((len(self.thresholds), len(truth_C)), np.nan)
        for label in np.flatnonzero(truth_C):
            of_class = self._of_class[label]
            ap_KC[:, label] = average_precision(
                self.score_N[of_class],
                self.hit_NK[of_class],
                self.counted_NK[of_class],
                int(truth_C[label]),
                self.protocol,
                weight_V[self.video_N[of_class]],
            )
        return ap_KC

    def mean_average_precision_K(self, weight_V: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
        """mAP at each threshold, 0 to 1: the mean over the classes that have truth; NaN where none has."""
        ap_KC = self.average_precision_KC(weight_V)
        with_truth_C = ~np.isnan(ap_KC[0])
        if not with_truth_C.any():
            return np.full(len(self.thresholds), np.nan)
        return ap_KC[:, with_truth_C].mean(axis=1)

    @property
    def mean_average_precision(self) -> float:
        """The mean of mAP over the thresholds, 0 to 1."""
        return float(self.mean_average_precision_K().mean())

    @property
    def recall_K(self) -> NDArray[np.float64]:
        """The share of all true instances that is found by any detection, at each threshold; NaN without truth."""
        return self.hit_NK.sum(axis=0) / (self.truth_VC.sum() or np.nan)


def average_precision(
    score_N: NDArray[np.float64],
    hit_NK: NDArray[np.bool_],
    counted_NK: NDArray[np.bool_],
    truth_count: int,
    protocol: Protocol,
    weight_N: NDArray[np.int64] | None = None,
) -> NDArray[np.float64]:
    """AP of the detections of one class, the best first, at K thresholds: Σ_P (R_P - R_P-1) · p_P, 0 to 1.

    R_P is the share of the ``truth_count`` true instances that the detections down to the P-th score find, and p_P the
    share of these detections that is right. ``voc``: p_P is the highest precision of any recall of at least R_P, as in
    Pascal VOC since 2010 ("all-point", section 3.4.1 of its development kit's documentation) and ActivityNet.
    ``thumos``: it is the precision itself, as in the later of THUMOS 2014's evaluation kits (``prap`` in
    ``TH14eventdetpr.m``; the first one took 11 points of recall).

    Detections of equal score come together, as no threshold tells them apart: the curve has one point for each score.
    So the result does not depend on the order of the videos. Published evaluators take ties as their sort leaves them.

    ``weight_N`` tells how often each detection is there; None: once.
    """
    weight_N1 = np.ones((len(score_N), 1)) if weight_N is None else weight_N[:, None].astype(np.float64)
    last_P = np.flatnonzero(np.append(score_N[1:] != score_N[:-1], True)[: len(score_N)])
    right_PK = (weight_N1 * hit_NK).cumsum(axis=0)[last_P]
    all_PK = (weight_N1 * counted_NK).cumsum(axis=0)[last_P]
    precision_PK = right_PK / np.maximum(all_PK, 1)
    if protocol == "voc":
        precision_PK = np.maximum.accumulate(precision_PK[::-1], axis=0)[::-1]
    return (np.diff(right_PK, axis=0, prepend=0) * precision_PK).sum(axis=0) / truth_count
