"""The detector of segments: a pyramid over features in time, whose points tell a class and how far start and end are.

Shape suffixes: B videos, C channels, T features, t features of a level, P points of all levels, A actions.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from shards.checks import require_at_least

_PRIOR = 0.01
"""The probability of each class at every point before anything is learned (Lin et al., "Focal loss", 2017)."""
_FIRST_DISTANCE = 4.0
"""How far start and end are then, in points of the level."""


@dataclass(frozen=True, kw_only=True)
class PyramidConfig:
    """How large the detector of segments is."""

    levels: int = 4
    """Levels of the pyramid, each with half the points of the one below; more levels see longer segments at once."""
    width: int = 128
    """Channels within the detector."""
    stem_layers: int = 2
    """Convolutions before the pyramid."""
    head_layers: int = 2
    """Convolutions before the classes, and as many before the distances."""

    def __post_init__(self) -> None:
        require_at_least(
            1, levels=self.levels, width=self.width, stem_layers=self.stem_layers, head_layers=self.head_layers
        )


@dataclass(frozen=True, eq=False)
class PointOutputs:
    """What the points of all levels say, level after level."""

    logits_BPA: Tensor
    distance_BP2: Tensor
    """To the start and to the end, at least 0, in steps of the features."""
    is_inside_BP: Tensor
    """bool, whether a point is one of its video's, and not of what fills it up."""


class _Layer(nn.Module):
    """Convolution, LayerNorm over channels, ReLU: what lies after the end of a video changes nothing before it."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(in_channels, out_channels, kernel_size=3, padding=1)
        self.norm = nn.LayerNorm(out_channels)

    def forward(self, x_BCt: Tensor, is_inside_Bt: Tensor) -> Tensor:
        x_BCt = self.norm(self.convolution(x_BCt).transpose(1, 2)).transpose(1, 2).relu()
        return x_BCt * is_inside_Bt[:, None]


class Pyramid(nn.Module):
    """Convolutions, then levels of max-pooling alone, and heads that all levels share.

    TemporalMaxer (Tang et al., 2023): max-pooling does what ActionFormer's transformers do (Zhang et al., ECCV 2022),
    whose heads these are. Point n of level l lies at feature n · 2^l. Features are standardised here; how, goes with
    the weights.
    """

    mean_C1: Tensor
    std_C1: Tensor

    def __init__(self, feature_count: int, class_count: int, config: PyramidConfig) -> None:
        super().__init__()
        self.config, self.class_count = config, class_count
        widths = [feature_count] + [config.width] * config.stem_layers
        self.stem = nn.ModuleList(_Layer(*pair) for pair in pairwise(widths))
        self.class_layers = self._head_layers()
        self.distance_layers = self._head_layers()
        self.classes = nn.Conv1d(config.width, class_count, kernel_size=3, padding=1)
        self.distances = nn.Conv1d(config.width, 2, kernel_size=3, padding=1)
        nn.init.constant_(self.classes.bias, -math.log((1 - _PRIOR) / _PRIOR))  # type: ignore[arg-type]
        nn.init.constant_(self.distances.bias, _FIRST_DISTANCE)  # type: ignore[arg-type]
        self.register_buffer("mean_C1", torch.zeros(feature_count, 1))
        self.register_buffer("std_C1", torch.ones(feature_count, 1))

    def _head_layers(self) -> nn.ModuleList:
        return nn.ModuleList(_Layer(self.config.width, self.config.width) for _ in range(self.config.head_layers))

    def standardise_by(self, features: Sequence[Tensor]) -> None:
        """Subtract the mean of these float (C, T) from all features, channel by channel, and divide by their deviation.

        A channel that is constant in them is only moved.
        """
        feature_CT = torch.cat(list(features), dim=1).double()
        std_C1 = feature_CT.std(dim=1, correction=0, keepdim=True)
        self.mean_C1.copy_(feature_CT.mean(dim=1, keepdim=True))
        self.std_C1.copy_(torch.where(std_C1 > 0, std_C1, 1.0))

    def forward(self, feature_BCT: Tensor, length_B: Tensor) -> PointOutputs:
        """The first ``length_B`` features of each video count; what fills it up does not."""
        inside_Bt = torch.arange(feature_BCT.shape[2], device=length_B.device) < length_B[:, None]
        x_BCt = (feature_BCT - self.mean_C1) / self.std_C1 * inside_Bt[:, None]
        for layer in self.stem:
            x_BCt = layer(x_BCt, inside_Bt)
        logits, distances, inside = [], [], []
        for level in range(self.config.levels):
            if level:
                # No value is below 0, so that zeros after the end of a video are never the highest.
                inside_Bt = inside_Bt[:, ::2]
                x_BCt = functional.max_pool1d(x_BCt, kernel_size=3, stride=2, padding=1) * inside_Bt[:, None]
            logits.append(self.classes(_through(self.class_layers, x_BCt, inside_Bt)).transpose(1, 2))
            raw_B2t = self.distances(_through(self.distance_layers, x_BCt, inside_Bt))
            distances.append(functional.softplus(raw_B2t).transpose(1, 2) * 2**level)
            inside.append(inside_Bt)
        return PointOutputs(torch.cat(logits, dim=1), torch.cat(distances, dim=1), torch.cat(inside, dim=1))


def _through(layers: nn.ModuleList, x_BCt: Tensor, is_inside_Bt: Tensor) -> Tensor:
    for layer in layers:
        x_BCt = layer(x_BCt, is_inside_Bt)
    return x_BCt
