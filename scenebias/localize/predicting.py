"""Segments in a video file, by weights that hold a detector of segments.

Shape suffixes: N frames, H rows, W columns, S side of the squares that windows show.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dali_pipelines.cropping import crop_clip
from dali_pipelines.windows import ClipConfig, EvaluationWindows
from scenebias.detection.instances import Segments
from scenebias.localize.features.dense_features import DenseConfig, dense_features
from scenebias.localize.features.tracks import FeatureTrack
from scenebias.localize.head.decoding import DecodingConfig, find_segments
from scenebias.localize.head.pyramid import Pyramid, PyramidConfig
from scenebias.models.action_model import ActionModel
from scenebias.models.backbones import AnyBackbone
from scenebias.models.weights import WeightsMetadata, clip_config_of, load_part, load_weights
from shards.decoding.video import open_video
from shards.errors import UserError


@dataclass(frozen=True, eq=False)
class Localizer:
    """A network with its detector of segments, in evaluation mode."""

    model: ActionModel
    pyramid: Pyramid
    classes: tuple[str, ...]
    """Of the segments."""
    clip: ClipConfig
    dense: DenseConfig
    decoding: DecodingConfig


def load_localizer(weights: Path, device: torch.device | str = "cpu", backbone: AnyBackbone | None = None) -> Localizer:
    """What ``python -m scenebias.localize`` has made. Raises UserError where the file is no such thing, or damaged."""
    model, metadata = load_weights(weights, backbone)
    classes, dense, pyramid_config, decoding = _described(weights, metadata)
    pyramid = Pyramid(model.feature_count, len(classes), pyramid_config)
    load_part(weights, "segment_detector", pyramid)
    return Localizer(
        model.to(device).to(memory_format=torch.channels_last_3d).eval(),
        pyramid.to(device).eval(),
        classes,
        clip_config_of(metadata),
        dense,
        decoding,
    )


def _described(
    weights: Path, metadata: WeightsMetadata
) -> tuple[tuple[str, ...], DenseConfig, PyramidConfig, DecodingConfig]:
    said = metadata.parts.get("segment_detector")
    if said is None:
        raise UserError(f"{weights}: does not hold a segment detector; give weights of scenebias localize")
    try:
        return (
            tuple(said["classes"]),
            DenseConfig(**said["dense"]),
            PyramidConfig(**said["pyramid"]),
            DecodingConfig(**said["decoding"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{weights}: its segment detector cannot be read ({error}); copy it again") from error


def find_in_video(video: Path, localizer: Localizer, height: int) -> tuple[Segments, float]:
    """The segments of a video that is scaled to ``height`` rows, the most probable first; and its duration in seconds.

    Takes memory for some pieces of the video, and its features.

    Raises:
        BrokenClipError: it cannot be decoded.
    """
    clip, dense = localizer.clip, localizer.dense
    with open_video(video) as opened:
        fps = opened.info.fps
        frames = _Counted(frame.rgb(height) for frame in opened.frames())
        feature_CT = dense_features(
            localizer.model,
            square_pieces(frames, clip, dense.feature_batch_size * dense.feature_stride),
            clip.frames,
            dense.feature_stride // clip.stride,
            dense.feature_batch_size,
        )
    duration_s = frames.count / fps
    track = FeatureTrack(
        feature_CT=feature_CT, first_s=clip.span / 2 / fps, step_s=dense.feature_stride / fps, duration_s=duration_s
    )
    return find_segments(localizer.pyramid, track, localizer.decoding), duration_s


class _Counted(Iterator[NDArray[np.uint8]]):
    """Frames, and how many there were."""

    def __init__(self, frames: Iterable[NDArray[np.uint8]]) -> None:
        self._frames, self.count = iter(frames), 0

    def __next__(self) -> NDArray[np.uint8]:
        frame_HW3 = next(self._frames)
        self.count += 1
        return frame_HW3


def square_pieces(frames: Iterator[NDArray[np.uint8]], clip: ClipConfig, piece_frames: int) -> Iterator[Tensor]:
    """The centre square of every ``clip.stride``-th of some uint8 (H, W, 3) frames: uint8 (N, S, S, 3), in pieces.

    ``piece_frames``, a multiple of the stride, are read at a time. Frames that are fewer than a window's loop, to one.
    """
    first = list(islice(frames, max(clip.span, piece_frames)))
    if len(first) < clip.span:
        yield _squares([first[i * clip.stride % len(first)] for i in range(clip.frames)], clip)
        return
    piece, read = first, len(first)
    offset = 0  # of the next frame that counts, in the piece
    while piece:
        if offset < len(piece):
            yield _squares(piece[offset :: clip.stride], clip)
        offset = -read % clip.stride
        piece = list(islice(frames, piece_frames))
        read += len(piece)


def _squares(frames: list[NDArray[np.uint8]], clip: ClipConfig) -> Tensor:
    frames_NHWC = torch.from_numpy(np.stack(frames))
    sizes = np.array([frames_NHWC.shape[1:3]])
    roi_22 = EvaluationWindows(clip, np.array([clip.span]), sizes)[0:1].rois()[0]
    square_NSSC = torch.empty(len(frames), clip.size, clip.size, 3, dtype=torch.uint8)
    crop_clip(frames_NHWC, roi_22, square_NSSC)
    return square_NSSC
