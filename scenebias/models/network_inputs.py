"""What each network takes unless it is told otherwise: the length and size of clips, and how pixels are normalised.

Of S3D and the transformers it is what torchvision's documentation says of its weights, at 30 stored frames a second;
all others take the clips of the paper, and pixels as torchvision's Kinetics-400 recipe has them.
"""

from collections.abc import Mapping
from typing import NamedTuple

from dali_pipelines.windows import ClipConfig


class Pixels(NamedTuple):
    """Mean and standard deviation of red, green and blue, on the scale 0 to 1."""

    mean_C: tuple[float, float, float]
    std_C: tuple[float, float, float]


class NetworkInput(NamedTuple):
    """How a network's clips are cut, and its pixels normalised."""

    clip: ClipConfig
    pixels: Pixels


KINETICS = Pixels((0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989))
"""Of torchvision's Kinetics-400 recipe; they suit any colour video."""
_IMAGENET = Pixels((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_SLOWFAST = Pixels((0.45, 0.45, 0.45), (0.225, 0.225, 0.225))
_AS_THE_PAPER = NetworkInput(ClipConfig(), KINETICS)
_SWIN = NetworkInput(ClipConfig(frames=32, stride=2, size=224), _IMAGENET)
_MVIT = NetworkInput(ClipConfig(frames=16, stride=4, size=224), _SLOWFAST)
_INPUTS: Mapping[str, NetworkInput] = {
    "s3d": NetworkInput(ClipConfig(frames=64, stride=2, size=224), KINETICS),
    "mvit_v1_b": _MVIT,
    "mvit_v2_s": _MVIT,
    "swin3d_t": _SWIN,
    "swin3d_s": _SWIN,
    "swin3d_b": _SWIN,
}
"""torchvision trained s3d on 64 frames, and tests it on 128."""


def input_of(backbone: str) -> NetworkInput:
    """What the network of this name takes by default."""
    return _INPUTS.get(backbone, _AS_THE_PAPER)
