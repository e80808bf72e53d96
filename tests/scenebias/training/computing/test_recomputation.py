"""Recomputed activations: nothing may change but the memory."""

import copy
import weakref

import pytest
import torch
from torch import nn
from torch.func import functional_call

from scenebias.debiasing.masked_batch_norm import frozen_statistics
from scenebias.models.backbones import BACKBONES, Backbone, BackboneName
from scenebias.training.computing.bf16_on_cpu import pad_small_inputs
from scenebias.training.computing.recomputation import recompute_activations
from tests.scenebias.networks import NETWORKS, small_clip_shape, tiny_mvit


def make_pair(name: BackboneName) -> tuple[Backbone, Backbone]:
    """The same network, without and with recomputation."""
    torch.manual_seed(0)
    plain = BACKBONES[name]()
    recomputing = copy.deepcopy(plain)
    recompute_activations(recomputing)
    return plain, recomputing


def make_clip(shape: tuple[int, int, int] = (4, 16, 16)) -> torch.Tensor:
    return torch.randn(2, 3, *shape, generator=torch.Generator().manual_seed(1)).contiguous(
        memory_format=torch.channels_last_3d
    )


def assert_same_bits(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


def gradients(backbone: nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.grad for name, p in backbone.named_parameters()}


@pytest.mark.parametrize("name", ["small3d", "r3d_18"])
@pytest.mark.parametrize("training", [True, False])
def test_features_gradients_and_running_statistics_are_the_same_to_the_bit(name: BackboneName, training: bool) -> None:
    pair = make_pair(name)
    features = []
    for backbone in pair:
        backbone.train(training)
        for _ in range(2):
            features.append(backbone(make_clip()))
            features[-1].square().sum().backward()
    assert torch.equal(features[0], features[2])
    assert torch.equal(features[1], features[3])
    assert_same_bits(*(backbone.state_dict() for backbone in pair))
    assert_same_bits(*map(gradients, pair))


def test_the_same_under_autocast() -> None:
    pair = make_pair("small3d")
    for backbone in pair:
        pad_small_inputs(backbone)
        with torch.autocast("cpu", torch.bfloat16):
            features = backbone(make_clip())
        features.float().square().sum().backward()
    assert_same_bits(*map(gradients, pair))
    assert_same_bits(*(backbone.state_dict() for backbone in pair))


@pytest.mark.parametrize("name", NETWORKS)
def test_activations_are_gone_until_the_backward_pass(name: BackboneName) -> None:
    alive = []
    for backbone in make_pair(name):
        inputs: list[weakref.ref[torch.Tensor]] = []
        norms = [module for module in backbone.modules() if isinstance(module, nn.BatchNorm3d)]
        for norm in norms:
            norm.register_forward_hook(lambda module, given, output, found=inputs: found.append(weakref.ref(given[0])))
        features = backbone(make_clip(small_clip_shape(name)))
        alive.append(sum(reference() is not None for reference in inputs))
        assert len(inputs) == len(norms)
        del features
    assert alive == [len(norms), 0]


def test_a_transformer_computes_its_blocks_again_with_the_same_drop_path() -> None:
    plain = tiny_mvit()
    recomputing = copy.deepcopy(plain)
    recompute_activations(recomputing)
    for backbone in (plain, recomputing):
        torch.manual_seed(1)
        backbone(make_clip()).square().sum().backward()
    assert_same_bits(*map(gradients, (plain, recomputing)))
    assert len({plain(make_clip()).sum().item() for _ in range(20)}) > 1, "it is to drop some"
    norms = [0, 0]
    for number, backbone in enumerate((plain, recomputing)):
        backbone.trunk.blocks[1].norm1.register_forward_hook(
            lambda *_, number=number: norms.__setitem__(number, norms[number] + 1)
        )
        backbone(make_clip()).sum().backward()
    assert norms == [1, 2]


def test_tensors_that_a_call_puts_in_place_are_recomputed_with() -> None:
    pair = make_pair("small3d")
    found = []
    for backbone in pair:
        other = {
            name: tensor.detach().clone().mul_(1.5).requires_grad_(tensor.requires_grad)
            for name, tensor in (*backbone.named_parameters(), *backbone.named_buffers())
            if tensor.is_floating_point()
        }
        features = functional_call(backbone, other, (make_clip(),))
        features.square().sum().backward()
        found.append({name: tensor.grad if tensor.requires_grad else tensor for name, tensor in other.items()})
        assert all(p.grad is None for p in backbone.parameters())
    assert_same_bits(*found)
    assert_same_bits(*(backbone.state_dict() for backbone in pair))


def test_layers_that_were_in_evaluation_in_the_forward_pass_alone_are_so_in_the_recomputation() -> None:
    pair = make_pair("small3d")
    for backbone in pair:
        with frozen_statistics(backbone):
            features = backbone(make_clip())
        features.square().sum().backward()
        assert all(module.training for module in backbone.modules())
    assert_same_bits(*map(gradients, pair))
    assert_same_bits(*(backbone.state_dict() for backbone in pair))


def test_a_copy_recomputes_itself() -> None:
    _, recomputing = make_pair("small3d")
    other = copy.deepcopy(recomputing)
    with torch.no_grad():
        next(other.parameters()).zero_()
    other(make_clip()).sum().backward()
    assert all(p.grad is None for p in recomputing.parameters())
    assert all(p.grad is not None for p in other.parameters())


def test_without_gradients_nothing_but_the_features_is_computed() -> None:
    pair = [backbone.eval() for backbone in make_pair("small3d")]
    with torch.inference_mode():
        features = [backbone(make_clip()) for backbone in pair]
    assert torch.equal(*features)
