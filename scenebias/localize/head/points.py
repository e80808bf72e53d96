"""Which point of the pyramid answers for which segment, and what it is told when it is wrong.

Positions are in steps of the features. Shape suffixes: P points of all levels, N segments, B videos, A actions, 4
corners of a box.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import generalized_box_iou_loss, sigmoid_focal_loss

from scenebias.detection.instances import segments_as_boxes
from scenebias.localize.head.pyramid import PointOutputs
from scenebias.training.detector_loop import SummedLoss

CENTRE_RADIUS = 1.5
"""A point answers for segments whose middle is at most so many points of its level away (ActionFormer)."""
REACH = 4.0
"""A point of level l answers for segments whose farther end is at most 4 · 2^l steps away, and over the half of that;
on the first level also for nearer ones, on the last also for farther ones (ActionFormer)."""


@dataclass(frozen=True, eq=False)
class Points:
    """The points of all levels, level after level."""

    position_P: Tensor
    stride_P: Tensor
    """Steps from one point of its level to the next, 2^l."""

    @classmethod
    def of(cls, length: int, levels: int) -> "Points":
        """Those of ``length`` features."""
        strides = [2**level for level in range(levels)]
        positions = [torch.arange(0, length, stride) for stride in strides]
        stride_P = torch.cat([torch.full((len(p),), s) for p, s in zip(positions, strides, strict=True)])
        return cls(torch.cat(positions).float(), stride_P.float())

    def to(self, device: torch.device) -> "Points":
        """The same on ``device``."""
        return Points(self.position_P.to(device), self.stride_P.to(device))


def segment_boxes(points: Points, distance_BP2: Tensor) -> Tensor:
    """The segments that points tell by their distances, as boxes of height 1: float (B, P, 4)."""
    return segments_as_boxes(points.position_P - distance_BP2[..., 0], points.position_P + distance_BP2[..., 1])


def assign(points: Points, segment_N2: Tensor) -> Tensor:
    """The number of the segment that each point answers for, int64 (P,); -1 where it shows the background.

    It lies within that segment, near its middle (`CENTRE_RADIUS`), and is of the level for its length (`REACH`); of
    several the shortest is taken.
    """
    if not len(segment_N2):
        return torch.full_like(points.position_P, -1, dtype=torch.int64)
    start_N, end_N = segment_N2.unbind(dim=1)
    position_P1, stride_P1 = points.position_P[:, None], points.stride_P[:, None]
    nearer_PN = torch.minimum(position_P1 - start_N, end_N - position_P1)
    farther_PN = torch.maximum(position_P1 - start_N, end_N - position_P1)
    is_central_PN = (position_P1 - (start_N + end_N) / 2).abs() <= CENTRE_RADIUS * stride_P1
    is_far_PN = (farther_PN > REACH / 2 * stride_P1) | (stride_P1 == 1)
    is_near_PN = (farther_PN <= REACH * stride_P1) | (stride_P1 == points.stride_P[-1])
    fits_PN = (nearer_PN > 0) & is_central_PN & is_far_PN & is_near_PN
    length_PN = torch.where(fits_PN, end_N - start_N, torch.inf)
    shortest_P, number_P = length_PN.min(dim=1)
    return torch.where(shortest_P.isfinite(), number_P, -1)


def point_loss(
    outputs: PointOutputs, points: Points, segments: Sequence[Tensor], labels: Sequence[Tensor]
) -> SummedLoss:
    """Focal loss of the classes at all points, and 1 - GIoU of the segments at those that answer for one; their sums.

    Focal loss: Lin et al., "Focal loss for dense object detection" (ICCV 2017), α = 0.25, γ = 2; GIoU: Rezatofighi et
    al. (CVPR 2019), of segments as boxes of height 1. ``segments`` (N, 2) and ``labels`` (N,) are those of each video.
    """
    number_BP = torch.stack([assign(points, segment_N2) for segment_N2 in segments])
    answers_BP = (number_BP >= 0) & outputs.is_inside_BP
    target_BPA = torch.zeros_like(outputs.logits_BPA)
    box_BP4 = segment_boxes(points, outputs.distance_BP2)
    true_boxes = []
    for video, (segment_N2, label_N) in enumerate(zip(segments, labels, strict=True)):
        number_p = number_BP[video, answers_BP[video]]
        target_BPA[video, answers_BP[video].nonzero()[:, 0], label_N[number_p]] = 1.0
        true_boxes.append(segments_as_boxes(*segment_N2[number_p].unbind(dim=1)))
    focal_BPA = sigmoid_focal_loss(outputs.logits_BPA, target_BPA)
    classes = (focal_BPA * outputs.is_inside_BP[..., None]).sum()
    distances = generalized_box_iou_loss(box_BP4[answers_BP], torch.cat(true_boxes).to(box_BP4), reduction="sum")
    return SummedLoss(classes + distances, answers_BP.sum())
