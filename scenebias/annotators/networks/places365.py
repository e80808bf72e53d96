"""Soft scene labels from the ResNets that the authors of Places365 publish (Zhou et al., TPAMI 2017).

Shape suffixes: N frames, C colours, H height, W width, S scene categories.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.models import get_model
from torchvision.transforms.functional import normalize

from scenebias.annotators.networks.frame_network import Frame, FrameNetwork
from scenebias.annotators.networks.options import SceneNetworkConfig, SceneNetworkName
from scenebias.models.published.published_weights import PublishedWeights
from shards.format.sample import SCENE_COUNT
from shards.packing.annotations import SceneNetwork

_URL = "http://places2.csail.mit.edu/models_places365"

# The authors' demo, run_placesCNN_basic.py: https://github.com/CSAILVision/places365
_RESIZED_SIDE, _CROP_SIDE = 256, 224
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def open_scene_network(name: SceneNetworkName, config: SceneNetworkConfig, device: torch.device | str) -> SceneNetwork:
    """Build one of `SceneNetworkName` on ``device``, with its weights.

    Raises:
        UserError: there are no weights, or they do not fit.
    """
    return PlacesNetwork(name, config, torch.device(device))


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
