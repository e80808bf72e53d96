"""Boxes in a video file, by weights that hold a detector of boxes.

Shape suffixes: K frames that are looked at, T frames of a window, F frames that are read, H rows, W columns.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from dali_pipelines.windows import ClipConfig
from scenebias.detect.detector import ActionDetector, DetectorConfig
from scenebias.detect.evaluating import joined
from scenebias.detect.key_frames import InputConfig, Placement, placed_frames, window_frames
from scenebias.detect.pictures import draw_boxes
from scenebias.detection.instances import FrameBoxes
from scenebias.models.backbones import AnyBackbone
from scenebias.models.weights import clip_config_of, load_part, load_weights
from scenebias.reports.html import frame_rows, some_frames
from shards.decoding.video import open_video
from shards.errors import UserError

_COLUMNS = 4
"""Of a sheet."""
_NOTHING = FrameBoxes(
    frame_N=torch.zeros(0, dtype=torch.int64), box_N4=torch.zeros(0, 4), label_N=torch.zeros(0, dtype=torch.int64)
)


@dataclass(frozen=True, eq=False)
class LoadedDetector:
    """A network with its detector of boxes, in evaluation mode."""

    detector: ActionDetector
    classes: tuple[str, ...]
    """Of the boxes."""
    clip: ClipConfig
    input: InputConfig


@dataclass(frozen=True, eq=False)
class VideoBoxes:
    """What was found in some frames of a video."""

    fps: float
    frame_K: NDArray[np.int64]
    """The frames that were looked at."""
    frame_KHW3: NDArray[np.uint8]
    """These, as they were looked at."""
    found: FrameBoxes
    """In pixels of these, the best of each frame first."""

    def sheet(self, classes: tuple[str, ...], least_score: float) -> NDArray[np.uint8]:
        """The frames with their boxes of such a score or more, row by row, uint8 (H, W, 3)."""
        pictures = [
            draw_boxes(frame_HW3, _NOTHING, self._sure(frame, least_score), classes)
            for frame, frame_HW3 in zip(self.frame_K.tolist(), self.frame_KHW3, strict=True)
        ]
        rows = [np.stack(pictures[start : start + _COLUMNS]) for start in range(0, len(pictures), _COLUMNS)]
        missing = _COLUMNS - len(rows[-1]) if len(rows) > 1 else 0
        rows[-1] = np.concatenate([rows[-1], np.full((missing, *rows[-1].shape[1:]), 255, np.uint8)])
        return frame_rows(rows)

    def _sure(self, frame: int, least_score: float) -> FrameBoxes:
        in_frame = self.found[self.found.frame_N == frame]
        return in_frame[in_frame.scores >= least_score]


def load_detector(
    weights: Path, device: torch.device | str = "cpu", backbone: AnyBackbone | None = None
) -> LoadedDetector:
    """What ``python -m scenebias.detect`` has made. Raises UserError where the file is no such thing, or damaged."""
    model, metadata = load_weights(weights, backbone)
    said = metadata.parts.get("box_detector")
    if said is None:
        raise UserError(f"{weights}: does not hold a box detector; give weights of scenebias detect")
    try:
        classes, config = tuple(said["classes"]), DetectorConfig(**said["detector"])
        input_config = InputConfig(**said["input"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{weights}: its box detector cannot be read ({error}); copy it again") from error
    detector = ActionDetector(model, len(classes), config)
    load_part(weights, "box_detector", detector.own_layers)
    return LoadedDetector(detector.to(device).eval(), classes, clip_config_of(metadata), input_config)


def boxes_in_video(video: Path, loaded: LoadedDetector, *, height: int, frames: int, batch_size: int) -> VideoBoxes:
    """What is found in so many ``frames`` of a video, spread evenly, scaled to ``height`` rows.

    The video is decoded twice, so that only what is looked at is in memory.

    Raises:
        BrokenClipError: it cannot be decoded.
    """
    clip, size = loaded.clip, loaded.input.size(loaded.clip)
    with open_video(video) as opened:
        frame_count = sum(1 for _ in opened.frames())
    frame_K = np.unique(some_frames(frame_count, min(frames, frame_count)))
    frame_KT = window_frames(frame_K, clip, frame_count)
    needed = set(frame_KT.flatten().tolist())
    with open_video(video) as opened:
        fps = opened.info.fps
        decoded = {number: frame.rgb(height) for number, frame in enumerate(opened.frames()) if number in needed}
    decoded_FHW3 = torch.from_numpy(np.stack(list(decoded.values())))
    place_KT = np.searchsorted(np.array(list(decoded)), frame_KT)
    placement = Placement.within((decoded_FHW3.shape[1], decoded_FHW3.shape[2]), size)
    input_FHW3 = placed_frames(decoded_FHW3, placement, size)
    found = []
    for start in range(0, len(frame_K), batch_size):
        window_BTHW3 = input_FHW3[torch.from_numpy(place_KT[start : start + batch_size])]
        device = loaded.detector.model.scale.device
        found += loaded.detector.find(window_BTHW3.to(device), frame_K[start : start + batch_size].tolist())
    boxes = joined(found)
    in_frames = FrameBoxes(
        frame_N=boxes.frame_N, box_N4=placement.to_frame(boxes.box_N4), label_N=boxes.label_N, score_N=boxes.score_N
    )
    return VideoBoxes(fps, frame_K, np.stack([decoded[frame] for frame in frame_K.tolist()]), in_frames)
