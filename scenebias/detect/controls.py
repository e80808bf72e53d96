"""What has to come out of an evaluation whose answer is known: the truth itself, its boxes alone, its classes alone.

Shape suffixes: N boxes, M true boxes, A actions, 4 corners of a box.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from scenebias.detect.evaluating import BoxEvaluation, VideoBoxes
from scenebias.detect.key_frames import KeyFrames
from scenebias.detection.instances import FrameBoxes
from shards.format.truth import box_corners


def truth_found(evaluation: BoxEvaluation) -> BoxEvaluation:
    """The truth as prediction: every measure is 1."""
    return _with_found(evaluation, (_sure(video.truth) for video in evaluation.videos))


def every_class_found(evaluation: BoxEvaluation, seed: int = 0) -> BoxEvaluation:
    """Every true box once for each of A classes, with a random score: who knows where, and not what.

    Frame-mAP is about 1 / A where as many boxes are of each class, the recall 1.
    """
    generator = torch.Generator().manual_seed(seed)
    action_count = len(evaluation.classes)

    def of_video(video: VideoBoxes) -> FrameBoxes:
        actors = video.actors
        count = action_count * len(actors)
        return FrameBoxes(
            frame_N=actors.frame_N.repeat_interleave(action_count),
            box_N4=actors.box_N4.repeat_interleave(action_count, dim=0),
            label_N=torch.arange(action_count).repeat(len(actors)),
            score_N=torch.rand(count, generator=generator),
        )

    return _with_found(evaluation, map(of_video, evaluation.videos))


def median_box_found(
    evaluation: BoxEvaluation, sizes: Iterable[tuple[int, int]], median_share_4: Tensor
) -> BoxEvaluation:
    """In every frame with actors one box, ``median_share_4`` of `median_box`, and the true class of the first of them.

    ``sizes`` are height and width of the frames of every video. Who knows what, and not where.
    """

    def of_video(video: VideoBoxes, height: int, width: int) -> FrameBoxes:
        _, first = np.unique(video.rows["frame"], return_index=True)
        truth = video.truth[torch.from_numpy(first)]
        box_4 = median_share_4 * median_share_4.new_tensor([width, height] * 2)
        return _sure(replace(truth, box_N4=box_4.repeat(len(truth), 1)))

    found = (of_video(video, *size) for video, size in zip(evaluation.videos, sizes, strict=True))
    return _with_found(evaluation, found)


def median_box(key_frames: KeyFrames) -> Tensor:
    """The median of each side of all true boxes of a data set, in shares of the frame's width and height: (4,)."""
    shares = [
        box_corners(rows) / np.tile(key_frames.dataset.frame_sizes[video][::-1], 2)
        for video, rows in enumerate(key_frames.rows)
    ]
    return torch.from_numpy(np.median(np.concatenate(shares), axis=0)).float()


def video_sizes(key_frames: KeyFrames) -> Iterator[tuple[int, int]]:
    """Height and width of the frames of every video that has key frames."""
    for video in np.unique(key_frames.video_K).tolist():
        height, width = key_frames.dataset.frame_sizes[video].tolist()
        yield height, width


def _sure(truth: FrameBoxes) -> FrameBoxes:
    return replace(truth, score_N=torch.ones(len(truth)))


def _with_found(evaluation: BoxEvaluation, found: Iterable[FrameBoxes]) -> BoxEvaluation:
    videos = [replace(video, found=boxes) for video, boxes in zip(evaluation.videos, found, strict=True)]
    return replace(evaluation, videos=videos)
