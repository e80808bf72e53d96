"""Gradients in bfloat16 on the CPU, for convolutions of inputs that are smaller than their kernel."""

import copy

import pytest
import torch
from torch import nn

from scenebias.models.backbones import BACKBONES
from scenebias.training.computing.bf16_on_cpu import pad_small_inputs
from scenebias.training.computing.recomputation import recompute_activations


def fill_free_memory() -> None:
    """So that memory which is read before it is written holds numbers that stand out."""
    for count in (100, 10_000, 100_000, 1_000_000):
        torch.full((count,), 1e30)


def gradients_in(dtype: torch.dtype, network: nn.Module, clip_BCTHW: torch.Tensor) -> dict[str, torch.Tensor]:
    network.zero_grad()
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        features = network(clip_BCTHW)
    fill_free_memory()
    features.float().square().sum().backward()
    return {name: p.grad.clone() for name, p in network.named_parameters()}


def make_clip(*shape: int) -> torch.Tensor:
    return torch.randn(shape).contiguous(memory_format=torch.channels_last_3d)


@pytest.mark.parametrize("stride", [(1, 1, 1), (1, 2, 2), (2, 2, 2)])
@pytest.mark.parametrize("kernel", [(3, 3, 3), (3, 1, 1), (7, 7, 7)])
def test_gradients_of_a_convolution_are_those_of_float32_but_for_rounding(
    kernel: tuple[int, int, int], stride: tuple[int, int, int]
) -> None:
    torch.manual_seed(0)
    padding = tuple(size // 2 for size in kernel)
    convolution = nn.Conv3d(16, 16, kernel, stride, padding, bias=False).to(memory_format=torch.channels_last_3d)
    pad_small_inputs(convolution)
    for frames in (1, 2, 3, 4, 6, 8):
        for size in (1, 2, 7):
            clip_BCTHW = make_clip(2, 16, frames, size, size)
            wanted = gradients_in(torch.float32, convolution, clip_BCTHW)["weight"]
            found = gradients_in(torch.bfloat16, convolution, clip_BCTHW)["weight"]
            assert (found - wanted).abs().max() < 0.03 * wanted.abs().max(), (frames, size)


@pytest.mark.parametrize("recomputing", [False, True])
def test_a_network_s_gradients_point_where_those_of_float32_do(recomputing: bool) -> None:
    torch.manual_seed(0)
    plain = BACKBONES["small3d"]()
    guarded = copy.deepcopy(plain)
    pad_small_inputs(guarded)
    if recomputing:
        recompute_activations(guarded)
    clip_BCTHW = make_clip(16, 3, 4, 16, 16)
    wanted = gradients_in(torch.float32, plain, clip_BCTHW)
    torch.testing.assert_close(gradients_in(torch.float32, guarded, clip_BCTHW), wanted, rtol=1e-4, atol=1e-4)
    for name, found in gradients_in(torch.bfloat16, guarded, clip_BCTHW).items():
        assert torch.cosine_similarity(found.flatten(), wanted[name].flatten(), dim=0) > 0.98, name
