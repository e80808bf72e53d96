"""How much instances overlap: intersection over union (IoU) of segments, boxes and tubes.

Shape suffixes: D detections, G true instances, 4 corners of a box (left, top, right, bottom).
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.ops import box_iou

from scenebias.detection.instances import FrameBoxes, Segments, Tube


def segment_overlaps(found: Segments, truth: Segments) -> NDArray[np.float64]:
    """The temporal IoU of each found with each true segment, (D, G), 0 to 1."""
    return _box_overlaps(found.box_N4, truth.box_N4)


def frame_box_overlaps(found: FrameBoxes, truth: FrameBoxes) -> NDArray[np.float64]:
    """The IoU of each found with each true box, (D, G), 0 to 1; 0 in different frames."""
    same_frame_DG = (found.frame_N[:, None] == truth.frame_N).numpy()
    return np.where(same_frame_DG, _box_overlaps(found.box_N4, truth.box_N4), 0.0)


def tube_overlaps(found: Sequence[Tube], truth: Sequence[Tube]) -> NDArray[np.float64]:
    """`tube_overlap` of each found with each true tube, (D, G)."""
    overlaps = [tube_overlap(one, other) for one in found for other in truth]
    return np.array(overlaps, dtype=np.float64).reshape(len(found), len(truth))


def tube_overlap(one: Tube, other: Tube) -> float:
    """The spatio-temporal IoU of two tubes, 0 to 1: Σ over the frames of both of the boxes' IoU / frames of either.

    For tubes without gaps it is the IoU of their times by the mean IoU of their boxes in the frames of both
    (Weinzaepfel et al., "Learning to track for spatio-temporal action localization", ICCV 2015, section 4.1), as
    Kalogeiton et al.'s evaluation of ACT (ICCV 2017) computes it, but for that one's pixels that count from 1.
    """
    shared = np.intersect1d(one.frame_T.numpy(), other.frame_T.numpy(), assume_unique=True)
    if not len(shared):
        return 0.0
    boxes = [tube.box_T4[torch.searchsorted(tube.frame_T, torch.from_numpy(shared))] for tube in (one, other)]
    iou_T = _box_overlaps(boxes[0], boxes[1]).diagonal()
    return float(iou_T.sum() / (len(one.frame_T) + len(other.frame_T) - len(shared)))


def _box_overlaps(one_D4: Tensor, other_G4: Tensor) -> NDArray[np.float64]:
    """In float64; 0 for two boxes without any area, of which nothing can be said."""
    return box_iou(one_D4.double(), other_G4.double()).nan_to_num_(0.0).numpy()
