"""What is looked for in a video, and what is found: segments of its time, boxes in its frames, tubes of such boxes.

Shape suffixes: N instances, 4 corners of a box (left, top, right, bottom), T frames of a tube.
"""

from dataclasses import dataclass, fields, replace
from typing import Any, Self

import torch
from torch import Tensor
from torchvision.ops import batched_nms

AMBIGUOUS = -1
"""The label of true instances of which nobody can tell the class, such as the ``Ambiguous`` of THUMOS."""


@dataclass(frozen=True, eq=False, kw_only=True)
class _Instances:
    """Instances of one video, one a row of every tensor."""

    label_N: Tensor
    """int64, their classes; `AMBIGUOUS` in truth alone."""
    score_N: Tensor | None = None
    """float, how sure a detector is of each, in any unit; None: they are the truth."""

    def __post_init__(self) -> None:
        lengths = {name: len(value) for name, value in self._tensors().items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"{type(self).__name__} must have as many of each: {lengths}")

    def __len__(self) -> int:
        return len(self.label_N)

    def __getitem__(self, index: Tensor) -> Self:
        """Those of a bool mask (N,), or of int64 numbers in their order."""
        return replace(self, **{name: value[index] for name, value in self._tensors().items()})

    def _tensors(self) -> dict[str, Any]:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    @property
    def clear(self) -> Self:
        """Those that are not `AMBIGUOUS`."""
        return self[self.label_N != AMBIGUOUS]

    @property
    def scores(self) -> Tensor:
        """``score_N`` of what was detected."""
        assert self.score_N is not None, "the truth has no scores"
        return self.score_N


@dataclass(frozen=True, eq=False, kw_only=True)
class Segments(_Instances):
    """Segments of one video's time."""

    start_s_N: Tensor
    """float, in seconds from its first frame."""
    end_s_N: Tensor
    """float, at least the start."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if bool((self.end_s_N < self.start_s_N).any()):
            raise ValueError("end_s_N must be at least start_s_N")

    @property
    def box_N4(self) -> Tensor:
        """See `segments_as_boxes`."""
        return segments_as_boxes(self.start_s_N, self.end_s_N)

    def suppressed(self, max_overlap: float, most: int | None = None) -> "Segments":
        """See `suppress`."""
        return self[suppress(self.box_N4, self.scores, self.label_N, max_overlap, most)]


@dataclass(frozen=True, eq=False, kw_only=True)
class FrameBoxes(_Instances):
    """Boxes in the frames of one video."""

    frame_N: Tensor
    """int64, which frame each is in."""
    box_N4: Tensor
    """float, left, top, right, bottom, in any unit, the same in truth and detections."""

    def suppressed(self, max_overlap: float) -> "FrameBoxes":
        """See `suppress`; boxes of different frames do not suppress each other."""
        classes = int(self.label_N.max()) + 1 if len(self) else 1
        group_N = self.frame_N * classes + self.label_N
        return self[suppress(self.box_N4, self.scores, group_N, max_overlap)]


@dataclass(frozen=True, eq=False, kw_only=True)
class Tube:
    """One actor, from frame to frame."""

    frame_T: Tensor
    """int64, ascending."""
    box_T4: Tensor
    """float, a box for each frame."""
    label: int
    score: float | None = None
    """How sure a detector is of it; None: it is the truth."""

    def __post_init__(self) -> None:
        if not len(self.frame_T) or bool((self.frame_T.diff() <= 0).any()):
            raise ValueError("frame_T must hold one or more ascending frames")
        if len(self.frame_T) != len(self.box_T4):
            raise ValueError(f"a tube must have a box for each frame: {len(self.box_T4)} for {len(self.frame_T)}")


def segments_as_boxes(start: Tensor, end: Tensor) -> Tensor:
    """Segments, of any shape (...), as boxes of height 1, (..., 4): the IoU of two boxes is that of their times."""
    zero = torch.zeros_like(start)
    return torch.stack([start, zero, end, zero + 1], dim=-1)


def suppress(box_N4: Tensor, score_N: Tensor, group_N: Tensor, max_overlap: float, most: int | None = None) -> Tensor:
    """Non-maximum suppression: the numbers of the boxes that are kept, the best score first; the ``most`` best of them.

    One by one, from the best score down, a box is kept if no kept one of its group overlaps it by an IoU above
    ``max_overlap``.
    """
    return batched_nms(box_N4, score_N, group_N, max_overlap)[:most]
