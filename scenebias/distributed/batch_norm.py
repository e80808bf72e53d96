"""BatchNorm by the statistics of a part of the batch, or of the clips of all processes.

Of all processes: the same numbers with any number of them. Torch's own does that on GPUs alone; here is one for CPUs,
for shares of the batch of any sizes. Of a part: the leading clips of the batch give the statistics by which all of it
is normalised, so that clips of another kind can stand behind them and leave no trace in the statistics.

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
    if isinstance(module, PartBatchNorm):
        return PartBatchNorm.like(module, parts=module.parts, synchronised=True)
    if isinstance(module, _BatchNorm):
        if place.device.type == "cuda":
            return nn.SyncBatchNorm.convert_sync_batchnorm(module)
        return PartBatchNorm.like(module, synchronised=True)
    for name, child in module.named_children():
        setattr(module, name, sync_batch_norm(child, place))
    return module


def normalise_by_leading_part(module: nn.Module, parts: int) -> None:
    """Let the BatchNorms in ``module``, which is none itself, take their statistics from the first 1/``parts`` of the
    batch in training; they keep their parameters and buffers."""
    for name, child in module.named_children():
        if isinstance(child, _BatchNorm):
            setattr(module, name, PartBatchNorm.like(child, parts=parts))
        else:
            normalise_by_leading_part(child, parts)


class PartBatchNorm(_BatchNorm):
    """BatchNorm of (B, C, ...) that in training takes its statistics from the first 1/``parts`` of the batch.

    B is a multiple of ``parts``. ``synchronised``: from those of all processes together, of which each needs at least
    one clip; like torch's it leaves the gradients of its weights to be summed up over the processes, as DDP does.
    """

    parts: int
    synchronised: bool

    @classmethod
    def like(cls, norm: _BatchNorm, *, parts: int = 1, synchronised: bool = False) -> "PartBatchNorm":
        """What takes the place of ``norm``, with its parameters and buffers."""
        assert norm.affine, "all BatchNorms of the project have weights"
        own = cls(norm.num_features, norm.eps, norm.momentum)
        own.parts, own.synchronised = parts, synchronised
        for name, tensor in (*norm.named_parameters(), *norm.named_buffers()):
            setattr(own, name, tensor)
        return own.train(norm.training)

    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of dimensions."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or (self.parts == 1 and not self.synchronised):
            return super().forward(input)
        output, mean_C, var_C, count = _Normalise.apply(
            input, self.weight, self.bias, self.eps, len(input) // self.parts, self.synchronised
        )
        if self.track_running_stats:
            assert self.running_mean is not None
            assert self.running_var is not None
            assert self.num_batches_tracked is not None
            with torch.no_grad():
                self.num_batches_tracked.add_(1)
                momentum = 1 / int(self.num_batches_tracked) if self.momentum is None else self.momentum
                self.running_mean.lerp_(mean_C, momentum)
                self.running_var.lerp_(var_C * (count / (count - 1)), momentum)
        return output


class _Normalise(torch.autograd.Function):
    """The input, normalised, and of what is counted the mean, the biased variance and the number of values a channel,
    which is float64 and of no dimensions: with shares of any sizes the device alone knows it.

    Counted are the first ``leading`` clips, of all processes where ``synchronised``.

    Each reduction and each elementwise pass is one of torch's kernels: they take as long as those of BatchNorm itself.
    """

    @staticmethod
    def forward(
        ctx: Any, input: Tensor, weight_C: Tensor, bias_C: Tensor, eps: float, leading: int, synchronised: bool
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        counted, values = input[:leading], leading * input[0].numel() // input.shape[1]
        count = torch.full((), values, dtype=torch.float64, device=input.device)
        # A momentum of zero leaves the statistics that are passed in as they are; they decide the result's type.
        mean_C, var_C = torch.batch_norm_update_stats(
            counted, torch.zeros_like(weight_C), torch.ones_like(weight_C), 0.0
        )
        if synchronised:
            mean_C, var_C, count = _combine(mean_C, var_C, count)
        ctx.save_for_backward(input, weight_C, mean_C, var_C, count)
        ctx.eps, ctx.leading, ctx.synchronised = eps, leading, synchronised
        ctx.mark_non_differentiable(mean_C, var_C, count)
        return functional.batch_norm(input, mean_C, var_C, weight_C, bias_C, eps=eps), mean_C, var_C, count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None, None, None]:
        """Ioffe and Szegedy, ICML 2015, section 3: all that was normalised pulls at the statistics, and these at what
        was counted alone."""
        gradient = gradients[0]
        input, weight_C, mean_C, var_C, count = ctx.saved_tensors
        # As if mean and variance were constants: the sums over this process's values.
        _, weight_gradient_C, bias_gradient_C = torch.ops.aten.native_batch_norm_backward(
            gradient, input, weight_C, mean_C, var_C, None, None, False, ctx.eps, [False, True, True]
        )
        if not ctx.needs_input_grad[0]:
            return None, weight_gradient_C, bias_gradient_C, None, None, None
        sums_2C = torch.stack([weight_gradient_C, bias_gradient_C]).double()
        if ctx.synchronised:
            distributed.all_reduce(sums_2C)
        product_mean_C, gradient_mean_C = (sums_2C / count).to(mean_C.dtype)
        scale_C = (var_C + ctx.eps).rsqrt()
        # scale * weight * (gradient - gradient_mean - normalised * product_mean), as sums of products.
        of_gradient_C = scale_C * weight_C
        of_input_C = -of_gradient_C * scale_C * product_mean_C
        constant_C = -of_gradient_C * gradient_mean_C - of_input_C * mean_C
        of_gradient, of_input, constant = (
            values_C.view(1, -1, *[1] * (input.ndim - 2)) for values_C in (of_gradient_C, of_input_C, constant_C)
        )
        input_gradient = gradient * of_gradient
        counted_gradient = input_gradient[: ctx.leading]
        counted_gradient.add_(constant).addcmul_(input[: ctx.leading], of_input)
        return input_gradient.to(input.dtype), weight_gradient_C, bias_gradient_C, None, None, None


def _combine(mean_C: Tensor, var_C: Tensor, count: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """From the statistics of each process those of all, to the same bits in every process."""
    local = torch.cat([mean_C.double(), var_C.double(), count[None]])
    gathered = [torch.empty_like(local) for _ in range(distributed.get_world_size())]
    distributed.all_gather(gathered, local)
    mean_RC, var_RC, count_R1 = torch.stack(gathered).split([len(mean_C), len(var_C), 1], dim=1)
    share_R1 = count_R1 / count_R1.sum()
    all_mean_C = (share_R1 * mean_RC).sum(dim=0)
    all_var_C = (share_R1 * (var_RC + (mean_RC - all_mean_C).square())).sum(dim=0)
    return all_mean_C.to(mean_C.dtype), all_var_C.to(var_C.dtype), count_R1.sum()
