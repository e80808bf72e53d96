"""The detector of boxes: its points, what it learns, and what is left alone."""

import pytest
import torch

from scenebias.detect.detector import ActionDetector, DetectorConfig, backbone_maps, point_anchors
from scenebias.detection.comparing import match_frames
from scenebias.detection.instances import AMBIGUOUS, FrameBoxes
from scenebias.models.action_model import ActionModel, ModelConfig
from scenebias.models.backbones import BackboneName
from shards.errors import UserError
from tests.scenebias.networks import NETWORKS

CONFIG = DetectorConfig(width=32, head_layers=1)
HEIGHT, WIDTH = 48, 64


def new_detector(backbone: BackboneName = "small3d", config: DetectorConfig = CONFIG) -> ActionDetector:
    torch.manual_seed(0)
    return ActionDetector(ActionModel(ModelConfig(backbone=backbone), 2), 2, config)


def scenes(count: int, frames: int = 4) -> tuple[torch.Tensor, list[FrameBoxes]]:
    """Dark noise with one rectangle each: red ones are of class 0, blue ones of class 1."""
    random = torch.Generator().manual_seed(0)
    clip_BTHWC = torch.randint(0, 60, (count, frames, HEIGHT, WIDTH, 3), dtype=torch.uint8, generator=random)
    truth = []
    for number in range(count):
        left, top = (int(torch.randint(0, room, (1,), generator=random)) for room in (WIDTH - 24, HEIGHT - 28))
        clip_BTHWC[number, :, top : top + 28, left : left + 24, 2 * (number % 2)] = 250
        box_N4 = torch.tensor([[left, top, left + 24, top + 28]]).float()
        truth.append(FrameBoxes(frame_N=torch.tensor([number]), box_N4=box_N4, label_N=torch.tensor([number % 2])))
    return clip_BTHWC, truth


def test_a_few_frames_are_learned_by_heart() -> None:
    detector, (clip_BTHWC, truth) = new_detector(), scenes(8)
    detector.train()
    optimizer = torch.optim.AdamW(detector.parameters(), lr=3e-3)
    for _ in range(80):
        optimizer.zero_grad()
        detector.loss(clip_BTHWC, truth).backward()
        optimizer.step()
    found = detector.find(clip_BTHWC, range(8))
    assert detector.training
    assert match_frames(found, truth, 2).mean_average_precision > 0.95
    for boxes in found:
        assert (boxes.scores.diff() <= 0).all()
        assert (boxes.box_N4 >= 0).all()
        assert (boxes.box_N4 <= torch.tensor([WIDTH, HEIGHT, WIDTH, HEIGHT])).all()


def test_a_network_without_maps_of_convolutions_is_refused() -> None:
    with pytest.raises(UserError, match=r"needs the maps of a network of convolutions, and swin3d_t is none"):
        new_detector("swin3d_t")


@pytest.mark.parametrize("backbone", [name for name in NETWORKS if name != "swin3d_t"])
def test_the_last_map_is_what_the_backbone_averages_and_strides_are_those_of_its_maps(backbone: BackboneName) -> None:
    detector = new_detector(backbone).eval()
    clip_BTHWC = scenes(2, frames=8)[0]
    with torch.inference_mode():
        maps = backbone_maps(detector.model, clip_BTHWC, 2)
        torch.testing.assert_close(maps[1].mean(dim=(2, 3)), detector.model.features(clip_BTHWC), rtol=1e-4, atol=1e-4)
    assert detector.strides == ((16, 32) if backbone not in ("r3d_18", "mc3_18", "r2plus1d_18") else (8, 16))
    for map_BChw, stride in zip(maps, detector.strides, strict=True):
        height = HEIGHT // stride if backbone == "s3d" else -(-HEIGHT // stride)  # its last pool passes over a rest
        assert map_BChw.shape[2:] == (height, WIDTH // stride)


def test_points_lie_in_the_middle_of_their_squares_row_by_row() -> None:
    anchor_P4 = point_anchors(2, 3, 16)
    assert anchor_P4[0].tolist() == [0, 0, 16, 16]
    assert anchor_P4[1].tolist() == [16, 0, 32, 16]
    assert anchor_P4[5].tolist() == [32, 16, 48, 32]


@pytest.mark.parametrize("frozen", [True, False])
def test_the_backbone_learns_unless_it_is_frozen(frozen: bool) -> None:
    detector = new_detector()
    detector.model.freeze_backbone(frozen)
    detector.train()
    before = {name: tensor.clone() for name, tensor in detector.model.backbone.state_dict().items()}
    detector.loss(*scenes(2)).backward()
    after = detector.model.backbone.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items()) == frozen
    gradients = [parameter.grad for parameter in detector.model.backbone.parameters()]
    assert all((gradient is None) == frozen for gradient in gradients)
    assert all(p.grad is not None for p in detector.fcos.head.parameters())


