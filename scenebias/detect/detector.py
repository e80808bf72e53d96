"""The detector of actions in a frame: torchvision's FCOS on the backbone's maps of the window around it.

Shape suffixes: B windows, T frames, H rows, W columns, C channels, N boxes, P points of all maps, 4 corners of a box
(left, top, right, bottom), h and w of a map.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchvision.models.detection import FCOS
from torchvision.models.detection.fcos import FCOSHead
from torchvision.ops import FeaturePyramidNetwork, sigmoid_focal_loss

from scenebias.detection.instances import FrameBoxes
from scenebias.evaluation.accuracy import evaluating
from scenebias.models.action_model import ActionModel
from scenebias.training.detector_loop import SummedLoss
from shards.checks import require_at_least
from shards.errors import UserError

_PROBE_SIZE = 64
_PROBE_FRAMES = 8
"""Pixels of a frame that all strides divide."""


@dataclass(frozen=True, kw_only=True)
class DetectorConfig:
    """The detector on the backbone's maps, and which boxes it tells."""

    maps: int = 2
    """How many of the backbone's last maps are looked at: of r3d_18 those of stride 8 and 16, of small3d 16 and 32."""
    width: int = 128
    """Channels within the detector, a multiple of 32."""
    head_layers: int = 2
    """Convolutions before the classes, and as many before the boxes."""
    centre_radius: float = 1.5
    """A point answers for boxes whose middle is nearer than so many points of its map."""
    min_score: float = 0.01
    """The least score of a box, 0 to below 1."""
    max_overlap: float = 0.5
    """Of two boxes of a class that overlap by a higher IoU the better one is told."""
    most_boxes: int = 50
    """Boxes that are told of a frame."""

    def __post_init__(self) -> None:
        require_at_least(1, maps=self.maps, width=self.width, head_layers=self.head_layers, most_boxes=self.most_boxes)
        if self.width % 32:
            raise ValueError(f"width must be a multiple of 32, the groups of its GroupNorm, got {self.width}")
        if not self.centre_radius > 0:
            raise ValueError(f"centre_radius must be above 0, got {self.centre_radius}")
        if not 0 <= self.min_score < 1:
            raise ValueError(f"min_score must be from 0 to below 1, got {self.min_score}")
        if not 0 <= self.max_overlap <= 1:
            raise ValueError(f"max_overlap must be from 0 to 1, got {self.max_overlap}")


def backbone_maps(model: ActionModel, clip_BTHWC: Tensor, count: int) -> list[Tensor]:
    """The last ``count`` maps of the backbone before its mean, each averaged over time: float (B, C, h, w).

    ``clip_BTHWC`` is uint8, of any height and width. The finer maps come first.
    """
    x = model.normalise(clip_BTHWC)
    maps = []
    for stage in model.backbone.trunk.children():
        if isinstance(stage, nn.AdaptiveAvgPool3d):
            break
        x = stage(x)
        maps.append(x.mean(dim=2))
    return maps[-count:]


class HeadOutputs(NamedTuple):
    """What FCOS's head says, and of which points."""

    outputs: dict[str, Tensor]
    """By its own names, (B, P, …)."""
    anchor_P4: Tensor
    """A square of the map's stride around each point, in pixels."""
    points_per_map: list[int]


