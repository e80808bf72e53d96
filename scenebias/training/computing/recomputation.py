"""Activations that are not kept for the backward pass but computed again in it: less memory for more arithmetic."""

from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from scenebias.models.backbones import Backbone, blocks_of
from scenebias.models.module_attributes import Attributes, attributes_set


def recompute_activations(backbone: Backbone) -> None:
    """From now on keep only what enters each block of ``backbone``, and compute the rest again in the backward pass.

    Gradients stay the same to the bit, and so do BatchNorm's running statistics: they see each clip once. The weights
    keep their names.
    """
    for block in list(blocks_of(backbone.trunk)):
        if any(True for _ in block.children()):
            block.forward = partial(_forward, _Plain(block))


class _Plain(nn.Module):
    """A block as its class runs it."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, *inputs: Tensor) -> Any:
        return type(self.block).forward(self.block, *inputs)


def _forward(plain: _Plain, *inputs: Tensor) -> Any:
    # What the block holds now: BatchNorm is about to change its statistics, and what the caller has changed for this
    # pass alone (other tensors by torch.func.functional_call, how layers normalise) is no longer so in the backward.
    tensors = dict(plain.named_parameters()) | {name: buffer.clone() for name, buffer in plain.named_buffers()}
    modes = _modes_of(plain)
    is_recomputation = False

    def run(*inputs: Tensor) -> Any:
        nonlocal is_recomputation
        if is_recomputation:
            with attributes_set(modes):
                return functional_call(plain, tensors, inputs)
        is_recomputation = True
        return plain(*inputs)

    return checkpoint(run, *inputs, use_reentrant=False)


def _modes_of(plain: nn.Module) -> Attributes:
    """Of each module, whether it trains, and of a BatchNorm, whether it keeps running statistics."""
    names = ("training", "track_running_stats")
    return {
        module: {name: getattr(module, name) for name in names if hasattr(module, name)} for module in plain.modules()
    }