def with_both_labels(truth: list[FrameBoxes], *, first: int) -> list[FrameBoxes]:
    """Every other rectangle is of both classes, as actors of AVA that do two things."""
    return [
        FrameBoxes(
            frame_N=boxes.frame_N.repeat(2), box_N4=boxes.box_N4.repeat(2, 1), label_N=torch.tensor([first, 1 - first])
        )
        if number % 2
        else boxes
        for number, boxes in enumerate(truth)
    ]


def test_a_box_with_several_labels_is_learned_with_all_of_them() -> None:
    detector, (clip_BTHWC, truth) = new_detector(), scenes(8)
    both = with_both_labels(truth, first=0)
    detector.train()
    optimizer = torch.optim.AdamW(detector.parameters(), lr=3e-3)
    for _ in range(100):
        optimizer.zero_grad()
        detector.loss(clip_BTHWC, both).backward()
        optimizer.step()
    assert match_frames(detector.find(clip_BTHWC, range(8)), both, 2).mean_average_precision > 0.95


def test_the_order_of_labels_decides_nothing_and_each_of_them_counts() -> None:
    detector, (clip_BTHWC, truth) = new_detector().eval(), scenes(4)
    with torch.inference_mode():
        said = detector(clip_BTHWC)
        one, other = (detector.summed_loss(said, with_both_labels(truth, first=first)) for first in (0, 1))
        alone = detector.summed_loss(said, truth)
    torch.testing.assert_close(one.total, other.total)
    assert one.answers == other.answers == alone.answers
    assert one.total != alone.total


def test_the_loss_of_several_labels_is_the_focal_loss_of_all_classes() -> None:
    detector, (clip_BTHWC, truth) = new_detector().eval(), scenes(2)
    with torch.inference_mode():
        said = detector(clip_BTHWC)
        added = (
            detector.summed_loss(said, with_both_labels(truth, first=1)).total - detector.summed_loss(said, truth).total
        )
        everywhere = detector.summed_loss(said, [truth[0], truth[1][torch.zeros(1, dtype=torch.bool)]])
        answers = detector.summed_loss(said, truth).answers - everywhere.answers
    assert answers > 0
    # Before it has learned, the second frame's points say nearly the same of class 0: p, which is 0.01 at first.
    p = said.outputs["cls_logits"][1, :, 0].float().sigmoid()
    each = -0.25 * (1 - p) ** 2 * p.log() + 0.75 * p**2 * (1 - p).log()
    assert answers * each.min() <= added * (1 + 1e-5)
    assert added <= answers * each.max() * (1 + 1e-5)


def test_ambiguous_boxes_are_not_learned_and_frames_without_boxes_are_background() -> None:
    detector, (clip_BTHWC, truth) = new_detector().eval(), scenes(2)
    unclear = [FrameBoxes(frame_N=t.frame_N, box_N4=t.box_N4, label_N=t.label_N * 0 + AMBIGUOUS) for t in truth]
    nothing = [t[torch.zeros(1, dtype=torch.bool)] for t in truth]
    with torch.inference_mode():
        losses = [detector.loss(clip_BTHWC, asked).item() for asked in (truth, unclear, nothing)]
    assert losses[1] == losses[2]
    assert losses[0] != losses[1]


@pytest.mark.parametrize(
    "options",
    [{"width": 48}, {"maps": 0}, {"centre_radius": 0.0}, {"min_score": 1.0}, {"max_overlap": 2.0}, {"most_boxes": 0}],
)
def test_options_out_of_range_are_refused(options: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        DetectorConfig(**options)
