"""The paper's network: its shapes, and its shortcut without weights.

Whole outputs are compared with a restatement of the original in test_import_weights.py.
"""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from scenebias.models.resnet3d import PaddedShortcut, resnet3d_18


def shortcut_by_hand(input_BCTHW: Tensor, channel_count: int, stride: int) -> Tensor:
    """Type A as published: identity, subsampled, with channels of zeros for the increase (He et al., CVPR 2016)."""
    pooled_BCTHW = functional.avg_pool3d(input_BCTHW, kernel_size=1, stride=stride)
    missing = channel_count - pooled_BCTHW.shape[1]
    zeros_BCTHW = torch.zeros(len(pooled_BCTHW), missing, *pooled_BCTHW.shape[2:], dtype=pooled_BCTHW.dtype)
    return torch.cat([pooled_BCTHW, zeros_BCTHW], dim=1)


@pytest.mark.parametrize("size", [(1, 1, 1), (4, 6, 6), (3, 5, 7)])
def test_the_padded_shortcut_and_its_gradient_are_those_of_pooling_and_zeros(size: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    input_BCTHW = torch.randn(2, 3, *size, dtype=torch.float64, requires_grad=True)
    output_BCTHW = PaddedShortcut(8, stride=2)(input_BCTHW)
    expected_BCTHW = shortcut_by_hand(input_BCTHW, 8, stride=2)
    assert torch.equal(output_BCTHW, expected_BCTHW)
    weight_BCTHW = torch.randn_like(expected_BCTHW)
    (gradient,) = torch.autograd.grad((output_BCTHW * weight_BCTHW).sum(), input_BCTHW)
    (expected,) = torch.autograd.grad((expected_BCTHW * weight_BCTHW).sum(), input_BCTHW)
    assert torch.equal(gradient, expected)
    assert gradient.any()


def test_the_padded_shortcut_keeps_the_layout_forwards_and_backwards() -> None:
    input_BCTHW = torch.randn(2, 4, 4, 6, 6).to(memory_format=torch.channels_last_3d).requires_grad_()
    output_BCTHW = PaddedShortcut(8, stride=2)(input_BCTHW)
    (gradient,) = torch.autograd.grad(output_BCTHW.square().sum(), input_BCTHW)
    assert output_BCTHW.is_contiguous(memory_format=torch.channels_last_3d)
    assert gradient.is_contiguous(memory_format=torch.channels_last_3d)


@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_stages_have_the_published_shapes(shortcut: str) -> None:
    """Table 1 of Hara et al. (ICCV workshops 2017)."""
    network = resnet3d_18(shortcut)
    weights = 3 * 64 * 7**3
    weights += (4 * 64**2 + 64 * 128 + 3 * 128**2 + 128 * 256 + 3 * 256**2 + 256 * 512 + 3 * 512**2) * 3**3
    norms = 5 * 64 + 4 * (128 + 256 + 512)
    if shortcut == "B":
        weights += 64 * 128 + 128 * 256 + 256 * 512
        norms += 128 + 256 + 512
    counted = sum(p.numel() for name, p in network.named_parameters() if not name.startswith("fc."))
    assert counted == weights + 2 * norms
    shapes = {}
    for name in ("stem", "layer1", "layer2", "layer3", "layer4"):
        network.get_submodule(name).register_forward_hook(
            lambda _, __, output, name=name: shapes.update({name: tuple(output.shape[1:])})
        )
    with torch.inference_mode():
        network.eval()(torch.zeros(1, 3, 16, 112, 112))
    assert shapes == {
        "stem": (64, 8, 28, 28),
        "layer1": (64, 8, 28, 28),
        "layer2": (128, 4, 14, 14),
        "layer3": (256, 2, 7, 7),
        "layer4": (512, 1, 4, 4),
    }
