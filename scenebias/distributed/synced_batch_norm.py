"""BatchNorm over the clips of all processes: the same numbers with any number of them.

Torch's own does that on GPUs alone. Here is one for CPUs, for shares of the batch of any sizes.

Shape suffixes: C channels, R ranks.
"""

from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from scenebias.distributed.process_place import ProcessPlace


def sync_batch_norm(module: nn.Module, place: ProcessPlace) -> nn.Module:
    """``module`` with its BatchNorms replaced, in place where it is not one itself; as it is with a single process.

    The replacements hold the same parameters and buffers under the same names.
    """
    if place.world_size == 1:
        return module
    if place.device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(module)
    if isinstance(module, _BatchNorm):
        return CpuSyncBatchNorm.like(module)
    for name, child in module.named_children():
        setattr(module, name, sync_batch_norm(child, place))
    return module


class CpuSyncBatchNorm(_BatchNorm):
    """BatchNorm of (B, C, ...) whose B is that of all processes together; each needs at least one clip.

    Like torch's it leaves the gradients of its weights to be summed up over the processes, as DDP does with all.
    """

    synchronised: bool = True
    """False: B is that of this process alone."""

    @classmethod
    def like(cls, norm: _BatchNorm) -> "CpuSyncBatchNorm":
        """What takes the place of ``norm``, with its parameters and buffers."""
        assert norm.affine, "all BatchNorms of the project have weights"
        synced = cls(norm.num_features, norm.eps, norm.momentum)
        for name, tensor in (*norm.named_parameters(), *norm.named_buffers()):
            setattr(synced, name, tensor)
        return synced.train(norm.training)

    def forward(self, input: Tensor) -> Tensor:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        if not self.training:
            return functional.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        self.num_batches_tracked.add_(1)
        momentum = 1 / int(self.num_batches_tracked) if self.momentum is None else self.momentum
        if not self.synchronised:
            statistics = self.running_mean, self.running_var
            return functional.batch_norm(input, *statistics, self.weight, self.bias, True, momentum, self.eps)
        output, mean_C, var_C, count = _Normalise.apply(input, self.weight, self.bias, self.eps)
        with torch.no_grad():
            self.running_mean.lerp_(mean_C, momentum)
            self.running_var.lerp_(var_C * (count / (count - 1)), momentum)
        return output


class _Normalise(torch.autograd.Function):
    """The normalised input, and over all processes the mean, the biased variance and the number of values a channel.

    Each reduction and each elementwise pass is one of torch's kernels: they take as long as those of BatchNorm itself.
    """

    @staticmethod
    def forward(
        ctx: Any, input: Tensor, weight_C: Tensor, bias_C: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, int]:
        # A momentum of zero leaves the statistics that are passed in as they are; they decide the result's type.
        local_C = torch.batch_norm_update_stats(input, torch.zeros_like(weight_C), torch.ones_like(weight_C), 0.0)
        mean_C, var_C, count = _combine(*local_C, input.numel() // input.shape[1])
        ctx.save_for_backward(input, weight_C, mean_C, var_C)
        ctx.eps, ctx.count = eps, count
        ctx.mark_non_differentiable(mean_C, var_C)
        return functional.batch_norm(input, mean_C, var_C, weight_C, bias_C, eps=eps), mean_C, var_C, count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None]:
        """Ioffe and Szegedy, ICML 2015, section 3, with the sums taken over all processes."""
        gradient = gradients[0]
        input, weight_C, mean_C, var_C = ctx.saved_tensors
        # As if mean and variance were constants: the sums over this process's values.
        _, weight_gradient_C, bias_gradient_C = torch.ops.aten.native_batch_norm_backward(
            gradient, input, weight_C, mean_C, var_C, None, None, False, ctx.eps, [False, True, True]
        )
        if not ctx.needs_input_grad[0]:
            return None, weight_gradient_C, bias_gradient_C, None
        sums_2C = torch.stack([weight_gradient_C, bias_gradient_C]).double()
        distributed.all_reduce(sums_2C)
        product_mean_C, gradient_mean_C = (sums_2C / ctx.count).to(mean_C.dtype)
        scale_C = (var_C + ctx.eps).rsqrt()
        # scale * weight * (gradient - gradient_mean - normalised * product_mean), as sums of products.
        of_gradient_C = scale_C * weight_C
        of_input_C = -of_gradient_C * scale_C * product_mean_C
        constant_C = -of_gradient_C * gradient_mean_C - of_input_C * mean_C
        of_gradient, of_input, constant = (
            values_C.view(1, -1, *[1] * (input.ndim - 2)) for values_C in (of_gradient_C, of_input_C, constant_C)
        )
        input_gradient = torch.addcmul(constant, input, of_input).addcmul_(gradient, of_gradient)
        return input_gradient.to(input.dtype), weight_gradient_C, bias_gradient_C, None


def _combine(mean_C: Tensor, var_C: Tensor, count: int) -> tuple[Tensor, Tensor, int]:
    """From the statistics of each process those of all, to the same bits in every process."""
    local = torch.cat([mean_C.double(), var_C.double(), torch.tensor([count], dtype=torch.float64)])
    gathered = [torch.empty_like(local) for _ in range(distributed.get_world_size())]
    distributed.all_gather(gathered, local)
    mean_RC, var_RC, count_R1 = torch.stack(gathered).split([len(mean_C), len(var_C), 1], dim=1)
    share_R1 = count_R1 / count_R1.sum()
    all_mean_C = (share_R1 * mean_RC).sum(dim=0)
    all_var_C = (share_R1 * (var_RC + (mean_RC - all_mean_C).square())).sum(dim=0)
    return all_mean_C.to(mean_C.dtype), all_var_C.to(var_C.dtype), int(count_R1.sum())
