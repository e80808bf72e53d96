"""Human masks from torchvision's segmentation networks.

Instance segmentation (Mask R-CNN) finds people one by one, semantic segmentation (LR-ASPP, DeepLabV3) labels pixels: it
is many times faster, and coarser.

Shape suffixes: N frames, C colours, K classes, H height, W width.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from numpy import bool_
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torchvision.models import get_model, get_model_weights

from scenebias.annotators.networks.frame_network import Frame, FrameNetwork
from scenebias.annotators.networks.options import MaskNetworkConfig, MaskNetworkName
from scenebias.models.published.published_weights import PublishedWeights
from shards.packing.annotations import MaskNetwork


def open_mask_network(name: MaskNetworkName, config: MaskNetworkConfig, device: torch.device | str) -> MaskNetwork:
    """Build one of `MaskNetworkName` on ``device``, with its weights.

    Raises:
        UserError: there are no weights, or they do not fit.
    """
    kind = InstanceSegmentation if name.startswith("maskrcnn") else SemanticSegmentation
    return kind(name, config, torch.device(device))


class PersonNetwork(FrameNetwork, ABC):
    """A network of torchvision that finds people."""

    def __init__(
        self, name: MaskNetworkName, build_options: dict[str, Any], config: MaskNetworkConfig, device: torch.device
    ) -> None:
        """Build it as torchvision does for its published weights, and load them; see `open_mask_network`."""
        self.weights = get_model_weights(name).DEFAULT
        categories = self.weights.meta["categories"]
        self.person = categories.index("person")
        super().__init__(
            get_model(name, weights=None, weights_backbone=None, num_classes=len(categories), **build_options),
            PublishedWeights(network=name, url=self.weights.url, option="--mask-weights"),
            config.mask_weights,
            every=config.mask_every,
            batch_size=config.mask_batch,
            batch_option="--mask-batch",
            device=device,
        )

    def masks(self, frames: Iterable[Frame]) -> Iterator[NDArray[bool_]]:
        """For each uint8 RGB frame (H, W, 3), in order, yield bool (H, W), true on people.

        Raises:
            UserError: the memory of the GPU ran out.
        """
        return self.run(self.find, frames)

    @abstractmethod
    def find(self, image_NCHW: Tensor) -> Tensor:
        """Return bool (N, H, W) for uint8 images."""


class InstanceSegmentation(PersonNetwork):
    """Mask R-CNN (He et al., ICCV 2017): the union of all people that it finds."""

    def __init__(self, name: MaskNetworkName, config: MaskNetworkConfig, device: torch.device) -> None:
        # Lower scores never suppress higher ones: boxes that will not count need no masks.
        options: dict[str, Any] = {"box_score_thresh": config.mask_score}
        if config.mask_input_side:
            options |= {"min_size": config.mask_input_side, "max_size": config.mask_input_side * 5 // 3}
        super().__init__(name, options, config, device)
        if name == "maskrcnn_resnet50_fpn":
            # What its published weights were trained with; torchvision sets it when it loads them.
            for module in self.model.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eps = 0.0
        self._prepare = self.weights.transforms()
        self._threshold = config.mask_threshold
        self._settings |= {
            "input_side": self.model.transform.min_size[0],
            "score": config.mask_score,
            "threshold": config.mask_threshold,
        }

    def find(self, image_NCHW: Tensor) -> Tensor:
        """Return bool (N, H, W) for uint8 images; the network's steps are those of torchvision's GeneralizedRCNN."""
        images, _ = self.model.transform(list(self._prepare(image_NCHW)))
        with self.half_precision():
            feature_maps = self.model.backbone(images.tensors.contiguous(memory_format=torch.channels_last))
        # Boxes need float32: their coordinates reach 1333, and those of different classes are told apart by an offset.
        feature_maps = {level: self.finite(maps_NCHW.float()) for level, maps_NCHW in feature_maps.items()}
        proposals, _ = self.model.rpn(images, feature_maps)
        people_HW = []
        # Image by image: the number of proposals differs, and with it would the shape of a batch of them.
        for i, (boxes, size) in enumerate(zip(proposals, images.image_sizes, strict=True)):
            feature_map = {level: maps_NCHW[i : i + 1] for level, maps_NCHW in feature_maps.items()}
            [found], _ = self.model.roi_heads(feature_map, [boxes], [size])
            is_person = found["labels"] == self.person
            people = {key: found[key][is_person] for key in ("boxes", "masks")}
            [people] = self.model.transform.postprocess([people], [size], [tuple(image_NCHW.shape[2:])])
            people_HW.append((people["masks"][:, 0] > self._threshold).any(dim=0))
        return torch.stack(people_HW)


class SemanticSegmentation(PersonNetwork):
    """LR-ASPP (Howard et al., ICCV 2019), DeepLabV3 (Chen et al., 2017): all pixels that most likely show a person."""

    def __init__(self, name: MaskNetworkName, config: MaskNetworkConfig, device: torch.device) -> None:
        # The published weights of DeepLabV3 include a second classifier, which only training needs.
        second = name.startswith("deeplabv3")
        super().__init__(name, {"aux_loss": True} if second else {}, config, device)
        self.model.aux_classifier = None
        side = config.mask_input_side
        self._prepare = self.weights.transforms(**({"resize_size": side} if side else {}))
        self._settings["input_side"] = self._prepare.resize_size[0]

    def find(self, image_NCHW: Tensor) -> Tensor:
        """Return bool (N, H, W) for uint8 images."""
        prepared_NCHW = self._prepare(image_NCHW)
        with self.half_precision():
            score_NKHW = self.model(prepared_NCHW)["out"]
        score_NKHW = interpolate(self.finite(score_NKHW.float()), image_NCHW.shape[2:], mode="bilinear")
        return score_NKHW.argmax(dim=1) == self.person
