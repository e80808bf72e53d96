"""The arithmetic that a network is evaluated in."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, get_args

import torch

EvaluationPrecision = Literal["fp32", "tf32", "bf16"]


@dataclass(frozen=True, kw_only=True)
class PrecisionConfig:
    """In what arithmetic networks are evaluated."""

    eval_precision: EvaluationPrecision = "fp32"
    """Arithmetic of evaluation: fp32; tf32, faster on GPUs that have it, with 10 bits after the point in products (a
    CPU computes fp32); bf16, by autocast. Results say which."""

    def __post_init__(self) -> None:
        if self.eval_precision not in get_args(EvaluationPrecision):
            raise ValueError(
                f"eval_precision must be one of {', '.join(get_args(EvaluationPrecision))}, got {self.eval_precision!r}"
            )


@contextmanager
def computing_in(precision: EvaluationPrecision, device: torch.device) -> Iterator[None]:
    """Let convolutions and products of matrices be computed so in the block; torch's settings of before afterwards.

    By itself torch computes convolutions of float32 in TF32 on GPUs that have it.
    """
    convolutions, products = torch.backends.cudnn, torch.backends.cuda.matmul
    before = convolutions.allow_tf32, products.allow_tf32
    try:
        convolutions.allow_tf32 = products.allow_tf32 = precision == "tf32"
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            yield
    finally:
        convolutions.allow_tf32, products.allow_tf32 = before
