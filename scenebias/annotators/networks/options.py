"""Which networks may annotate, and their options: apart from the networks, so that a command that needs none of them
starts without PyTorch, six times faster and with half a gigabyte less.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from shards.checks import require_at_least

MaskNetworkName = Literal[
    "maskrcnn_resnet50_fpn",
    "maskrcnn_resnet50_fpn_v2",
    "lraspp_mobilenet_v3_large",
    "deeplabv3_mobilenet_v3_large",
    "deeplabv3_resnet50",
    "deeplabv3_resnet101",
]
MASK_NETWORKS: tuple[MaskNetworkName, ...] = get_args(MaskNetworkName)

SceneNetworkName = Literal["resnet18_places365", "resnet50_places365"]
SCENE_NETWORKS: tuple[SceneNetworkName, ...] = get_args(SceneNetworkName)


@dataclass(frozen=True, kw_only=True)
class MaskNetworkConfig:
    """How a network makes human masks."""

    mask_weights: Path | None = None
    """Weights of the mask network: the file that torchvision publishes, or the same as .safetensors. By default
    torchvision downloads it."""
    mask_score: float = 0.5
    """Mask R-CNN: people are the detections with a score above this."""
    mask_threshold: float = 0.5
    """Mask R-CNN: a person covers the pixels where the mask is above this."""
    mask_every: int = 1
    """Look for people in every k-th frame; the frames between keep the mask before them."""
    mask_batch: int = 8
    """Frames that the mask network gets at once on a GPU. On a CPU each core works on one frame."""
    mask_input_side: int | None = None
    """Shorter side in pixels to which frames are scaled for the mask network: smaller is faster and coarser. By default
    what the network was made for: 800 for Mask R-CNN, 520 for the others."""

    def __post_init__(self) -> None:
        for name in ("mask_score", "mask_threshold"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 0 and below 1, got {getattr(self, name)}")
        require_at_least(1, mask_every=self.mask_every, mask_batch=self.mask_batch)
        require_at_least(32, mask_input_side=self.mask_input_side)


@dataclass(frozen=True, kw_only=True)
class SceneNetworkConfig:
    """How a network makes scene labels."""

    scene_weights: Path | None = None
    """Weights of the scene network: the published resnet18_places365.pth.tar or resnet50_places365.pth.tar, its bare
    state dict, or the same as .safetensors. By default it is downloaded, without a check: no hash is published."""
    scene_every: int = 16
    """Label every k-th frame; the label of a clip is their mean."""
    scene_batch: int = 64
    """Frames that the scene network gets at once on a GPU. On a CPU each core works on one frame."""

    def __post_init__(self) -> None:
        require_at_least(1, scene_every=self.scene_every, scene_batch=self.scene_batch)
