"""What of each video frame a data set shows: all of it, or a square around the people."""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

FocusName = Literal["frame", "person"]


@dataclass(frozen=True)
class Focus:
    """What of each frame is stored; the same for all clips of a data set."""

    on: FocusName = "frame"
    """frame: all of it; person: one square for a whole clip, around its people."""
    margin: float = 1.0
    """Side of the square over the larger side of the people's extent, at least 1."""

    def __post_init__(self) -> None:
        if self.on not in get_args(FocusName):
            raise ValueError(f"focus must be one of {', '.join(get_args(FocusName))}, got {self.on!r}")
        if not 1 <= self.margin < float("inf"):
            raise ValueError(f"focus_margin must be at least 1, got {self.margin}")

    def __str__(self) -> str:
        if self.on == "frame":
            return "whole frames"
        return f"squares around people (--focus person --focus-margin {self.margin:g})"


WHOLE_FRAMES = Focus()


@dataclass(frozen=True)
class Crop:
    """The part of a clip's frames that is stored, in pixels of its video, turned upright and not stretched."""

    left: int
    """Its first column."""
    top: int
    """Its first row."""
    width: int
    """Columns."""
    height: int
    """Rows."""
    on_person: bool
    """Whether it is around people; otherwise no mask shows any, and it is the centre of the frame."""

    def cut(self, mask_NHW: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """This part of masks (frames, height, width) that are as large as the video."""
        return mask_NHW[:, self.top : self.top + self.height, self.left : self.left + self.width]
