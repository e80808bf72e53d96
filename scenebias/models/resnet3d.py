"""The paper's network: the 3D ResNet-18 of Hara et al. (ICCV workshops 2017), with shortcuts of type A or B.

It is the video ResNet of torchvision behind another stem: a 7x7x7 convolution of stride 1x2x2 and a max-pool of
stride 2, which leave half the frames and a quarter of the height and width.

Shape suffixes: B clips, C channels, T frames, H height, W width.
"""

from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from torchvision.models.video.resnet import VideoResNet

Shortcut = Literal["A", "B"]


class PaddedShortcut(nn.Module):
    """A shortcut without weights: every ``stride``-th value along T, H and W, then channels of zeros up to the number.

    Type A of He et al. (CVPR 2016). The code of Hara et al. cuts the gradient off here; as published, it passes.
    """

    def __init__(self, channel_count: int, stride: int) -> None:
        super().__init__()
        self.channel_count, self.stride = channel_count, stride

    def forward(self, input_BCTHW: Tensor) -> Tensor:
        # In the order of channels_last_3d, so that the gradient has that layout too.
        input_BTHWC = input_BCTHW.permute(0, 2, 3, 4, 1)
        taken_BTHWC = input_BTHWC[:, :: self.stride, :: self.stride, :: self.stride]
        padded_BTHWC = functional.pad(taken_BTHWC, (0, self.channel_count - input_BCTHW.shape[1]))
        return padded_BTHWC.permute(0, 4, 1, 2, 3)

    def extra_repr(self) -> str:
        return f"{self.channel_count}, stride={self.stride}"


def _stem() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(3, 64, kernel_size=7, stride=(1, 2, 2), padding=3, bias=False),
        nn.BatchNorm3d(64),
        nn.ReLU(inplace=True),
        nn.MaxPool3d(kernel_size=3, stride=2, padding=1),
    )


def resnet3d_18(shortcut: Shortcut) -> "VideoResNet":
    """The network with the classifier that torchvision gives it, at random weights.

    Where a stage halves its input, ``shortcut`` A pads its channels with zeros, and B is a learned 1x1x1 convolution.
    """
    from torchvision.models.video.resnet import BasicBlock, Conv3DSimple, VideoResNet  # see `backbones`

    network: Any = VideoResNet(BasicBlock, [Conv3DSimple] * 4, [2, 2, 2, 2], _stem)
    if shortcut == "A":
        for stage, channel_count in ((network.layer2, 128), (network.layer3, 256), (network.layer4, 512)):
            stage[0].downsample = PaddedShortcut(channel_count, stride=2)
    return network
