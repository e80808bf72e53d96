"""Average precision (AP) of detections in many videos, and its mean over classes (mAP).

Shape suffixes: N detections of all videos, K thresholds of overlap, C classes, V videos, P points of a curve, D draws
of the videos.
"""

from dataclasses import dataclass, replace
from typing import Self

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

    def average_precision_KCD(self, weight_VD: NDArray[np.int64]) -> NDArray[np.float64]:
        """AP of each class at each threshold in D draws of the videos, 0 to 1; NaN for classes without truth.

        ``weight_VD`` tells how often each video is in each draw.
        """
        truth_CD = self.truth_VC.T @ weight_VD
        ap_KCD = np.full((len(self.thresholds), *truth_CD.shape), np.nan)
        for label in np.flatnonzero(truth_CD.any(axis=1)):
            of_class = np.flatnonzero(self.label_N == label)
            for k in range(len(self.thresholds)):
                curve = Curve.of(
                    self.score_N[of_class],
                    self.video_N[of_class],
                    self.hit_NK[of_class, k],
                    self.counted_NK[of_class, k],
                    len(self.truth_VC),
                )
                ap_KCD[k, label] = curve.average_precision_D(truth_CD[label], self.protocol, weight_VD)
        return ap_KCD

    def average_precision_KC(self) -> NDArray[np.float64]:
        """AP of each class at each threshold, 0 to 1; NaN for classes without truth."""
        return self.average_precision_KCD(np.ones((len(self.truth_VC), 1), dtype=np.int64))[..., 0]

    def mean_average_precision_KD(self, weight_VD: NDArray[np.int64]) -> NDArray[np.float64]:
        """mAP at each threshold in D draws of the videos, 0 to 1: the mean over the classes that have truth in it.

        NaN where none has. ``weight_VD`` tells how often each video is in each draw.
        """
        ap_KCD = self.average_precision_KCD(weight_VD)
        classes_KD = (~np.isnan(ap_KCD)).sum(axis=1)
        return np.nansum(ap_KCD, axis=1) / np.where(classes_KD, classes_KD, np.nan)

    def mean_average_precision_K(self) -> NDArray[np.float64]:
        """mAP at each threshold, 0 to 1: the mean over the classes that have truth; NaN where none has."""
        return self.mean_average_precision_KD(np.ones((len(self.truth_VC), 1), dtype=np.int64))[:, 0]

    @property
    def mean_average_precision(self) -> float:
        """The mean of mAP over the thresholds, 0 to 1."""
        return float(self.mean_average_precision_K().mean())

    @property
    def recall_K(self) -> NDArray[np.float64]:
        """The share of all true instances that is found by any detection, at each threshold; NaN without truth."""
        return self.hit_NK.sum(axis=0) / (self.truth_VC.sum() or np.nan)


@dataclass(frozen=True, eq=False)
class Curve:
    """How precision goes with recall, for the detections of one class in V videos at one threshold.

    It has a point for each score of which a detection is right; at the others recall is that of the point before, and
    precision is lower. Detections of equal score come together, as no threshold tells them apart. So the result does
    not depend on the order of the videos. Published evaluators take ties as their sort leaves them.
    """

    right_PV: NDArray[np.float64]
    """How many detections in each video are right, down to each point's score."""
    all_PV: NDArray[np.float64]
    """How many count."""

    @classmethod
    def of(
        cls,
        score_N: NDArray[np.float64],
        video_N: NDArray[np.int64],
        hit_N: NDArray[np.bool_],
        counted_N: NDArray[np.bool_],
        videos: int,
    ) -> Self:
        """The curve of N detections, the best first, in so many ``videos``."""
        group_N = np.append(0, (score_N[1:] != score_N[:-1]).cumsum())[: len(score_N)]
        group_P = np.unique(group_N[hit_N])

        def down_to_points(chosen_N: NDArray[np.bool_]) -> NDArray[np.float64]:
            point_N = np.searchsorted(group_P, group_N[chosen_N])
            cell_N = point_N * videos + video_N[chosen_N]
            counts = np.bincount(cell_N, minlength=(len(group_P) + 1) * videos)
            return counts.reshape(-1, videos)[: len(group_P)].cumsum(axis=0).astype(np.float64)

        return cls(down_to_points(hit_N), down_to_points(counted_N))

    def average_precision_D(
        self, truth_D: NDArray[np.int64], protocol: Protocol, weight_VD: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """AP in D draws of the videos: Σ_P (R_P - R_P-1) · p_P, 0 to 1; NaN for a draw without truth.

        R_P is the share of the ``truth_D`` true instances that the detections down to the P-th score find, and p_P the
        share of these detections that is right. ``voc``: p_P is the highest precision of any recall of at least R_P, as
        in Pascal VOC since 2010 ("all-point", section 3.4.1 of its development kit's documentation) and ActivityNet.
        ``thumos``: it is the precision itself, as in the later of THUMOS 2014's evaluation kits (``prap`` in
        ``TH14eventdetpr.m``; the first one took 11 points of recall). ``weight_VD`` tells how often each video is
        there.
        """
        weight_VD = weight_VD.astype(np.float64)
        right_PD, all_PD = self.right_PV @ weight_VD, self.all_PV @ weight_VD
        precision_PD = right_PD / np.maximum(all_PD, 1)
        if protocol == "voc":
            precision_PD = np.maximum.accumulate(precision_PD[::-1], axis=0)[::-1]
        found_D = (np.diff(right_PD, axis=0, prepend=0) * precision_PD).sum(axis=0)
        return found_D / np.where(truth_D, truth_D, np.nan)
