"""Key frames with the true boxes and those that were found, as pictures.

Shape suffixes: H rows, W columns, 3 colours, N boxes.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.utils import draw_bounding_boxes

from scenebias.detect.evaluating import BoxEvaluation, VideoBoxes
from scenebias.detection.instances import FrameBoxes
from scenebias.reports.html import frame_rows, grid, picture, some_frames
from shards.dataset import ShardDataset

TRUE_COLOUR = (255, 255, 255)
RIGHT_COLOUR = (60, 220, 110)
"""Of what was found with a class that the frame's truth has."""
WRONG_COLOUR = (255, 80, 60)
_LEAST_ROWS = 240
_LINE = 2


def draw_boxes(
    frame_HW3: NDArray[np.uint8], truth: FrameBoxes, found: FrameBoxes, classes: Sequence[str]
) -> NDArray[np.uint8]:
    """A frame under its true boxes (white) and those that were found: green of a true class, red of another.

    Boxes are in the frame's pixels. Found ones bear their class and score, in percent. Small frames are enlarged.
    """
    scale = -(-_LEAST_ROWS // frame_HW3.shape[0])
    picture_3HW = torch.from_numpy(frame_HW3.repeat(scale, axis=0).repeat(scale, axis=1)).permute(2, 0, 1)
    is_true_N = torch.isin(found.label_N, truth.label_N).tolist()
    said = [
        f"{classes[label]} {100 * score:.0f}"
        for label, score in zip(found.label_N.tolist(), found.scores.tolist(), strict=True)
    ]
    layers = (
        (truth.box_N4, [TRUE_COLOUR] * len(truth), [""] * len(truth)),
        (found.box_N4, [RIGHT_COLOUR if is_true else WRONG_COLOUR for is_true in is_true_N], said),
    )
    for box_N4, colours, labels in layers:
        if len(box_N4):
            picture_3HW = draw_bounding_boxes(picture_3HW, box_N4 * scale, labels, colours, width=_LINE)
    return picture_3HW.permute(1, 2, 0).numpy()


def key_frame_strip(
    evaluation: BoxEvaluation, video: VideoBoxes, dataset: ShardDataset, *, frames: int = 4, most: int = 1
) -> NDArray[np.uint8]:
    """Key frames of a video, spread evenly, beside each other with their boxes: uint8 (H, W, 3).

    ``dataset`` is that of the evaluation. Of what was found in a frame the ``most`` best are shown. Raises UserError
    where the video is damaged.
    """
    frame_T = video.frame_K[some_frames(len(video.frame_K), min(frames, len(video.frame_K)))]
    frame_THW3 = dataset.decode(video.sample, dataset.read_clip(video.sample, frame_T))
    pictures = []
    for frame, frame_HW3 in zip(frame_T.tolist(), frame_THW3, strict=True):
        found = video.found[video.found.frame_N == frame]
        found = found[found.scores.argsort(descending=True, stable=True)[:most]]
        truth = video.truth[video.truth.frame_N == frame]
        pictures.append(draw_boxes(frame_HW3, truth, found, evaluation.classes))
    return frame_rows([np.stack(pictures)])


def key_frame_strips(
    evaluation: BoxEvaluation, dataset: ShardDataset, *, videos: int = 6, most: int = 1, title: str = ""
) -> str:
    """Strips of some videos with boxes, spread evenly over those of the evaluation, for a page, under ``title``.

    Raises as `key_frame_strip`.
    """
    with_truth = [video for video in evaluation.videos if len(video.rows)]
    shown = some_frames(len(with_truth), min(videos, len(with_truth))).tolist()
    strips = [
        picture(key_frame_strip(evaluation, video, dataset, most=most), f"{title}{video.name}")
        for video in (with_truth[number] for number in shown)
    ]
    return grid(strips, 40)
