"""What is learned from where the backbone learns too: parts of videos, frame by frame.

Shape suffixes: N frames, S side of the frames, C channels, T windows, D features.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from dali_pipelines.windows import ClipConfig
from scenebias.localize.features.dense_features import DenseConfig, feature_times, frame_pieces, window_count
from scenebias.localize.features.tracks import true_segments
from scenebias.localize.head.training import Piece
from scenebias.models.action_model import ActionModel
from shards.dataset import ShardDataset

LEAST_INSIDE = 0.5
"""A segment of which a smaller share is in the part that is shown is not learned there (ActionFormer)."""


class WindowEncoder(nn.Module):
    """Features of the windows of a part of a video, through which a loss reaches the backbone.

    BatchNorm keeps the statistics that its weights carry: a step sees few videos. What a window's layers compute is
    not kept but computed again in the backward pass, so that memory holds the layers of ``batch_size`` windows.
    """

    def __init__(self, model: ActionModel, frames: int, stride: int, batch_size: int) -> None:
        super().__init__()
        self.model, self._frames, self._stride, self._batch_size = model, frames, stride, batch_size
        model.head.requires_grad_(False)

    def train(self, mode: bool = True) -> "WindowEncoder":
        """Stays in evaluation mode."""
        return super().train(False)

    def forward(self, frames_NSSC: Tensor) -> Tensor:
        """float (D, T), a feature every ``stride`` frames of uint8 (N, S, S, 3)."""
        video_CNSS = self.model.normalise(frames_NSSC[None].to(self.model.scale.device))[0]
        windows = video_CNSS.unfold(1, self._frames, self._stride).permute(1, 0, 4, 2, 3)
        features = [
            checkpoint(self.model.backbone, batch, use_reentrant=False) for batch in windows.split(self._batch_size)
        ]
        return torch.cat(features).float().T


@dataclass(frozen=True, eq=False)
class VideoParts:
    """A part of each video of a data set in every epoch, anywhere in it, mirrored as the clips are."""

    dataset: ShardDataset
    clip: ClipConfig
    dense: DenseConfig
    windows: int
    """Of a part, at most."""
    seed: int

    def __len__(self) -> int:
        return len(self.dataset)

    def piece(self, video: int, epoch: int) -> Piece:
        """Its frames, uint8 (N, S, S, 3). Raises as `ShardDataset.read_clip`."""
        random = np.random.default_rng((self.seed, epoch, video))
        whole = window_count(self.dataset, video, self.clip, self.dense)
        count = min(whole, self.windows)
        first = int(random.integers(whole - count + 1))
        start = first * self.dense.feature_stride
        frames = range(start, start + (count - 1) * self.dense.feature_stride + self.clip.span)
        (frames_NSSC,) = frame_pieces(self.dataset, video, self.clip, len(frames), frames)
        if random.random() < self.clip.flip_probability:
            frames_NSSC = frames_NSSC.flip(2)
        truth = true_segments(self.dataset, video).clear
        times = feature_times(self.dataset, video, self.clip, self.dense)
        segment_N2 = times.positions(truth.box_N4[:, 0::2]).float() - first
        edges = self.clip.span / 2 / self.dense.feature_stride
        inside_N2 = segment_N2.clamp(-edges, count - 1 + edges)
        shown_N = (inside_N2[:, 1] - inside_N2[:, 0]) >= LEAST_INSIDE * (segment_N2[:, 1] - segment_N2[:, 0])
        return Piece(frames_NSSC, inside_N2[shown_N], truth.label_N[shown_N])
