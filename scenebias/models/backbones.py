"""The video networks: `BACKBONES[name]()` builds one that takes a normalised clip and returns its features.

Shape suffixes: B clips, C channels, T frames, H height, W width, D features.

None comes with pretrained weights: to pretrain them is the point of the project. Those that others have trained with
the code of the paper come in through ``python -m scenebias.import_weights``. torchvision, whose import takes as long as
that of PyTorch, is imported for its networks alone.
"""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from scenebias.models.resnet3d import Shortcut, resnet3d_18
from shards.errors import UserError


class Backbone(nn.Module):
    """A trunk that ends in one feature vector a clip, of ``feature_count`` (D) numbers.

    They are the mean of its last map, but for an MViT, which has a token for them. Its weights lie in
    ``channels_last_3d`` layout, and so should its input.
    """

    def __init__(
        self,
        trunk: nn.Module,
        feature_count: int,
        *,
        is_convolutional: bool = True,
        only_shape_THW: tuple[int, int, int] | None = None,
    ) -> None:
        super().__init__()
        self.trunk = trunk.to(memory_format=torch.channels_last_3d)
        self.feature_count = feature_count
        self.is_convolutional = is_convolutional
        """Whether its children, one after another, are stages from map to map (B, C, T, H, W)."""
        self.only_shape_THW = only_shape_THW
        """The only clips that it takes; None: any that are not too small."""

    def forward(self, clip_BCTHW: Tensor) -> Tensor:
        """Normalised float clip to features (B, D); UserError for a clip of another shape than the only one."""
        if self.only_shape_THW is not None and tuple(clip_BCTHW.shape[2:]) != self.only_shape_THW:
            frames, height, width = self.only_shape_THW
            raise UserError(
                f"the network takes clips of {frames} frames of {height} x {width} pixels alone, of which its"
                f" positional encoding is, and not {' x '.join(map(str, clip_BCTHW.shape[2:]))}: set --frames {frames}"
                f" and --size {height}"
            )
        return self.trunk(clip_BCTHW)

    @property
    def layers(self) -> list[list[nn.Parameter]]:
        """Its parameters by layers or blocks of layers, from the input on, each parameter once."""
        blocks = [list(block.parameters()) for block in blocks_of(self.trunk)]
        within = {id(parameter) for parameters in blocks for parameter in parameters}
        blocks.insert(0, [parameter for parameter in self.parameters() if id(parameter) not in within])
        seen: set[int] = set()
        layers = []
        for parameters in blocks:
            layers.append([parameter for parameter in parameters if id(parameter) not in seen])
            seen.update(map(id, parameters))
        return [layer for layer in layers if layer]

    def set_drop_path(self, largest: float) -> None:
        """Skip blocks in training at random, clip by clip: the last so often, the first never, linearly in between.

        Stochastic depth (Huang et al., ECCV 2016, section 3), as torchvision's transformers have it. UserError where
        the network has no blocks that can be skipped so.
        """
        skips = [module for module in self.modules() if type(module).__name__ == "StochasticDepth"]
        if not skips:
            raise UserError("--drop-path skips blocks of mvit_* and swin3d_*, and this network has none: leave it out")
        for number, skip in enumerate(skips):
            setattr(skip, "p", largest * number / max(1, len(skips) - 1))  # noqa: B010 - torchvision is not imported here


def blocks_of(module: nn.Module) -> Iterator[nn.Module]:
    """The layers and blocks of layers of ``module`` in their order: of a ResNet its stem, and its residual blocks."""
    for child in module.children():
        if isinstance(child, nn.Sequential | nn.ModuleList) and any(
            True for grandchild in child for _ in grandchild.children()
        ):
            yield from blocks_of(child)
        else:
            yield child


class Parts(NamedTuple):
    """A published network, taken apart."""

    backbone: Backbone
    classifier: Any
    """Its last layer, linear or a convolution of one point."""


