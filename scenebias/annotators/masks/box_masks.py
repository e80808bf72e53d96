"""Human masks from the boxes of a person detector: everything inside a box is a person.

Shape suffixes: N frames, H rows, W columns of the decoded video; n boxes of a clip; 4 edges x1, y1, x2, y2.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scenebias.annotators.masks.mask_folder import MaskFolder
from shards.errors import UserError, system_fault

BOX_SCORE = 0.3
"""The score from which SDN counts a detection as a person."""


@dataclass(frozen=True)
class BoxMasks(MaskFolder):
    """One JSON file a clip, ``<class>/<clip>.json``, an object with

    - ``frame_count``: how many frames the detector saw, all of the clip;
    - ``height``, ``width``: the size of those frames in pixels; boxes are scaled from it to the size of the video.
      ``width`` may be left out where frames were scaled in proportion;
    - ``boxes``: n lists [x1, y1, x2, y2] in pixels, from the left and upper edge of the frame to those of the box's
      outside: a box that covers the whole frame is [0, 0, width, height];
    - ``frames``: n frame numbers, counted from 0;
    - ``scores``: n numbers, as sure as the detector is.

    A pixel is a person where its centre lies in a box whose score is at least ``box_score``. In a frame without such a
    box nobody is seen.
    """

    box_score: float = BOX_SCORE
    """Least score of a box that counts; SDN's ``det[-1] >= th`` with 0.3."""
    suffixes = (".json",)

    def settings(self) -> dict[str, str | float | None]:
        return super().settings() | {"box_score": self.box_score}

    def look(self, paths: Sequence[Path], height: int, width: int) -> tuple[tuple[int, ...], Callable[[], NDArray]]:
        path = paths[0]
        try:
            boxes = _Boxes.parse(json.loads(path.read_bytes()))
        except (OSError, KeyError, ValueError, TypeError, OverflowError, RecursionError) as error:
            if fault := system_fault(error):
                raise UserError(f"{path}: cannot be read ({fault}); mend that") from error
            problem = f"lacks {error}" if isinstance(error, KeyError) else str(error)
            raise UserError(
                f"{path}: cannot be read as boxes ({problem}); write an object with 'frame_count', 'height', 'boxes', "
                "'frames' and 'scores'"
            ) from error
        shape = (boxes.frame_count, height, width)
        return shape, partial(boxes.draw, height, width, self.box_score)


@dataclass(frozen=True, eq=False)
class _Boxes:
    """The boxes of one clip, checked."""

    frame_count: int
    height: float
    width: float | None
    boxes_n4: NDArray[np.float64]
    frames_n: NDArray[np.int64]
    scores_n: NDArray[np.float64]

    @classmethod
    def parse(cls, content: Any) -> "_Boxes":
        """Raise a KeyError for what is not there, a ValueError or TypeError for what is not as it must be."""
        if not isinstance(content, dict):
            raise ValueError("not an object")
        frame_count = content["frame_count"]
        if type(frame_count) is not int or frame_count < 1:
            raise ValueError(f"'frame_count' is {frame_count!r}")
        height, width = content["height"], content.get("width")
        for size in (height, 1 if width is None else width):
            if type(size) not in (int, float) or not 1 <= size < np.inf:
                raise ValueError(f"'height' or 'width' is {size!r}")
        boxes_n4 = np.asarray(content["boxes"] or np.empty((0, 4)), dtype=np.float64)
        scores_n = np.asarray(content["scores"], dtype=np.float64)
        frames_n = np.asarray(content["frames"] or np.empty(0, dtype=np.int64))
        if boxes_n4.shape != (len(boxes_n4), 4) or not frames_n.shape == scores_n.shape == (len(boxes_n4),):
            raise ValueError(
                f"{boxes_n4.shape} 'boxes', {frames_n.shape} 'frames' and {scores_n.shape} 'scores' instead of n boxes "
                "of 4 edges, n frames and n scores"
            )
        if frames_n.dtype.kind != "i" or not np.all((frames_n >= 0) & (frames_n < frame_count)):
            raise ValueError(f"'frames' must be whole numbers from 0 to {frame_count - 1}")
        if not np.all(np.isfinite(boxes_n4)) or not np.all(np.isfinite(scores_n)):
            raise ValueError("a box or a score is not finite")
        return cls(frame_count, height, width, boxes_n4, frames_n, scores_n)

    def draw(self, height: int, width: int, least_score: float) -> NDArray[np.bool_]:
        """Return bool (frame_count, height, width), True where a pixel's centre lies in a box of ``least_score``."""
        scale_y = height / self.height
        scale_x = width / self.width if self.width else scale_y
        # Pixel c has its centre at c + 1/2, so the first pixel of a box is ceil(left - 1/2).
        with np.errstate(over="ignore"):
            first_pixel_n4 = np.ceil(self.boxes_n4 * [scale_x, scale_y, scale_x, scale_y] - 0.5)
        edges_n4 = first_pixel_n4.clip(0, [width, height, width, height]).astype(np.int64)
        mask_NHW = np.zeros((self.frame_count, height, width), dtype=np.bool_)
        counts_n = self.scores_n >= least_score
        for frame, (left, upper, right, lower) in zip(self.frames_n[counts_n], edges_n4[counts_n], strict=True):
            mask_NHW[frame, upper:lower, left:right] = True
        return mask_NHW
