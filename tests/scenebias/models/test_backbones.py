"""The networks: their features, their layout, and that the small one is small and sees motion."""

import re
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torchvision.models import get_model, get_model_weights
from torchvision.ops import StochasticDepth

from scenebias.models.action_model import ActionModel, ModelConfig
from scenebias.models.backbones import BACKBONES, Backbone, SlidingMeanWeights, parts_of
from scenebias.models.network_inputs import input_of
from shards.errors import UserError
from tests.scenebias.networks import NETWORKS, small_clip_shape, tiny_mvit


@cache
def build(name: str) -> Backbone:
    torch.manual_seed(0)
    return BACKBONES[name]()


@pytest.mark.parametrize("name", NETWORKS)
def test_every_backbone_gives_one_finite_feature_vector_a_clip_and_a_gradient_to_every_weight(name: str) -> None:
    backbone = build(name)
    features_BD = backbone(torch.randn(2, 3, *small_clip_shape(name)))
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


def test_s3d_gives_the_features_before_torchvision_s_classifier_and_their_mean_over_longer_clips() -> None:
    """Windows of 2 frames slide over the 3 of the last map of such a clip."""
    torch.manual_seed(0)
    network = get_model("s3d").eval()
    clip_BCTHW = torch.randn(1, 3, 24, 224, 224)
    with torch.inference_mode():
        expected_BA = network(clip_BCTHW)
        backbone, classifier = parts_of(network)
        features_BD = backbone.eval()(clip_BCTHW)
        torch.testing.assert_close(classifier(features_BD[:, :, None, None, None]).flatten(1), expected_BA)
    assert backbone.feature_count == 1024


@settings(deadline=None, max_examples=30)
@given(
    shape=st.tuples(st.integers(1, 6), st.integers(1, 9), st.integers(1, 9)),
    window=st.tuples(st.integers(1, 3), st.integers(1, 8), st.integers(1, 8)),
)
def test_the_mean_of_sliding_means_is_that_of_the_weighted_map(
    shape: tuple[int, int, int], window: tuple[int, int, int]
) -> None:
    map_BCTHW = torch.randn(2, 3, *shape, dtype=torch.float64)
    fitting = tuple(map(min, window, shape))
    expected_BC = nn.functional.avg_pool3d(map_BCTHW, fitting, stride=1).mean(dim=(2, 3, 4))
    torch.testing.assert_close(SlidingMeanWeights(window)(map_BCTHW).mean(dim=(2, 3, 4)), expected_BC)


@pytest.mark.parametrize("name", [*NETWORKS, "mvit_v2_s"])
def test_every_weight_is_of_one_layer_and_layers_follow_the_way_of_a_clip(name: str) -> None:
    with torch.device("meta"):
        backbone = BACKBONES[name]()
    layers = backbone.layers
    assert sorted(id(p) for layer in layers for p in layer) == sorted(map(id, backbone.parameters()))
    order = {id(parameter): place for place, parameter in enumerate(backbone.parameters())}
    assert [order[id(p)] for layer in layers for p in layer] == sorted(order.values())
    assert len(layers) == {"small3d": 4, "swin3d_t": 17, "mvit_v2_s": 19, "s3d": 14}.get(name, 9)


def test_weights_that_layers_share_are_of_the_first_and_those_of_none_come_first() -> None:
    class Sharing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(2, 2), nn.Linear(2, 2)
            self.second.weight = self.first.weight
            self.scale = nn.Parameter(torch.ones(2))

    trunk = Sharing()
    layers = Backbone(trunk, 2).layers
    expected = [[trunk.scale], [trunk.first.weight, trunk.first.bias], [trunk.second.bias]]
    assert [list(map(id, layer)) for layer in layers] == [list(map(id, layer)) for layer in expected]


@pytest.mark.parametrize("name", ["swin3d_t", "mvit_v1_b"])
def test_blocks_are_skipped_as_torchvision_does_it(name: str) -> None:
    published = {"swin3d_t": 0.1, "mvit_v1_b": 0.2}[name]
    with torch.device("meta"):
        as_it_comes, backbone = BACKBONES[name](), BACKBONES[name]()

    def skips(network: Backbone) -> list[float]:
        return [module.p for module in network.modules() if isinstance(module, StochasticDepth)]

    backbone.set_drop_path(published)
    assert skips(backbone) == pytest.approx(skips(as_it_comes))
    backbone.set_drop_path(0.4)
    assert skips(backbone) == pytest.approx([0.4 / published * share for share in skips(as_it_comes)])