def parts_of(network: Any) -> Parts:
    """A video network of torchvision, or a ResNet like these, as its backbone and its classifier.

    They hold the network's own layers, which it loses.
    """
    kind = type(network).__name__
    if kind == "S3D":
        return Parts(Backbone(_s3d_trunk(network), 1024), network.classifier[-1])
    if kind == "MViT":
        classifier, network.head = network.head[-1], nn.Identity()
        return Parts(_mvit(network, classifier.in_features), classifier)
    if kind == "SwinTransformer3d":  # a smaller clip has smaller windows
        classifier, network.head = network.head, nn.Identity()
        return Parts(Backbone(network, classifier.in_features, is_convolutional=False), classifier)
    classifier, network.fc = network.fc, nn.Identity()
    return Parts(Backbone(network, classifier.in_features), classifier)


def _of_torchvision(name: str) -> Backbone:
    from torchvision.models import video

    return parts_of(getattr(video, name)()).backbone


def _of_the_paper(shortcut: Shortcut) -> Backbone:
    return parts_of(resnet3d_18(shortcut)).backbone


def _mvit(network: Any, feature_count: int) -> Backbone:
    places, strides = network.pos_encoding, network.conv_proj.stride
    shape = (places.temporal_size, *places.spatial_size)
    frames, height, width = (count * stride for count, stride in zip(shape, strides, strict=True))
    return Backbone(network, feature_count, is_convolutional=False, only_shape_THW=(frames, height, width))


_S3D_STAGES = (0, 1, 4, 7, 13, 16)
"""Where in torchvision's S3D the maps become coarser."""


def _s3d_trunk(network: Any) -> nn.Sequential:
    """The layers of torchvision's S3D up to its features, a stage for each resolution."""
    layers = list(network.features)
    stages = [nn.Sequential(*layers[a:b]) for a, b in pairwise(_S3D_STAGES)]
    stages[-1].append(SlidingMeanWeights(network.avgpool.kernel_size))
    return nn.Sequential(*stages, nn.AdaptiveAvgPool3d(1), nn.Flatten())


class SlidingMeanWeights(nn.Module):
    """Weights the places of a map so that its mean is that of the means of all windows of ``window_THW`` in it.

    Places at the border lie in fewer windows. A window is no larger than the map.
    """

    def __init__(self, window_THW: tuple[int, int, int]) -> None:
        super().__init__()
        self.window_THW = window_THW

    def forward(self, map_BCTHW: Tensor) -> Tensor:
        """The same map, weighted."""
        for axis, window in enumerate(self.window_THW, start=2):
            count = map_BCTHW.shape[axis]
            if (length := min(window, count)) < count:
                place_N = torch.arange(count, device=map_BCTHW.device)
                covering_N = torch.minimum(place_N + 1, count - place_N).clamp(max=min(length, count - length + 1))
                weight_N = covering_N * (count / (length * (count - length + 1)))
                map_BCTHW = map_BCTHW * weight_N.to(map_BCTHW.dtype).view(-1, *[1] * (4 - axis))
        return map_BCTHW


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
    "s3d",
    "mvit_v1_b",
    "mvit_v2_s",
    "swin3d_t",
    "swin3d_s",
    "swin3d_b",
    "small3d",
]
AnyBackbone = BackboneName | str
"""One of these, or ``package.module:function`` of a user's own, see `scenebias.models.own_network`."""
_OF_TORCHVISION: tuple[BackboneName, ...] = (
    "r3d_18",
    "mc3_18",
    "r2plus1d_18",
    "s3d",
    "mvit_v1_b",
    "mvit_v2_s",
    "swin3d_t",
    "swin3d_s",
    "swin3d_b",
)
_MAKERS: dict[BackboneName, Callable[[], Backbone]] = {
    **{name: partial(_of_torchvision, name) for name in _OF_TORCHVISION},
    "resnet3d_18_a": partial(_of_the_paper, "A"),
    "resnet3d_18_b": partial(_of_the_paper, "B"),
    "small3d": _small3d,
}
BACKBONES: dict[BackboneName, Callable[[], Backbone]] = {name: _MAKERS[name] for name in get_args(BackboneName)}
