"""BatchNorm on human-masked clips, whose statistics are not those of clean ones.

`MaskedBatchNorm` says which statistics and weights masked clips are normalised with. In one batch with the clean clips:

- ``clean``: by the statistics of the clean clips (`PartBatchNorm`), which alone move the running ones. Training,
  evaluation and statistics estimated anew then agree;
- ``both``: by the statistics of the whole batch.

In a pass of their own:

- ``own``: by those of the masked batch, which leave the running statistics alone;
- ``released``: by those of the masked batch, which also move the running ones, as in the code released with the paper;
- ``frozen``: by the running statistics of the clean clips, which stay as they are;
- ``separate``: by normalisation layers of their own (AdvProp, Xie et al., CVPR 2020), so that the ones that are kept
  know clean clips alone.
"""

from contextlib import AbstractContextManager
from copy import deepcopy
from typing import Literal

from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from scenebias.models.module_attributes import attributes_set

MaskedBatchNorm = Literal["clean", "both", "own", "released", "frozen", "separate"]
IN_ONE_BATCH: tuple[MaskedBatchNorm, ...] = ("clean", "both")
IN_PASSES_OF_THEIR_OWN: tuple[MaskedBatchNorm, ...] = ("own", "released", "frozen", "separate")


def batch_norms(network: nn.Module) -> dict[str, _BatchNorm]:
    """The normalisation layers of ``network`` over the batch, synchronised ones too, by their names in it."""
    return {name: module for name, module in network.named_modules() if isinstance(module, _BatchNorm)}


def frozen_statistics(network: nn.Module) -> AbstractContextManager[None]:
    """Let ``network`` normalise by its running statistics in the block, and leave them as they are."""
    return attributes_set({norm: {"training": False} for norm in batch_norms(network).values()})


def untracked_statistics(network: nn.Module) -> AbstractContextManager[None]:
    """Let ``network`` normalise as it does in the block, without a trace in its running statistics."""
    return attributes_set({norm: {"track_running_stats": False} for norm in batch_norms(network).values()})


class SeparateBatchNorms(nn.Module):
    """A second set of the BatchNorms of ``network``, which begins as a copy of the first."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        norms = batch_norms(network)
        self.names = tuple(norms)
        self.norms = nn.ModuleList(deepcopy(norm) for norm in norms.values())

    def forward(self, network: nn.Module, *inputs: Tensor) -> Tensor:
        """What ``network`` makes of ``inputs`` with this set in place of its own."""
        tensors = {
            f"{name}.{key}": tensor
            for name, norm in zip(self.names, self.norms, strict=True)
            for key, tensor in norm.state_dict(keep_vars=True).items()
        }
        return functional_call(network, tensors, inputs)
