"""The video networks: `BACKBONES[name]()` builds one that takes a normalised clip and returns its features.

Shape suffixes: B clips, C channels, T frames, H height, W width, D features.

None comes with pretrained weights: to pretrain them is the point of the project. Those that others have trained with
the code of the paper come in through ``python -m scenebias.import_weights``. torchvision, whose import takes as long as
that of PyTorch, is imported for its networks alone.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from scenebias.models.resnet3d import Shortcut, resnet3d_18


class Backbone(nn.Module):
    """A trunk that ends in one feature vector a clip, of ``feature_count`` (D) numbers: the mean of its last map.

    Its weights lie in ``channels_last_3d`` layout, and so should its input.
    """

    def __init__(self, trunk: nn.Module, feature_count: int, *, is_convolutional: bool = True) -> None:
        super().__init__()
        self.trunk = trunk.to(memory_format=torch.channels_last_3d)
        self.feature_count = feature_count
        self.is_convolutional = is_convolutional
        """Whether its children, one after another, are stages from map to map (B, C, T, H, W)."""

    def forward(self, clip_BCTHW: Tensor) -> Tensor:
        """Normalised float clip to features (B, D)."""
        return self.trunk(clip_BCTHW)


def _of_torchvision(name: str) -> Backbone:
    """A video ResNet of torchvision (Tran et al., CVPR 2018)."""
    from torchvision.models import video

    return _without_classifier(getattr(video, name)())


def _swin(name: str) -> Backbone:
    """A Video Swin Transformer of torchvision (Liu et al., CVPR 2022); a smaller clip has smaller windows."""
    from torchvision.models import video

    network: Any = getattr(video, name)()
    feature_count = network.head.in_features
    network.head = nn.Identity()
    return Backbone(network, feature_count, is_convolutional=False)


def _of_the_paper(shortcut: Shortcut) -> Backbone:
    return _without_classifier(resnet3d_18(shortcut))


def _without_classifier(network: Any) -> Backbone:
    """A video ResNet up to its features."""
    feature_count = network.fc.in_features
    network.fc = nn.Identity()
    return Backbone(network, feature_count)


def _convolution(in_channels: int, out_channels: int, kernel: int, stride: tuple[int, int, int]) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(in_channels, out_channels, kernel, stride, padding=kernel // 2, bias=False),
        nn.BatchNorm3d(out_channels),
        nn.ReLU(inplace=True),
    )


def _small3d() -> Backbone:
    """A network that trains on a CPU: 0.29 M parameters, 49 M multiply-adds for a clip of 16 x 112 x 112.

    The stem cuts the clip into patches of 2 frames by 4 x 4 pixels: each sees the change between two neighbouring
    frames, and the full-resolution layers that dominate the cost of a ResNet are gone. The next layer compares patches
    over 6 frames before time is halved again. Any clip of at least 2 frames and 4 x 4 pixels is accepted.
    """
    stem = nn.Sequential(
        nn.Conv3d(3, 16, kernel_size=(2, 4, 4), stride=(2, 4, 4), bias=False),
        nn.BatchNorm3d(16),
        nn.ReLU(inplace=True),
    )
    trunk = nn.Sequential(
        stem,
        _convolution(16, 32, kernel=3, stride=(1, 2, 2)),
        _convolution(32, 64, kernel=3, stride=(2, 2, 2)),
        _convolution(64, 128, kernel=3, stride=(2, 2, 2)),
        nn.AdaptiveAvgPool3d(1),
        nn.Flatten(),
    )
    return Backbone(trunk, feature_count=128)


BackboneName = Literal[
    "r3d_18",
    "mc3_18",
    "r2plus1d_18",
    "resnet3d_18_a",
    "resnet3d_18_b",
    "swin3d_t",
    "swin3d_s",
    "swin3d_b",
    "small3d",
]
BACKBONES: dict[BackboneName, Callable[[], Backbone]] = {
    "r3d_18": partial(_of_torchvision, "r3d_18"),
    "mc3_18": partial(_of_torchvision, "mc3_18"),
    "r2plus1d_18": partial(_of_torchvision, "r2plus1d_18"),
    "resnet3d_18_a": partial(_of_the_paper, "A"),
    "resnet3d_18_b": partial(_of_the_paper, "B"),
    "swin3d_t": partial(_swin, "swin3d_t"),
    "swin3d_s": partial(_swin, "swin3d_s"),
    "swin3d_b": partial(_swin, "swin3d_b"),
    "small3d": _small3d,
}
