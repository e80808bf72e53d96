"""The boxes found in test videos as a file (boxes.npz), beside the truth: what any measure or interval is made of.

Shape suffixes: V videos, K key frames of all videos, N found boxes, M true boxes, A actions.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from scenebias.detect.evaluating import BoxEvaluation, VideoBoxes, joined
from scenebias.detection.instances import FrameBoxes
from scenebias.evaluation.result_file import read_arrays, reading, write_arrays
from shards.format.truth import BOX_DTYPE

BOXES_NAME = "boxes.npz"


def save_boxes(path: Path, evaluation: BoxEvaluation) -> None:
    """Write what was found, and the truth; ``path`` appears only when it is complete.

    An .npz file of plain arrays. Of the videos: ``sample_V`` (their numbers in the data set), ``name_V`` (text), and
    how many of the rows of the others are theirs, ``key_frames_V``, ``true_V`` and ``found_V``. Of these rows:
    ``frame_K``; the truth ``true_M`` (`BOX_DTYPE`); what was found ``frame_N``, ``label_N``, ``score_N`` and ``box_N4``
    (int32 and float32). And ``class_A`` (text). Raises UserError where it cannot be written.
    """
    videos = evaluation.videos
    found = joined([video.found for video in videos])
    write_arrays(
        path,
        {
            "sample_V": np.array([video.sample for video in videos], np.int64),
            "name_V": np.array([video.name for video in videos], np.str_),
            "key_frames_V": np.array([len(video.frame_K) for video in videos], np.int64),
            "true_V": np.array([len(video.rows) for video in videos], np.int64),
            "found_V": np.array([len(video.found) for video in videos], np.int64),
            "frame_K": np.concatenate([np.zeros(0, np.int64), *(video.frame_K for video in videos)]).astype(np.int32),
            "true_M": np.concatenate([np.zeros(0, BOX_DTYPE), *(video.rows for video in videos)]),
            "frame_N": found.frame_N.numpy().astype(np.int32),
            "label_N": found.label_N.numpy().astype(np.int32),
            "score_N": found.scores.numpy().astype(np.float32),
            "box_N4": found.box_N4.numpy().astype(np.float32),
            "class_A": np.array(evaluation.classes, np.str_),
        },
    )


def load_boxes(path: Path) -> BoxEvaluation:
    """Read what `save_boxes` wrote; UserError where it is missing or damaged."""
    with reading(path):
        return _evaluation(read_arrays(path))


def _evaluation(arrays: Mapping[str, NDArray]) -> BoxEvaluation:
    """Raises ValueError, KeyError or TypeError where the arrays do not go together."""
    parts = zip(
        arrays["sample_V"].tolist(),
        arrays["name_V"].tolist(),
        _of_videos(arrays, "key_frames_V", "frame_K"),
        _of_videos(arrays, "true_V", "true_M"),
        _of_videos(arrays, "found_V", "frame_N"),
        _of_videos(arrays, "found_V", "label_N"),
        _of_videos(arrays, "found_V", "score_N"),
        _of_videos(arrays, "found_V", "box_N4"),
        strict=True,
    )
    if arrays["true_M"].dtype != BOX_DTYPE:
        raise ValueError(f"true boxes are {arrays['true_M'].dtype}")
    videos = [
        VideoBoxes(
            sample,
            name,
            frame_K.astype(np.int64),
            rows,
            FrameBoxes(
                frame_N=torch.from_numpy(frame_N.astype(np.int64)),
                box_N4=torch.from_numpy(box_N4.astype(np.float32)),
                label_N=torch.from_numpy(label_N.astype(np.int64)),
                score_N=torch.from_numpy(score_N.astype(np.float32)),
            ),
        )
        for sample, name, frame_K, rows, frame_N, label_N, score_N, box_N4 in parts
    ]
    return BoxEvaluation(videos, tuple(arrays["class_A"].tolist()))


def _of_videos(arrays: Mapping[str, NDArray], counts: str, name: str) -> list[NDArray]:
    """The rows of an array, video by video."""
    count_V, values = arrays[counts], arrays[name]
    if count_V.sum() != len(values) or (count_V < 0).any():
        raise ValueError(f"{name} has {len(values)} rows for {count_V.sum()}")
    return np.split(values, np.cumsum(count_V)[:-1]) if len(count_V) else []
