"""Found beside true instances of many videos: segments, boxes frame by frame, tubes.

All tensors lie on the CPU. Shape suffixes: D detections and G true instances of one video, K thresholds of overlap, N
detections of all videos.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from scenebias.detection.average_precision import Matches
from scenebias.detection.instances import AMBIGUOUS, FrameBoxes, Segments, Tube
from scenebias.detection.matching import PROTOCOLS, Comparison, Protocol, match
from scenebias.detection.overlap import frame_box_overlaps, segment_overlaps, tube_overlaps

THUMOS_THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
"""Of temporal IoU: those of the paper's table; what is reported today is the mean of .3 to .7."""
FRAME_THRESHOLDS = (0.5,)
VIDEO_THRESHOLDS = (0.2, *(half / 100 for half in range(50, 100, 5)))
"""Of tubes: .2, and .5 to .95 by .05."""


def match_segments(
    found: Sequence[Segments],
    truth: Sequence[Segments],
    class_count: int,
    thresholds: tuple[float, ...] = THUMOS_THRESHOLDS,
    protocol: Protocol = "voc",
) -> Matches:
    """Compare found with true segments, one of each for every video, in seconds.

    Raises:
        ValueError: not as many of both, a label that is no class, or an unknown protocol.
    """
    comparisons = [_comparison(f, t, segment_overlaps(f, t)) for f, t in zip(found, truth, strict=True)]
    return match_videos(comparisons, class_count, thresholds, protocol)


def match_frames(
    found: Sequence[FrameBoxes],
    truth: Sequence[FrameBoxes],
    class_count: int,
    thresholds: tuple[float, ...] = FRAME_THRESHOLDS,
) -> Matches:
    """Compare found with true boxes, frame by frame: the frame-AP of Gkioxari and Malik, CVPR 2015.

    Raises as `match_segments`.
    """
    comparisons = [_comparison(f, t, frame_box_overlaps(f, t)) for f, t in zip(found, truth, strict=True)]
    return match_videos(comparisons, class_count, thresholds, "voc")


def match_tubes(
    found: Sequence[Sequence[Tube]],
    truth: Sequence[Sequence[Tube]],
    class_count: int,
    thresholds: tuple[float, ...] = VIDEO_THRESHOLDS,
) -> Matches:
    """Compare found with true tubes, the list of each video: the video-AP of Gkioxari and Malik, CVPR 2015.

    Raises as `match_segments`.
    """
    comparisons = [
        Comparison(
            tube_overlaps(f, t),
            np.array([tube.label for tube in f], dtype=np.int64),
            np.array([tube.score for tube in f], dtype=np.float64),
            np.array([tube.label for tube in t], dtype=np.int64),
        )
        for f, t in zip(found, truth, strict=True)
    ]
    return match_videos(comparisons, class_count, thresholds, "voc")


def _comparison(
    found: Segments | FrameBoxes, truth: Segments | FrameBoxes, overlap_DG: NDArray[np.float64]
) -> Comparison:
    return Comparison(overlap_DG, found.label_N.numpy(), found.scores.double().numpy(), truth.label_N.numpy())


def match_videos(
    comparisons: Iterable[Comparison], class_count: int, thresholds: tuple[float, ...], protocol: Protocol
) -> Matches:
    """Match the detections of every video, whatever kind they are of. Raises as `match_segments`."""
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol must be one of {', '.join(PROTOCOLS)}, not {protocol!r}")
    comparisons = list(comparisons)
    for comparison in comparisons:
        _check_labels(comparison, class_count)
    verdicts = [match(comparison, thresholds, protocol) for comparison in comparisons]
    label_N = _joined([comparison.label_D for comparison in comparisons], np.int64)
    score_N = _joined([comparison.score_D for comparison in comparisons], np.float64)
    order_N = np.argsort(-score_N, kind="stable")
    none_0K = np.zeros((0, len(thresholds)), dtype=np.bool_)
    return Matches(
        thresholds,
        protocol,
        np.array(
            [np.bincount(c.label_G[c.label_G != AMBIGUOUS], minlength=class_count) for c in comparisons], dtype=np.int64
        ).reshape(len(comparisons), class_count),
        np.repeat(np.arange(len(comparisons)), [len(c.label_D) for c in comparisons])[order_N],
        label_N[order_N],
        score_N[order_N],
        np.concatenate([none_0K, *(verdict.hit_DK for verdict in verdicts)])[order_N],
        np.concatenate([none_0K, *(verdict.counted_DK for verdict in verdicts)])[order_N],
    )


def _check_labels(comparison: Comparison, class_count: int) -> None:
    for what, label, least in (("detections", comparison.label_D, 0), ("truth", comparison.label_G, AMBIGUOUS)):
        if len(label) and not (least <= label.min() and label.max() < class_count):
            raise ValueError(f"labels of {what} must be from {least} to {class_count - 1}, got {np.unique(label)}")
    if np.isnan(comparison.score_D).any():
        raise ValueError("scores of detections must be numbers, got NaN")


def _joined(arrays: list[NDArray], dtype: type) -> NDArray:
    return np.concatenate([np.zeros(0, dtype), *arrays])
