"""Soft scene labels from the ResNets that the authors of Places365 publish (Zhou et al., TPAMI 2017).

Shape suffixes: N frames, C colours, H height, W width, S scene categories.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.models import get_model
from torchvision.transforms.functional import normalize

from scenebias.annotators.frame_network import Frame, FrameNetwork
from scenebias.annotators.network_weights import PublishedWeights
from shards.annotations import SceneNetwork
from shards.sample import SCENE_COUNT

SceneNetworkName = Literal["resnet18_places365", "resnet50_places365"]
SCENE_NETWORKS: tuple[SceneNetworkName, ...] = get_args(SceneNetworkName)

_URL = "http://places2.csail.mit.edu/models_places365"

# The authors' demo, run_placesCNN_basic.py: https://github.com/CSAILVision/places365
_RESIZED_SIDE, _CROP_SIDE = 256, 224
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


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
        for name in ("scene_every", "scene_batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


def open_scene_network(name: SceneNetworkName, config: SceneNetworkConfig, device: torch.device) -> SceneNetwork:
    """Build one of `SCENE_NETWORKS` on ``device``, with its weights.

    Raises:
        UserError: there are no weights, or they do not fit.
    """
    return PlacesNetwork(name, config, device)


class PlacesNetwork(FrameNetwork):
    """A ResNet that tells the 365 scenes of Places365 apart, in the order of ``categories_places365.txt``."""

    def __init__(self, name: SceneNetworkName, config: SceneNetworkConfig, device: torch.device) -> None:
        """Build it; see `open_scene_network`."""
        super().__init__(
            get_model(name.removesuffix("_places365"), weights=None, num_classes=SCENE_COUNT),
            PublishedWeights(network=name, url=f"{_URL}/{name}.pth.tar", option="--scene-weights"),
            config.scene_weights,
            every=config.scene_every,
            batch_size=config.scene_batch,
            batch_option="--scene-batch",
            device=device,
        )

    def probabilities(self, frames: Iterable[Frame]) -> Iterator[NDArray[np.float32]]:
        """For each uint8 RGB frame (H, W, 3), in order, yield float32 (365,), which sums to 1.

        Raises:
            UserError: the memory of the GPU ran out.
        """
        return self.run(self.classify, map(_central_square, frames))  # of one size: clips of all sizes share batches

    def classify(self, image_NCHW: Tensor) -> Tensor:
        """Return the probabilities, float (N, S), of uint8 images of 224 x 224."""
        prepared_NCHW = normalize(image_NCHW.float() / 255, list(_MEAN), list(_DEVIATION))
        with self.half_precision():
            score_NS = self.model(prepared_NCHW)
        return self.finite(score_NS.float()).softmax(dim=1)


def _central_square(frame: Frame) -> Frame:
    """Scale to 256 x 256, whatever the aspect, and cut out the central 224 x 224."""
    margin = (_RESIZED_SIDE - _CROP_SIDE) // 2
    box = (margin, margin, margin + _CROP_SIDE, margin + _CROP_SIDE)
    image = Image.fromarray(frame).resize((_RESIZED_SIDE, _RESIZED_SIDE), Image.Resampling.BILINEAR)
    return np.asarray(image.crop(box))
