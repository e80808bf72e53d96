"""The action model: the only network that is kept after pretraining.

Shape suffixes: B clips, T frames, H height, W width, C channels (red, green, blue), D features, A actions.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Self, cast

import torch
from torch import Tensor, nn

from dali_pipelines.windows import ClipConfig
from scenebias.models.backbones import BACKBONES, AnyBackbone, Backbone, BackboneName
from scenebias.models.heads import ActionHead
from scenebias.models.network_inputs import KINETICS, input_of
from scenebias.models.own_network import is_own, own_backbone

MEAN_C, STD_C = KINETICS
"""Of colour video, in the range 0 to 1."""


@dataclass(frozen=True)
class ModelConfig:
    """Which network to train."""

    backbone: AnyBackbone = "r3d_18"
    """The video network; resnet3d_18_a and _b: the paper's, with shortcuts of type A or B; mvit_v1_b and mvit_v2_s:
    Multiscale Vision Transformers; swin3d_t, _s and _b: Video Swin Transformers, for which see --recipe swin; small3d
    is made for CPUs. The defaults of --frames, --stride and --size are the network's own, but for a recipe's. Or
    package.module:function of your own, which makes a torch.nn.Module from normalised float clips (B, C, T, H, W) to
    features (B, D) or to a map (B, D, t, h, w)."""
    drop_path: float | None = None
    """How often the last block of a transformer is skipped in training; those before it less, the first never. None: as
    published, 0.2 for mvit_* and 0.1 for swin3d_*."""
    mean: tuple[float, float, float] | None = None
    """What is taken from red, green and blue, as 0 to 1, before they are divided by --std; None: as the network has
    it."""
    std: tuple[float, float, float] | None = None
    """What red, green and blue, as 0 to 1, are divided by; None: as the network has it."""
    dropout: float = 0.0
    """Share of the features dropped before the action head while training, 0 to below 1."""

    def __post_init__(self) -> None:
        if self.backbone not in BACKBONES and not is_own(self.backbone):
            raise ValueError(
                f"backbone must be one of {', '.join(BACKBONES)}, or package.module:function, not {self.backbone!r}"
            )
        if self.drop_path is not None and not 0 <= self.drop_path < 1:
            raise ValueError(f"drop_path must be from 0 to below 1, not {self.drop_path}")
        if self.std is not None and not all(value > 0 for value in self.std):
            raise ValueError(f"std must be above 0, not {self.std}")
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
        clip: ClipConfig | None = None,
        mean_C: Sequence[float] | None = None,
        std_C: Sequence[float] | None = None,
    ) -> None:
        """``mean_C`` and ``std_C`` are by default as ``config`` says, or those of the network; see `VideoClassifier`.

        A network of a user's own is tried out on clips that are cut as ``clip`` says; UserError where it cannot be
        made or does not take them. Its code runs: let no file choose it.
        """
        given = input_of(config.backbone)
        mean_C, std_C = mean_C or config.mean or given.pixels.mean_C, std_C or config.std or given.pixels.std_C
        super().__init__(action_count, mean_C, std_C)
        self.config = config
        self.backbone_is_frozen = False
        self.backbone = _backbone(config.backbone, clip or given.clip)
        if config.drop_path is not None:
            self.backbone.set_drop_path(config.drop_path)
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


def _backbone(name: AnyBackbone, clip: ClipConfig) -> Backbone:
    return own_backbone(name, clip) if is_own(name) else BACKBONES[cast("BackboneName", name)]()


def class_probabilities(model: nn.Module, clip_BTHWC: Tensor) -> Tensor:
    """What ``model``, which maps uint8 clip_BTHWC to logits, says of each clip: float64 (B, A)."""
    return model(clip_BTHWC).double().softmax(dim=1)
