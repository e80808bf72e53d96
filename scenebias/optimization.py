"""The optimiser and the learning rate of every step."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch

OptimizerName = Literal["sgd", "adamw"]
ScheduleName = Literal["constant", "cosine"]


@dataclass(frozen=True)
class OptimizationConfig:
    """How the weights are updated."""

    optimizer: OptimizerName = "sgd"
    """sgd: with momentum, as published; adamw: gets small networks going that start at random."""
    learning_rate: float = 1e-3
    """Peak learning rate, for the global batch."""
    momentum: float = 0.9
    """Momentum of SGD; AdamW's first beta."""
    weight_decay: float = 1e-5
    """L2 penalty (AdamW: decoupled decay) on weight matrices and kernels; biases and normalisation are spared."""
    schedule: ScheduleName = "constant"
    """How the learning rate goes on after the warm-up; cosine ends at zero."""
    warmup_epochs: float = 0.0
    """Epochs (fractions allowed) in which the learning rate rises linearly from zero."""
    gradient_clip: float | None = None
    """Largest global gradient norm; None leaves gradients as they are."""

    def __post_init__(self) -> None:
        for name, allowed in (("optimizer", get_args(OptimizerName)), ("schedule", get_args(ScheduleName))):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate must be positive and finite, got {self.learning_rate}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must lie in [0, 1), got {self.momentum}")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"weight_decay must be 0 or more and finite, got {self.weight_decay}")
        if self.warmup_epochs < 0:
            raise ValueError(f"warmup_epochs must not be negative, got {self.warmup_epochs}")
        if self.gradient_clip is not None and not self.gradient_clip > 0:
            raise ValueError(f"gradient_clip must be positive, got {self.gradient_clip}")


def build_optimizer(model: torch.nn.Module, config: OptimizationConfig) -> torch.optim.Optimizer:
    """The optimiser of the trainable parameters; those of fewer than two dimensions have no weight decay."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in trainable if p.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(config.momentum, 0.999))
    return torch.optim.SGD(groups, lr=config.learning_rate, momentum=config.momentum)


def learning_rate_at(step: int, steps_per_epoch: int, epochs: int, config: OptimizationConfig) -> float:
    """The learning rate of global ``step`` (0-based, over all epochs): a pure function, so a resume needs no state."""
    warmup_steps = config.warmup_epochs * steps_per_epoch
    if step < warmup_steps:
        return config.learning_rate * (step + 1) / (warmup_steps + 1)
    if config.schedule == "constant":
        return config.learning_rate
    progress = (step - warmup_steps) / max(1.0, epochs * steps_per_epoch - warmup_steps)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))
