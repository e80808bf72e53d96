"""BatchNorm's statistics, estimated anew with the weights as they are.

While a network learns, its running statistics are a moving average over batches that earlier weights have seen, and
over whatever else has passed through. Here they become plain means over batches that are given: "precise BN" of Wu and
Johnson, "Rethinking 'Batch' in BatchNorm" (arXiv 2105.07576, section 3), as in ``update_bn_stats`` of fvcore, which
PySlowFast uses.

Shape suffixes: C channels.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm

from scenebias.models.module_attributes import attributes_set

Batch = TypeVar("Batch")


def tracking_batch_norms(network: nn.Module) -> list[_BatchNorm]:
    """The BatchNorms of ``network`` in training mode that keep running statistics: those that can be estimated."""
    return [
        module
        for module in network.modules()
        if isinstance(module, _BatchNorm) and module.training and module.running_mean is not None
    ]


@torch.no_grad()
def estimate_statistics(network: nn.Module, batches: Iterable[Batch], forward: Callable[[Batch], object]) -> None:
    """Set running means and variances of ``network`` to the means of those of ``batches``, as training computes them.

    ``forward`` passes a batch through the network, once or several times. Each layer of `tracking_batch_norms`
    normalises by its own forward pass in training mode, and what it would have put into its running statistics (the
    variance corrected by n / (n - 1)) is averaged over all these passes, in float64. All other modules are in
    evaluation. Layers through which nothing passes, and those in evaluation, as of a frozen backbone, stay as they are.
    So do parameters, modes, momenta, and the number of batches tracked; after an error statistics, too.

    Several processes that are given the same batches find the same, each for itself: layers do not wait for each other
    here. Where there is nothing to estimate, no batch is asked for.
    """
    norms = tracking_batch_norms(network)
    if not norms:
        return
    averages = _Averages()
    with _in_training_alone(network, norms), _showing_last_pass(norms), averages.noted(norms):
        for batch in batches:
            forward(batch)
    for norm in norms:
        for statistic_C in _statistics(norm):
            averages.write_to(statistic_C)


class _Averages:
    """Means of running statistics over forward passes.

    By buffer and not by layer, as a layer may be lent other buffers for a pass (``torch.func.functional_call``).
    """

    def __init__(self) -> None:
        self._sums: dict[int, tuple[Tensor, int]] = {}

    @contextmanager
    def noted(self, norms: list[_BatchNorm]) -> Iterator[None]:
        """Count what passes of ``norms`` in training mode leave in their buffers."""
        handles = [norm.register_forward_hook(self._note) for norm in norms]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _note(self, norm: Any, _inputs: Any, _output: Any) -> None:
        if norm.training and norm.track_running_stats:
            for statistic_C in _statistics(norm):
                sum_C, passes = self._sums.get(id(statistic_C), (torch.zeros_like(statistic_C, dtype=torch.float64), 0))
                self._sums[id(statistic_C)] = sum_C + statistic_C, passes + 1

    def write_to(self, statistic_C: Tensor) -> None:
        """Overwrite a buffer with its mean, if it took part in any pass."""
        if id(statistic_C) in self._sums:
            sum_C, passes = self._sums[id(statistic_C)]
            statistic_C.copy_(sum_C / passes)


def _statistics(norm: _BatchNorm) -> tuple[Tensor, Tensor]:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return norm.running_mean, norm.running_var


def _in_training_alone(network: nn.Module, norms: list[_BatchNorm]) -> AbstractContextManager[None]:
    """All of ``network`` but ``norms`` in evaluation, so that dropout, for one, does not change what they see."""
    return attributes_set({module: {"training": module in norms} for module in network.modules()})


@contextmanager
def _showing_last_pass(norms: list[_BatchNorm]) -> Iterator[None]:
    """Let running statistics be those of the last pass, in this process alone; as they were before after the block."""
    buffers = {norm: [buffer.clone() for buffer in norm.buffers()] for norm in norms}
    try:
        with attributes_set({norm: {"momentum": 1.0, **_alone(norm)} for norm in norms}):
            yield
    finally:
        for norm, kept in buffers.items():
            for buffer, value in zip(norm.buffers(), kept, strict=True):
                buffer.copy_(value)


def _alone(norm: _BatchNorm) -> dict[str, object]:
    """What keeps a synchronised layer to this process: over R identical batches, n in the correction n / (n - 1) of the
    variance would be R times too large."""
    if isinstance(norm, nn.SyncBatchNorm):
        return {"process_group": distributed.GroupMember.NON_GROUP_MEMBER}
    return {"synchronised": False} if hasattr(norm, "synchronised") else {}
