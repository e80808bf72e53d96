"""What of each video frame a data set shows: all of it, or a square around the people."""

from dataclasses import dataclass
from typing import Literal, get_args

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
