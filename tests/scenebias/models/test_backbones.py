"""The networks: their features, their layout, and that the small one is small and sees motion."""

from functools import cache

import pytest
import torch
from torch import nn
from torchvision.models import get_model

from scenebias.models.backbones import BACKBONES, Backbone
from tests.scenebias.networks import NETWORKS


@cache
def build(name: str) -> Backbone:
    torch.manual_seed(0)
    return BACKBONES[name]()


@pytest.mark.parametrize("name", NETWORKS)
def test_every_backbone_gives_one_finite_feature_vector_a_clip_and_a_gradient_to_every_weight(name: str) -> None:
    backbone = build(name)
    features_BD = backbone(torch.randn(2, 3, 4, 16, 16))
    assert features_BD.shape == (2, backbone.feature_count)
    features_BD.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in backbone.parameters())


@pytest.mark.parametrize("name", NETWORKS)
def test_weights_lie_in_channels_last_layout(name: str) -> None:
    weights = [m.weight for m in build(name).modules() if isinstance(m, nn.Conv3d)]
    assert all(weight.is_contiguous(memory_format=torch.channels_last_3d) for weight in weights)


@pytest.mark.parametrize("name", [name for name in BACKBONES if "18" in name])
def test_video_resnets_have_512_features_and_no_classifier(name: str) -> None:
    backbone = build(name)
    assert backbone.feature_count == 512
    assert not any(isinstance(m, nn.Linear) for m in backbone.modules())


def test_a_video_swin_gives_the_features_before_torchvision_s_classifier() -> None:
    backbone = build("swin3d_t").eval()
    network = get_model("swin3d_t")
    network.load_state_dict(
        backbone.trunk.state_dict() | {f"head.{key}": tensor for key, tensor in network.head.state_dict().items()}
    )
    clip_BCTHW = torch.randn(2, 3, 4, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(network.head(backbone(clip_BCTHW)), network.eval()(clip_BCTHW))


@pytest.mark.parametrize(("name", "feature_count"), [("swin3d_t", 768), ("swin3d_s", 768), ("swin3d_b", 1024)])
def test_video_swins_differ_in_size(name: str, feature_count: int) -> None:
    with torch.device("meta"):
        backbone = BACKBONES[name]()
        assert backbone(torch.randn(2, 3, 4, 32, 32)).shape == (2, feature_count)
    assert backbone.feature_count == feature_count


@pytest.mark.parametrize("shape", [(16, 112, 112), (16, 64, 64), (8, 56, 56), (2, 4, 4)])
def test_small3d_accepts_every_clip_it_promises(shape: tuple[int, int, int]) -> None:
    backbone = BACKBONES["small3d"]().eval()
    assert backbone(torch.randn(1, 3, *shape)).shape == (1, 128)


def test_small3d_costs_what_it_says() -> None:
    backbone = BACKBONES["small3d"]().eval()
    products = []
    for module in backbone.modules():
        if isinstance(module, nn.Conv3d):
            module.register_forward_hook(lambda m, _, out: products.append(m.weight.numel() * out[0, 0].numel()))
    backbone(torch.zeros(1, 3, 16, 112, 112))
    assert sum(products) == pytest.approx(49e6, rel=0.01)
    assert sum(p.numel() for p in backbone.parameters()) == pytest.approx(0.29e6, rel=0.01)


def test_small3d_learns_which_way_a_square_moves() -> None:
    """Both classes show the same pictures in the opposite order: only motion tells them apart."""
    torch.manual_seed(0)

    def batch(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        label_B = torch.arange(count) % 2
        clip_BCTHW = torch.zeros(count, 3, 8, 32, 32)
        for clip, start, top in zip(
            clip_BCTHW, torch.randint(2, 8, (count,)), torch.randint(24, (count,)), strict=True
        ):
            for frame in range(8):
                left = int(start) + 2 * frame
                clip[:, frame, int(top) : int(top) + 8, left : left + 8] = 1
        clip_BCTHW[label_B == 1] = clip_BCTHW[label_B == 1].flip(2)
        return clip_BCTHW, label_B

    network = nn.Sequential(backbone := BACKBONES["small3d"](), nn.Linear(backbone.feature_count, 2))
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(30):
        clip_BCTHW, label_B = batch(32)
        optimiser.zero_grad()
        nn.functional.cross_entropy(network(clip_BCTHW), label_B).backward()
        optimiser.step()
    clip_BCTHW, label_B = batch(64)
    with torch.no_grad():
        right_B = network.eval()(clip_BCTHW).argmax(dim=1) == label_B
    assert right_B.float().mean() > 0.9
