"""A remedy for bfloat16 on CPUs: oneDNN, as of torch 2.14, computes wrong gradients for convolutions of small inputs.

Where a padded 3D convolution gets fewer frames, rows or columns than its kernel spans, the gradient of its weights
comes from memory that was never written, or the process crashes. In R3D-18 that is the whole last stage: two frames are
left there of a clip of 16. Zeros around the input in place of the padding give the same convolution, correctly.

Shape suffixes: B clips, C channels, T frames, H rows, W columns.
"""

from functools import partial
from typing import cast

from torch import Tensor, nn
from torch.nn import functional


def pad_small_inputs(network: nn.Module) -> None:
    """Let the 3D convolutions of ``network`` put zeros around such inputs themselves."""
    for module in network.modules():
        if isinstance(module, nn.Conv3d) and any(module.padding):
            assert module.padding_mode == "zeros", "other paddings are explicit already"
            module.forward = partial(_forward, module)  # type: ignore[method-assign]


def _forward(convolution: nn.Conv3d, input_BCTHW: Tensor) -> Tensor:
    padding = cast(tuple[int, int, int], convolution.padding)
    sizes = zip(input_BCTHW.shape[2:], convolution.kernel_size, padding, strict=True)
    T, H, W = (pad if size < kernel else 0 for size, kernel, pad in sizes)
    if not (T or H or W):
        return type(convolution).forward(convolution, input_BCTHW)
    return functional.conv3d(
        functional.pad(input_BCTHW, (W, W, H, H, T, T)),
        convolution.weight,
        convolution.bias,
        convolution.stride,
        (padding[0] - T, padding[1] - H, padding[2] - W),
        convolution.dilation,
        convolution.groups,
    )
