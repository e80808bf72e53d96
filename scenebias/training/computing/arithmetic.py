"""How a training step is computed: number formats, what is recomputed or compiled, how processes add up gradients."""

import inspect
import os
import warnings
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from scenebias.debiasing.debiasing_model import DebiasingModel
from scenebias.distributed.batch_norm import sync_batch_norm
from scenebias.distributed.process_place import ProcessPlace
from scenebias.training.computing.bf16_on_cpu import pad_small_inputs
from scenebias.training.computing.recomputation import recompute_activations
from shards.checks import require_at_least
from shards.errors import UserError

Precision = Literal["auto", "bf16", "fp16", "fp32"]


@dataclass(frozen=True, kw_only=True)
class ArithmeticConfig:
    """How a training step is computed."""

    precision: Precision = "auto"
    """Arithmetic of the forward pass: bf16 or fp16 (with loss scaling) autocast, or fp32; auto: bf16 on GPUs that have
    it, fp16 on others, fp32 on the CPU."""
    accumulate: int = 1
    """Parts in which each process computes its clips of a step, one after another: less memory. BatchNorm sees a part
    at a time."""
    recompute: bool = False
    """Keep only what enters each block of the backbone and compute the rest again in the backward pass: less memory,
    the same gradients, 15 to 30 % more time."""
    sync_batch_norm: bool = False
    """BatchNorm over the clips of all processes: the same losses with any number of them."""
    compile: bool = False
    """Compile the backbone with torch.compile; needs a C++ compiler on the CPU."""
    deterministic: bool = False
    """Only deterministic operations on GPUs, where the fastest are not; the CPU's always are. Not for resnet3d_18_*, as
    GPUs have no deterministic gradient of its max-pool."""

    def __post_init__(self) -> None:
        if self.precision not in get_args(Precision):
            raise ValueError(f"precision must be one of {', '.join(get_args(Precision))}, got {self.precision!r}")
        require_at_least(1, accumulate=self.accumulate)
        if self.compile and self.recompute:
            raise ValueError(
                "compile gains nothing together with recompute, as nothing is compiled: choose one of them"
            )

    def dtype_on(self, device: torch.device) -> torch.dtype:
        """The type that autocast computes in on ``device``."""
        if self.precision != "auto":
            return {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[self.precision]
        if device.type != "cuda":
            return torch.float32
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def prepare_model(model: DebiasingModel, config: ArithmeticConfig, place: ProcessPlace) -> None:
    """Bring ``model`` to its device and into the form that ``config`` asks for; its parameters keep their names."""
    if place.device.type == "cuda":
        torch.backends.cudnn.benchmark = not config.deterministic
    if config.deterministic:
        if place.device.type == "cuda" and any(isinstance(module, nn.MaxPool3d) for module in model.modules()):
            raise UserError(
                f"--deterministic: GPUs have no deterministic gradient of the max-pool in"
                f" {model.action_model.config.backbone}; train without it, or another --backbone"
            )
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it when it is first used
        torch.use_deterministic_algorithms(True)
    model.to(place.device).to(memory_format=torch.channels_last_3d)
    if config.sync_batch_norm:
        sync_batch_norm(model, place)
    backbone = model.action_model.backbone
    if place.device.type == "cpu" and config.dtype_on(place.device) == torch.bfloat16:
        pad_small_inputs(backbone)
    if config.recompute:
        recompute_activations(backbone)
    if config.compile:
        backbone.compile()


def buffers_in_forward(sent: bool) -> dict[str, Any]:
    """DDP's option to send rank 0's buffers around before every pass, as this version of torch calls it."""
    names = inspect.signature(DistributedDataParallel.__init__).parameters
    return {"forward_sync_buffers" if "forward_sync_buffers" in names else "broadcast_buffers": sent}


def share_gradients(model: DebiasingModel, config: ArithmeticConfig, place: ProcessPlace) -> nn.Module:
    """``model``, behind DDP where there are several processes; those of its parameters that are frozen now stay so."""
    if place.world_size == 1:
        return model
    # Said of 1x1x1 convolutions, whose strides differ where their size is 1: the order in memory is the same.
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
    return DistributedDataParallel(
        model,
        device_ids=[place.device] if place.device.type == "cuda" else None,
        gradient_as_bucket_view=True,
        # BatchNorm's running statistics are each rank's own until the epoch is over: no training pass reads them, but
        # one of masked clips that is normalised by them.
        **buffers_in_forward(model.config.uses_masks and model.config.norm_of_masked == "frozen"),
        # The two phases of an alternating step are two graphs, and so are a part with gradients shared and one without.
        static_graph=len(model.config.phases) == 1 and config.accumulate == 1,
    )
