"""Boxes of single frames, linked to the tubes of actors.

Shape suffixes: N boxes, G tubes that grow, T frames, 4 corners of a box (left, top, right, bottom).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import box_iou

from scenebias.detection.instances import FrameBoxes, Tube
from scenebias.detection.overlap import tube_overlap
from shards.checks import require_at_least


@dataclass(frozen=True, kw_only=True)
class LinkingConfig:
    """How boxes of single frames are linked to tubes; see `link`."""

    link_overlap: float = 0.3
    """The least IoU of a tube's last box and the next one, 0 to 1."""
    link_gap_frames: int = 5
    """Frames that a tube may miss, one after another, before it ends."""
    link_candidates: int = 10
    """Boxes of each class that are looked at in a frame, the best ones."""
    tube_overlap: float = 0.3
    """Of two tubes of a class that overlap by a higher IoU the better one is kept."""

    def __post_init__(self) -> None:
        require_at_least(0, link_gap_frames=self.link_gap_frames)
        require_at_least(1, link_candidates=self.link_candidates)
        for name in ("link_overlap", "tube_overlap"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be from 0 to 1, got {getattr(self, name)}")


DEFAULT_LINKING = LinkingConfig()


def link(found: FrameBoxes, config: LinkingConfig = DEFAULT_LINKING) -> list[Tube]:
    """The tubes of one video, class by class, the best of each first.

    Frame by frame, as in Singh et al., "Online real-time multiple spatiotemporal action localisation and prediction"
    (ICCV 2017, section 3.4) and in ACT (Kalogeiton et al., ICCV 2017, section 3.3): each tube, the best first, goes on
    with the box of the highest score of those that are left and overlap its last one by ``link_overlap``; what is left
    begins new tubes. A tube's score is the mean of its boxes'; boxes of frames that it missed are interpolated. Of
    tubes that overlap each other by more than ``tube_overlap`` (see `tube_overlap`) the best are kept.
    """
    labels = found.label_N.unique().tolist()
    return [tube for label in labels for tube in _link_class(found[found.label_N == label], label, config)]


def _link_class(found: FrameBoxes, label: int, config: LinkingConfig) -> list[Tube]:
    growing: list[_GrowingTube] = []
    ended: list[_GrowingTube] = []
    for frame in found.frame_N.unique().tolist():  # ascending
        ended += [tube for tube in growing if frame - tube.frames[-1] > config.link_gap_frames + 1]
        growing = [tube for tube in growing if frame - tube.frames[-1] <= config.link_gap_frames + 1]
        in_frame = found[found.frame_N == frame]
        best_first = in_frame.scores.argsort(descending=True, stable=True)[: config.link_candidates]
        _grow(growing, frame, in_frame[best_first], config.link_overlap)
    return _kept([tube.finished(label) for tube in (*ended, *growing)], config.tube_overlap)


class _GrowingTube:
    """A tube that may go on."""

    def __init__(self) -> None:
        self.frames: list[int] = []
        self.boxes: list[Tensor] = []
        self.scores: list[float] = []

    def append(self, frame: int, box_4: Tensor, score: float) -> None:
        self.frames.append(frame)
        self.boxes.append(box_4)
        self.scores.append(score)

    @property
    def score(self) -> float:
        return float(np.mean(self.scores))

    def finished(self, label: int) -> Tube:
        """With boxes between those that were found, on straight lines."""
        frame_T = np.arange(self.frames[0], self.frames[-1] + 1)
        corners = torch.stack(self.boxes).double().numpy().T
        box_T4 = np.stack([np.interp(frame_T, self.frames, corner) for corner in corners], axis=1)
        return Tube(frame_T=torch.from_numpy(frame_T), box_T4=torch.from_numpy(box_T4), label=label, score=self.score)


def _grow(growing: list[_GrowingTube], frame: int, found: FrameBoxes, least_overlap: float) -> None:
    """Give the boxes of one frame, the best first, to the tubes that they go on with; others begin new ones."""
    left, scores = list(range(len(found))), found.scores.tolist()
    if growing:
        overlap_GN = box_iou(torch.stack([tube.boxes[-1] for tube in growing]), found.box_N4).numpy()
    for place, tube in sorted(enumerate(growing), key=lambda item: -item[1].score):
        fitting = next((number for number in left if overlap_GN[place, number] >= least_overlap), None)
        if fitting is not None:
            tube.append(frame, found.box_N4[fitting], scores[fitting])
            left.remove(fitting)
    for number in left:
        growing.append(_GrowingTube())
        growing[-1].append(frame, found.box_N4[number], scores[number])


def _kept(tubes: Sequence[Tube], most_overlap: float) -> list[Tube]:
    """Non-maximum suppression of the tubes of one class; the best first."""
    kept: list[Tube] = []
    for tube in sorted(tubes, key=lambda tube: -(tube.score or 0.0)):
        if all(tube_overlap(tube, better) <= most_overlap for better in kept):
            kept.append(tube)
    return kept
