"""The action model: the only network that is kept after pretraining.

Shape suffixes: B clips, T frames, H height, W width, C channels (red, green, blue), D features, A actions.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from scenebias.models.backbones import BACKBONES, BackboneName
from scenebias.models.heads import ActionHead

# Of torchvision's Kinetics-400 recipe; they suit any colour video, in the range 0 to 1.
MEAN_C = (0.43216, 0.394666, 0.37645)
STD_C = (0.22803, 0.22145, 0.216989)


@dataclass(frozen=True)
class ModelConfig:
    """Which network to train."""

    backbone: BackboneName = "r3d_18"
    """The video network; resnet3d_18_a and _b: the paper's, with shortcuts of type A or B; swin3d_t, _s and
    _b: Video Swin Transformers, for which see --recipe swin; small3d is made for CPUs."""
    dropout: float = 0.0
    """Share of the features dropped before the action head while training, 0 to below 1."""

    def __post_init__(self) -> None:
        if self.backbone not in BACKBONES:
            raise ValueError(f"backbone must be one of {', '.join(BACKBONES)}, not {self.backbone!r}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be from 0 to below 1, not {self.dropout}")


class VideoClassifier(nn.Module, ABC):
    """From the stored pixels to action logits, by way of features.

    Clips are uint8 (B, T, H, W, 3) on the model's device. They are normalised here and nowhere else, so that no caller
    can forget to or do it twice; how, goes with the weights. Seen as (B, C, T, H, W) such a clip already lies in
    ``channels_last_3d`` layout.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, action_count: int, mean_C: Sequence[float], std_C: Sequence[float]) -> None:
        """``mean_C`` and ``std_C`` normalise the pixels, taken as 0 to 1; weights that come from elsewhere need theirs.

        They cannot be folded into the first convolution: it pads with zeros after normalisation, so the mean shows.
        """
        super().__init__()
        self.action_count = action_count
        std_1C111 = torch.tensor(std_C, dtype=torch.float64).view(1, 3, 1, 1, 1)
        mean_1C111 = torch.tensor(mean_C, dtype=torch.float64).view(1, 3, 1, 1, 1)
        self.register_buffer("scale", (1 / (255 * std_1C111)).float())
        self.register_buffer("shift", (-mean_1C111 / std_1C111).float())

    @property
    @abstractmethod
    def feature_count(self) -> int:
        """D."""

    def normalise(self, clip_BTHWC: Tensor) -> Tensor:
        """The clip as float (B, C, T, H, W) in ``channels_last_3d`` layout, of about zero mean."""
        return torch.addcmul(self.shift, clip_BTHWC.permute(0, 4, 1, 2, 3), self.scale)

    @abstractmethod
    def features(self, clip_BTHWC: Tensor) -> Tensor:
        """What it sees in each clip, (B, D)."""

    @abstractmethod
    def forward(self, clip_BTHWC: Tensor) -> Tensor:
        """Action logits, (B, A)."""


class ActionModel(VideoClassifier):
    """Backbone and action head."""

    def __init__(
        self,
        config: ModelConfig,
        action_count: int,
        *,
        mean_C: Sequence[float] = MEAN_C,
        std_C: Sequence[float] = STD_C,
    ) -> None:
        super().__init__(action_count, mean_C, std_C)
        self.config = config
        self.backbone_is_frozen = False
        self.backbone = BACKBONES[config.backbone]()
        self.head = ActionHead(self.backbone.feature_count, action_count, config.dropout)

    @property
    def feature_count(self) -> int:
        return self.backbone.feature_count

    def with_classes(self, place_K: Tensor) -> "ActionModel":
        """A copy that knows the classes in these places of its own alone, int64 (K,)."""
        copied = deepcopy(self)
        copied.action_count = len(place_K)
        copied.head = ActionHead(self.feature_count, len(place_K), self.config.dropout)
        copied.head.load_state_dict({name: tensor[place_K] for name, tensor in self.head.state_dict().items()})
        return copied

    def freeze_backbone(self, frozen: bool = True) -> None:
        """Keep the backbone as it is, its BatchNorm statistics included, so that the head alone learns; or free it."""
        self.backbone_is_frozen = frozen
        self.backbone.requires_grad_(not frozen).train(self.training and not frozen)

    def train(self, mode: bool = True) -> Self:
        """Switch between training and evaluation; a frozen backbone stays in evaluation."""
        super().train(mode)
        if self.backbone_is_frozen:
            self.backbone.eval()
        return self

    def features(self, clip_BTHWC: Tensor) -> Tensor:
        return self.backbone(self.normalise(clip_BTHWC))

    def forward(self, clip_BTHWC: Tensor) -> Tensor:
        return self.head(self.features(clip_BTHWC))


def class_probabilities(model: nn.Module, clip_BTHWC: Tensor) -> Tensor:
    """What ``model``, which maps uint8 clip_BTHWC to logits, says of each clip: float64 (B, A)."""
    return model(clip_BTHWC).double().softmax(dim=1)
