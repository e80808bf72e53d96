"""What label files say happens within a video: seconds, frame numbers and pixels of the video itself.

The packer makes of it the `Truth` of a stored clip. Every place is named by file and line, since only the decoded video
shows what does not fit it.
"""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class ListedSegment:
    """An action in time."""

    start_s: float
    """Where it begins, in seconds from the first frame of the video."""
    end_s: float
    """Where it ends, in seconds; more than ``start_s``."""
    label: int | None
    """Index of the action class; None: ambiguous."""
    where: str
    """The name of the file and the line, for messages."""


@dataclass(frozen=True, eq=False)
class ListedBoxes:
    """Actors in the frames of a video, in any order."""

    rows: NDArray
    """`BOX_DTYPE` (M,): frames from 0, and pixels of the frames as they are decoded and turned upright, not stretched
    by the pixel aspect ratio; pixel k covers k to k + 1."""
    origin: str
    """The name of the file, and what in it is of this video, for messages."""
    lines: NDArray[np.int64] | None = None
    """The line of each row in that file, (M,); None: its tube and frame name it."""
    times_s: NDArray[np.float64] | None = None
    """Seconds from the first frame of the video, (M,), which decide the frames instead of ``rows``. Frames without a
    box are then not annotated."""
    in_shares: bool = False
    """Whether places are shares of the frame's width and height instead of pixels."""

    def where(self, row: int) -> str:
        """The place of a row, for messages."""
        if self.lines is not None:
            return f"{self.origin}, line {self.lines[row]}"
        return f"{self.origin}, tube {self.rows['tube'][row]}, frame {self.rows['frame'][row]}"


@dataclass(frozen=True, slots=True)
class VideoPromise:
    """What a label file says of the video that was annotated, to know another one."""

    where: str
    """The name of the file and the place in it, for messages."""
    fps: float | None = None
    """Frames a second."""
    frame_count: int | None = None
    """Frames."""
    duration_s: float | None = None
    """Its length in seconds."""


@dataclass(frozen=True, eq=False)
class ListedTruth:
    """All that label files say of one video."""

    segments: tuple[ListedSegment, ...] | None = None
    """Its actions in time, in any order; None: nobody looked for them."""
    boxes: ListedBoxes | None = None
    """Its actors; None: nobody looked for them."""
    boxes_from_masks: bool = False
    """Whether the actor is whom the clip's masks show: one box a frame, around the whole mask."""
    segments_from_boxes: bool = False
    """Whether an action happens where somebody does it: a segment for each class and stretch of frames with boxes."""
    promise: VideoPromise | None = None
    """What the labels say of the video."""

    def values(self) -> list[Any]:
        """All that decides what is stored, as JSON values; the same wherever the files lie."""
        segments = self.segments and [(segment.start_s, segment.end_s, segment.label) for segment in self.segments]
        promise = self.promise and (self.promise.fps, self.promise.frame_count, self.promise.duration_s)
        boxes = None
        if self.boxes is not None:
            digest = hashlib.sha256(self.boxes.rows.tobytes())
            if self.boxes.times_s is not None:
                digest.update(self.boxes.times_s.tobytes())
            boxes = [digest.hexdigest(), self.boxes.times_s is not None, self.boxes.in_shares]
        # What was added later stands there only where it is so: data sets that were packed before keep their checksums.
        added = ["segments_from_boxes"] if self.segments_from_boxes else []
        return [segments, boxes, self.boxes_from_masks, promise, *added]