class ActionDetector(nn.Module):
    """Finds boxes and their actions in the middle frame of a window.

    Maps of the backbone, averaged over the window, go through a feature pyramid (Lin et al., CVPR 2017) to the head,
    loss and decoding of FCOS (Tian et al., "FCOS: a simple and strong anchor-free object detector", TPAMI 2020), as
    torchvision has them: the focal loss of the classes, GIoU of the boxes, centerness. Boxes are in pixels of the
    window's frames. The backbone learns with it, unless that of ``model`` is frozen.
    """

    def __init__(self, model: ActionModel, class_count: int, config: DetectorConfig) -> None:
        super().__init__()
        if not model.backbone.is_convolutional:
            raise UserError(
                f"detecting needs the maps of a network of convolutions, and {model.config.backbone} is none; give"
                " weights of r3d_18 or the like"
            )
        self.model, self.class_count, self.config = model, class_count, config
        probe_BTHWC = torch.zeros(
            1, _PROBE_FRAMES, _PROBE_SIZE, _PROBE_SIZE, 3, dtype=torch.uint8, device=model.scale.device
        )
        with evaluating(model), torch.inference_mode():
            maps = backbone_maps(model, probe_BTHWC, config.maps)
        self.strides = tuple(_PROBE_SIZE // map_BChw.shape[-1] for map_BChw in maps)
        """Pixels from one point of each map to the next."""
        self.pyramid = FeaturePyramidNetwork([map_BChw.shape[1] for map_BChw in maps], config.width)
        self.fcos = FCOS(
            _NoBackbone(config.width),
            class_count,
            head=_SummingHead(config.width, 1, class_count, config.head_layers),
            center_sampling_radius=config.centre_radius,
            score_thresh=config.min_score,
            nms_thresh=config.max_overlap,
            detections_per_img=config.most_boxes,
        )
        self.to(model.scale.device)

    @property
    def own_layers(self) -> nn.ModuleDict:
        """All that is not of ``model``, the layers themselves: what a weight file holds beside it."""
        return nn.ModuleDict({"pyramid": self.pyramid, "fcos": self.fcos})

    def loss(self, clip_BTHWC: Tensor, truth: Sequence[FrameBoxes]) -> Tensor:
        """The sum of FCOS's losses, on the true boxes of the middle frame of each window; a scalar.

        Those that are `AMBIGUOUS` are not learned. A box that is there with several labels, as in AVA, is one box with
        all of them.
        """
        found = self.summed_loss(self(clip_BTHWC), truth)
        return found.total / found.answers.clamp(min=1)

    def summed_loss(self, said: HeadOutputs, truth: Sequence[FrameBoxes]) -> SummedLoss:
        """The same of what the head has said of the windows, in float32, before the mean."""
        outputs, anchor_P4, points_per_map = said
        outputs = {name: value.float() for name, value in outputs.items()}
        targets = [
            {name: target.to(anchor_P4.device) for name, target in _targets(boxes.clear, self.class_count).items()}
            for boxes in truth
        ]
        losses = self.fcos.compute_loss(targets, outputs, [anchor_P4] * len(targets), points_per_map)
        answers = losses.pop("answers")
        return SummedLoss(torch.stack(list(losses.values())).sum(), answers)

    def find(self, clip_BTHWC: Tensor, frames: Sequence[int]) -> list[FrameBoxes]:
        """What is found in the middle frame of each window, on the CPU, the best first.

        ``frames`` are the numbers of these frames in their videos. A score is the square root of the class's
        probability by the centerness, 0 to 1.
        """
        with evaluating(self), torch.inference_mode():
            outputs, anchor_P4, points_per_map = self(clip_BTHWC)
            size = (clip_BTHWC.shape[2], clip_BTHWC.shape[3])
            found = self.fcos.postprocess_detections(
                {name: list(value.split(points_per_map, dim=1)) for name, value in outputs.items()},
                [list(anchor_P4.split(points_per_map))] * len(clip_BTHWC),
                [size] * len(clip_BTHWC),
            )
        return [
            FrameBoxes(
                frame_N=torch.full((len(boxes["labels"]),), frame),
                box_N4=boxes["boxes"].cpu(),
                label_N=boxes["labels"].cpu(),
                score_N=boxes["scores"].cpu(),
            )
            for frame, boxes in zip(frames, found, strict=True)
        ]

    def forward(self, clip_BTHWC: Tensor) -> HeadOutputs:
        """What the head says of uint8 windows of any height and width."""
        maps = backbone_maps(self.model, clip_BTHWC, self.config.maps)
        levels = list(self.pyramid({str(level): map_BChw for level, map_BChw in enumerate(maps)}).values())
        anchors = [
            point_anchors(level.shape[2], level.shape[3], stride).to(level.device)
            for level, stride in zip(levels, self.strides, strict=True)
        ]
        return HeadOutputs(self.fcos.head(levels), torch.cat(anchors), [len(anchor_p4) for anchor_p4 in anchors])


def _targets(truth: FrameBoxes, class_count: int) -> dict[str, Tensor]:
    """What `_SummingHead` learns of a frame: each place once, in the order of the boxes.

    "boxes" (N, 4), "labels" (N,), the first of each, and "further" (N, C), bool, the other labels of the same place.
    """
    box_N4, place_M = torch.unique(truth.box_N4.float(), dim=0, return_inverse=True)
    all_NC = torch.zeros(len(box_N4), class_count, dtype=torch.bool, device=box_N4.device)
    all_NC[place_M, truth.label_N] = True
    rows = torch.arange(len(place_M), device=place_M.device)
    first_N = torch.full((len(box_N4),), len(rows), device=rows.device).scatter_reduce(0, place_M, rows, "amin")
    order_N = first_N.argsort()
    label_N = truth.label_N[first_N[order_N]]
    return {
        "boxes": box_N4[order_N],
        "labels": label_N,
        "further": all_NC[order_N] & ~nn.functional.one_hot(label_N, class_count).bool(),
    }


def point_anchors(height: int, width: int, stride: int) -> Tensor:
    """A square of ``stride`` pixels around each point of a map, row by row, float32 (h · w, 4).

    The first point lies half a stride from the corner of the frame (FCOS, section 3.1).
    """
    top, left = torch.meshgrid(torch.arange(height) * stride, torch.arange(width) * stride, indexing="ij")
    corner_P2 = torch.stack([left.flatten(), top.flatten()], dim=1).float()
    return torch.cat([corner_P2, corner_P2 + stride], dim=1)


class _SummingHead(FCOSHead):
    """FCOS's head, which divides its losses by the points that answer for a box, without that division.

    A point learns every label of its box, where FCOS's learns one: the focal loss is a sum over classes, of which the
    "further" ones of ``targets`` change sides.
    """

    def compute_loss(
        self,
        targets: list[dict[str, Tensor]],
        head_outputs: dict[str, Tensor],
        anchors: list[Tensor],
        matched_idxs: list[Tensor],
    ) -> dict[str, Tensor]:
        """Its three losses, summed, and as "answers" the number of these points."""
        means = super().compute_loss(targets, head_outputs, anchors, matched_idxs)
        answers = (torch.stack(matched_idxs) >= 0).sum()
        sums = {name: mean * answers.clamp(min=1) for name, mean in means.items()}
        further_BPC = torch.stack(
            [_of_points(one["further"], box_P) for one, box_P in zip(targets, matched_idxs, strict=True)]
        )
        logit_L = head_outputs["cls_logits"][further_BPC]
        is_there, is_not = (
            sigmoid_focal_loss(logit_L, target_L, reduction="sum")
            for target_L in (torch.ones_like(logit_L), torch.zeros_like(logit_L))
        )
        return sums | {"classification": sums["classification"] + is_there - is_not, "answers": answers}


def _of_points(further_NC: Tensor, box_P: Tensor) -> Tensor:
    """The further labels of the box that each point answers for, bool (P, C); none where it is -1."""
    none_1C = further_NC.new_zeros(1, further_NC.shape[1])
    return torch.cat([further_NC, none_1C])[box_P]


class _NoBackbone(nn.Identity):
    """FCOS wants one; ours is called before it."""

    def __init__(self, out_channels: int) -> None:
        super().__init__()
        self.out_channels = out_channels
