"""What is annotated within a clip: when an action happens, and where in the frames.

Both are read the same whether the frames are film strips or video: times are seconds from the first stored frame,
places are pixels of the stored frames, in which pixel k covers k to k + 1.
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

BOX_DTYPE = np.dtype(
    [
        ("frame", "<i4"),
        ("tube", "<i4"),
        ("label", "<i4"),
        ("x1", "<f4"),
        ("y1", "<f4"),
        ("x2", "<f4"),
        ("y2", "<f4"),
    ]
)
"""A row of `boxes.npy`. Rows are in the order of frame, tube and label, and no two agree in all three. A tube is what
one actor does, numbered within the clip; a box with several labels has a row for each."""
SIDES = ("x1", "y1", "x2", "y2")
OVERHANG_S = 1e-6
"""By so much a segment may end after the clip: the rounding of a division."""


@dataclass(frozen=True)
class Segment:
    """A stretch of time in which an action happens."""

    start_s: float
    """Where it begins, in seconds from the first frame of the clip."""
    end_s: float
    """Where it ends, in seconds."""
    label: int | None
    """Index of the action class; None: it is ambiguous whether an action happens, so whatever is found there counts
    neither as right nor as wrong."""


@dataclass(frozen=True, eq=False)
class Truth:
    """All that is annotated within one clip."""

    segments: tuple[Segment, ...] | None = None
    """Its actions in time, by their starts; None: nobody looked for them."""
    boxes: NDArray | None = None
    """`BOX_DTYPE` (M,), its actors in the order of frame, tube and label; None: nobody looked for them."""
    key_frames_only: bool = False
    """Whether nothing is known of frames without a box; otherwise no action is seen in them."""

    @property
    def largest_label(self) -> int:
        """The largest label of any segment or box; -1 where there is none."""
        labels = [segment.label for segment in self.segments or () if segment.label is not None]
        if self.boxes is not None and len(self.boxes):
            labels.append(int(self.boxes["label"].max()))
        return max(labels, default=-1)

    def boxes_of(self, start_frame: int, end_frame: int) -> NDArray:
        """The rows of ``boxes`` whose frames are ``start_frame <= n < end_frame``; none where there are no boxes."""
        if self.boxes is None:
            return np.zeros(0, BOX_DTYPE)
        first, end = np.searchsorted(self.boxes["frame"], [start_frame, end_frame])
        return self.boxes[first:end]


NO_TRUTH = Truth()


def box_corners(boxes: NDArray) -> NDArray[np.float32]:
    """x1, y1, x2, y2 of rows of `BOX_DTYPE`, float32 (M, 4)."""
    return np.stack([boxes[side] for side in SIDES], axis=-1)


def mask_extents(mask_NHW: NDArray[np.bool_]) -> NDArray[np.int64]:
    """x1, y1, x2, y2 of the smallest rectangle around each mask, int64 (N, 4); all 0 where a mask is empty."""
    corners = []
    for axis, length in ((1, mask_NHW.shape[2]), (2, mask_NHW.shape[1])):
        any_NL = np.asarray(mask_NHW.any(axis=axis))
        corners.append((any_NL.argmax(axis=1), length - any_NL[:, ::-1].argmax(axis=1)))
    (x1, x2), (y1, y2) = corners
    return np.stack([x1, y1, x2, y2], axis=-1) * np.asarray(mask_NHW.any(axis=(1, 2)))[:, None]


def in_order(boxes: NDArray) -> NDArray:
    """Rows of `BOX_DTYPE` in the order in which they are stored."""
    return boxes[np.lexsort((boxes["label"], boxes["tube"], boxes["frame"]))]


def segments_bytes(segments: Sequence[Segment]) -> bytes:
    """The component `segments.json`."""
    return json.dumps([asdict(segment) for segment in segments]).encode()


def read_segments(data: bytes) -> tuple[Segment, ...]:
    """Read what `segments_bytes` wrote; fields of later versions are passed over.

    Raises:
        ValueError: it is something else.
    """
    value: Any = json.loads(data)
    try:
        return tuple(
            Segment(float(item["start_s"]), float(item["end_s"]), None if item["label"] is None else int(item["label"]))
            for item in value
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"the segments lack {error}") from error


def segment_problems(segments: Sequence[Segment], duration_s: float) -> Iterator[str]:
    """Tell, one clause each, what is wrong with the segments of a clip that is so long."""
    for number, segment in enumerate(segments):
        # Written so that a time that is no number is wrong.
        if not 0 <= segment.start_s < segment.end_s <= duration_s + OVERHANG_S:
            yield (
                f"segment {number} must be within 0 to {duration_s:.6g} s and not empty, "
                f"got {segment.start_s:.6g} to {segment.end_s:.6g}"
            )
        if segment.label is not None and segment.label < 0:
            yield f"segment {number}: label must be at least 0, got {segment.label}"
    if any(not later.start_s >= earlier.start_s for earlier, later in pairwise(segments)):
        yield "segments must be in the order of their starts"


def box_problems(boxes: NDArray, frame_count: int, width: int, height: int) -> Iterator[str]:
    """Tell, one clause each, what is wrong with the boxes of a clip of this shape."""
    if boxes.dtype != BOX_DTYPE or boxes.ndim != 1:
        yield f"boxes must be rows of {BOX_DTYPE}, got {boxes.dtype} {boxes.shape}"
        return
    keys = np.stack([boxes[name].astype(np.int64) for name in ("frame", "tube", "label")], axis=-1)
    if (keys < 0).any() or (boxes["frame"] >= frame_count).any():
        yield f"boxes must have frames from 0 to {frame_count - 1}, and tubes and labels from 0"
    step = np.diff(keys, axis=0)
    first_change = step[np.arange(len(step)), (step != 0).argmax(axis=1)]
    if (first_change <= 0).any():
        yield "boxes must be in the order of frame, tube and label, and none twice"
    x1, y1, x2, y2 = box_corners(boxes).T
    inside = (x1 >= 0) & (x1 < x2) & (x2 <= width) & (y1 >= 0) & (y1 < y2) & (y2 <= height)
    if not inside.all():
        number = int((~inside).argmax())
        corners = ", ".join(f"{side:.6g}" for side in box_corners(boxes)[number])
        yield f"box {number} must be within the frame of {width}x{height} and not empty, got {corners}"


def duration_of(frame_count: int, fps: float) -> float:
    """How long frames are shown, in seconds."""
    return frame_count / fps if fps > 0 else math.nan
