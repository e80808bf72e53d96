"""Features of a long video: those of a window every few frames, each frame decoded and normalised once.

Shape suffixes: N frames of a piece, T windows, S side of the frames, C channels, B windows of a batch, t, h, w of a
feature map, D features.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from dali_pipelines.cropping import crop_clip
from dali_pipelines.windows import ClipConfig, EvaluationWindows
from scenebias.evaluation.accuracy import evaluating
from scenebias.localize.features.tracks import FeatureTimes, FeatureTrack
from scenebias.models.action_model import ActionModel
from scenebias.models.backbones import Backbone
from shards.checks import require_at_least
from shards.dataset import ShardDataset


@dataclass(frozen=True, kw_only=True)
class DenseConfig:
    """Which windows of a video are looked at."""

    feature_stride: int = 4
    """Stored frames from one window's first to the next one's, a multiple of the window's own stride, and so few that
    every frame is in a window."""
    feature_batch_size: int = 32
    """Windows at a time."""

    def __post_init__(self) -> None:
        require_at_least(1, feature_stride=self.feature_stride, feature_batch_size=self.feature_batch_size)

    def check_fits(self, clip: ClipConfig) -> None:
        """Raise ValueError where windows cannot begin on the frames that others have, or leave frames out."""
        if self.feature_stride % clip.stride:
            raise ValueError(
                f"feature_stride must be a multiple of the stride of the windows' frames, {clip.stride}, got"
                f" {self.feature_stride}"
            )
        if self.feature_stride > clip.frames * clip.stride:
            raise ValueError(
                f"feature_stride must be at most {clip.frames * clip.stride}, the frames of a window, got"
                f" {self.feature_stride}"
            )


DEFAULT_DENSE = DenseConfig()


def dense_track(
    model: ActionModel, dataset: ShardDataset, sample: int, clip: ClipConfig, config: DenseConfig = DEFAULT_DENSE
) -> FeatureTrack:
    """The features of one video of a data set, on the CPU, by the statistics that the weights carry.

    Window n begins at frame n · ``feature_stride``; frames after the last whole window are in none, and a video that is
    shorter than a window loops. Takes memory for some pieces of the video, and its features.

    Raises:
        ValueError: see `DenseConfig.check_fits`.
        UserError: the video is damaged, or its shard cannot be fetched.
    """
    config.check_fits(clip)
    times = feature_times(dataset, sample, clip, config)
    pieces = frame_pieces(dataset, sample, clip, config.feature_batch_size * config.feature_stride // clip.stride)
    feature_CT = dense_features(
        model, pieces, clip.frames, config.feature_stride // clip.stride, config.feature_batch_size
    )
    return FeatureTrack(feature_CT=feature_CT, **vars(times))


def feature_times(dataset: ShardDataset, sample: int, clip: ClipConfig, config: DenseConfig) -> FeatureTimes:
    """When the features of a video of a data set are."""
    fps = dataset.info(sample).fps
    return FeatureTimes(
        first_s=clip.span / 2 / fps,
        step_s=config.feature_stride / fps,
        duration_s=int(dataset.frame_counts[sample]) / fps,
    )


def window_count(dataset: ShardDataset, sample: int, clip: ClipConfig, config: DenseConfig) -> int:
    """How many windows, and so features, a video of a data set has."""
    return max(0, int(dataset.frame_counts[sample]) - clip.span) // config.feature_stride + 1


def frame_pieces(
    dataset: ShardDataset, sample: int, clip: ClipConfig, piece_frames: int, frames: range | None = None
) -> Iterator[Tensor]:
    """Every ``clip.stride``-th frame of ``frames``, ``piece_frames`` at a time, uint8 (N, S, S, 3); None: of the video.

    The centre square is cut from each, as in evaluation; a video that is shorter than a window loops, to one.
    """
    frame_count = int(dataset.frame_counts[sample])
    counts, sizes = np.array([frame_count]), dataset.frame_sizes[sample][None]
    roi_22 = EvaluationWindows(clip, counts, sizes)[0:1].rois()[0]
    if frame_count < clip.span:
        indices = np.arange(clip.frames) * clip.stride % frame_count
    else:
        indices = np.array((range(frame_count) if frames is None else frames)[:: clip.stride])
    for start in range(0, len(indices), piece_frames):
        piece = indices[start : start + piece_frames]
        frames_NHWC = torch.from_numpy(dataset.decode(sample, dataset.read_clip(sample, piece)))
        square_NSSC = torch.empty(len(piece), clip.size, clip.size, 3, dtype=torch.uint8)
        crop_clip(frames_NHWC, roi_22, square_NSSC)
        yield square_NSSC


def dense_features(
    model: ActionModel, pieces: Iterable[Tensor], frames: int, stride: int, batch_size: int = 32
) -> Tensor:
    """The backbone's features of windows of ``frames`` frames, one every ``stride`` frames: float32 (D, T), on the CPU.

    ``pieces`` are those of one video, uint8 (N, S, S, 3), one after another. What the first layers make of a frame is
    made once, as far as it is the same in every window (see `shared_layers`): the result is that of the windows one by
    one, to the rounding of sums. No more of the video is in memory than a piece, and the windows of a batch.

    Raises:
        ValueError: the pieces have fewer frames than a window.
    """
    assert stride <= frames, "windows would leave frames out"
    shared, patch, rest = shared_layers(model.backbone, frames, stride)
    window, step = frames // patch, stride // patch
    features: list[Tensor] = []
    waiting: Tensor | None = None  # (1, C, t, h, w), what later windows need
    with evaluating(model), torch.inference_mode():
        for piece_NSSC in whole_patches(pieces, patch):
            map_1Cthw = shared(model.normalise(piece_NSSC[None].to(model.scale.device)))
            waiting = map_1Cthw if waiting is None else torch.cat([waiting, map_1Cthw], dim=2)
            while (count := min(batch_size, (waiting.shape[2] - window) // step + 1)) > 0:
                windows_BCthw = waiting[0].unfold(1, window, step)[:, :count].permute(1, 0, 4, 2, 3)
                windows_BCthw = windows_BCthw.contiguous(memory_format=torch.channels_last_3d)
                features.append(rest(windows_BCthw).float().cpu())
                waiting = waiting[:, :, count * step :].clone()  # so that what is left behind is let go of
    if not features:
        raise ValueError(f"the pieces must have the {frames} frames of a window at least")
    return torch.cat(features).T.contiguous()


def whole_patches(pieces: Iterable[Tensor], patch: int) -> Iterator[Tensor]:
    """The same frames in pieces of a multiple of ``patch``; what is left in the end is left out."""
    rest: Tensor | None = None
    for piece in pieces:
        joined = piece if rest is None else torch.cat([rest, piece])
        whole = len(joined) // patch * patch
        if whole:
            yield joined[:whole]
        rest = joined[whole:].clone()


def shared_layers(backbone: Backbone, frames: int, stride: int) -> tuple[nn.Module, int, nn.Module]:
    """What all windows share, the frames of its patches, and what is left of the network.

    A first layer is shared that cuts time into patches that do not overlap, and pads nothing, as small3d's does, where
    windows consist of whole patches and begin on them. Any that looks across, as those of ResNets, sees zeros around
    its window, and nothing can be shared but the normalised frames.
    """
    stages = list(backbone.trunk.children()) if isinstance(backbone.trunk, nn.Sequential) else []
    if stages and isinstance(stages[0], nn.Sequential) and isinstance(convolution := stages[0][0], nn.Conv3d):
        patch = convolution.kernel_size[0]
        cuts_patches = convolution.stride[0] == patch and convolution.padding[0] == 0
        is_pointwise = all(isinstance(layer, nn.BatchNorm3d | nn.ReLU) for layer in stages[0][1:])
        if cuts_patches and is_pointwise and frames % patch == 0 and stride % patch == 0:
            return stages[0], patch, nn.Sequential(*stages[1:])
    return nn.Identity(), 1, backbone