def test_a_network_without_blocks_to_skip_is_refused() -> None:
    with pytest.raises(UserError, match=r"--drop-path skips blocks of mvit_\* and swin3d_\*.*leave it out"):
        ActionModel(ModelConfig(backbone="small3d", drop_path=0.1), 2)
    with pytest.raises(ValueError, match="drop_path must be from 0 to below 1"):
        ModelConfig(backbone="swin3d_t", drop_path=1.0)


@pytest.mark.parametrize("relative", [True, False])
def test_an_mvit_gives_one_feature_vector_a_clip_and_a_gradient_to_every_weight(relative: bool) -> None:
    backbone = tiny_mvit(relative=relative)
    features_BD = backbone(torch.randn(3, 3, 4, 16, 16))
    assert features_BD.shape == (3, backbone.feature_count)
    features_BD.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in backbone.parameters())


@pytest.mark.parametrize("shape", [(8, 16, 16), (4, 32, 32), (16, 8, 16), (4, 15, 16)])
def test_an_mvit_takes_no_clips_but_its_own(shape: tuple[int, int, int]) -> None:
    with pytest.raises(UserError, match=r"clips of 4 frames of 16 x 16 pixels alone.*set --frames 4 and --size 16"):
        tiny_mvit()(torch.zeros(1, 3, *shape))


@pytest.mark.parametrize("name", ["mvit_v1_b", "mvit_v2_s"])
def test_the_published_mvits_take_clips_of_16_frames_of_224_pixels(name: str) -> None:
    with torch.device("meta"):
        backbone = BACKBONES[name]()
    assert (backbone.feature_count, backbone.only_shape_THW) == (768, (16, 224, 224))
    clip = input_of(name).clip
    assert (clip.frames, clip.size, clip.size) == backbone.only_shape_THW


def test_a_published_mvit_gives_the_features_before_torchvision_s_classifier() -> None:
    torch.manual_seed(0)
    network = get_model("mvit_v2_s").eval()
    clip_BCTHW = torch.randn(1, 3, 16, 224, 224)
    with torch.inference_mode():
        expected_BA = network(clip_BCTHW)
        backbone, classifier = parts_of(network)
        torch.testing.assert_close(classifier(backbone(clip_BCTHW)), expected_BA)


@pytest.mark.parametrize("name", [name for name in BACKBONES if "18" not in name and name != "small3d"])
def test_the_input_of_a_network_is_what_torchvision_publishes_of_it(name: str) -> None:
    published = get_model_weights(name)["KINETICS400_V1"]
    clip, pixels = input_of(name)
    transforms = published.transforms()
    assert [clip.size] == transforms.crop_size[:1]
    assert (list(pixels.mean_C), list(pixels.std_C)) == (list(transforms.mean), list(transforms.std))
    rate = re.search(r"frame_rate=([0-9.]+)", published.meta["_docs"])
    frames = re.search(r"clip_len=(\d+)", published.meta["_docs"])
    assert rate is not None
    assert frames is not None
    assert 30 / clip.stride == float(rate[1])
    assert clip.frames == (64 if name == "s3d" else int(frames[1]))


@pytest.mark.parametrize("name", ["swin3d_t", "r3d_18"])
def test_pixels_are_normalised_as_the_network_takes_them(name: str) -> None:
    with torch.device("meta"):
        model = ActionModel(ModelConfig(backbone=name), 2)
    assert model.scale.shape == (1, 3, 1, 1, 1)
    pixels = input_of(name).pixels
    model = ActionModel(ModelConfig(backbone="small3d"), 2, mean_C=pixels.mean_C, std_C=pixels.std_C)
    grey_BTHWC = torch.full((1, 1, 1, 1, 3), 51, dtype=torch.uint8)
    expected = [(0.2 - mean) / std for mean, std in zip(*pixels, strict=True)]
    assert model.normalise(grey_BTHWC).flatten().tolist() == pytest.approx(expected, abs=1e-6)


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
