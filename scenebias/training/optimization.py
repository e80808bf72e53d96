"""The optimiser and the learning rates of every step."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.optim.lr_scheduler import ReduceLROnPlateau

from scenebias.debiasing.debiasing_model import DebiasingModel
from scenebias.models.backbones import Backbone

OptimizerName = Literal["sgd", "adamw"]
ScheduleName = Literal["constant", "cosine", "step", "plateau"]
Decay = Literal["kernels", "all"]
Part = Literal["backbone", "heads"]


@dataclass(frozen=True)
class OptimizationConfig:
    """How the weights are updated."""

    optimizer: OptimizerName = "sgd"
    """sgd: with momentum, as published; adamw: gets small networks going that start at random."""
    learning_rate: float = 1e-3
    """Peak learning rate, for the global batch."""
    new_layer_factor: float = 1.0
    """Learning rate of the heads, relative to that of the backbone."""
    layer_decay: float = 1.0
    """Learning rate of each layer or block of the backbone, relative to that of the next one; the last has that of the
    backbone. 1: the same for all."""
    momentum: float = 0.9
    """Momentum of SGD; AdamW's first beta."""
    weight_decay: float = 1e-5
    """L2 penalty (AdamW: decoupled decay) on what --decay says."""
    decay: Decay = "kernels"
    """kernels: weight matrices and kernels decay, biases and normalisation are spared; all: everything decays."""
    schedule: ScheduleName = "constant"
    """How the learning rate goes on after the warm-up; cosine ends at zero, step falls at --step-epochs, plateau when
    the action loss on the validation clips no longer falls."""
    step_epochs: tuple[int, ...] = ()
    """Schedule step: the learning rate falls when so many epochs are done."""
    plateau_patience: int = 10
    """Schedule plateau: epochs without a lower validation loss that are borne before the learning rate falls."""
    decay_factor: float = 0.1
    """Schedules step and plateau: what the learning rate is multiplied by when it falls."""
    head_warmup_epochs: int = 0
    """First epochs, in which the heads alone learn, on a frozen backbone."""
    head_warmup_learning_rate: float = 1e-2
    """Learning rate of the heads in those."""
    warmup_epochs: float = 0.0
    """Epochs (fractions allowed) in which the learning rate rises linearly from zero, after those of the heads."""
    gradient_clip: float | None = None
    """Largest global gradient norm; None leaves gradients as they are. Transformers that --backbone names have 1 by
    default, but for a recipe's."""

    def __post_init__(self) -> None:
        for name, allowed in (
            ("optimizer", get_args(OptimizerName)),
            ("schedule", get_args(ScheduleName)),
            ("decay", get_args(Decay)),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}")
        for name in ("learning_rate", "new_layer_factor", "head_warmup_learning_rate"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be positive and finite, got {getattr(self, name)}")
        for name in ("weight_decay", "warmup_epochs", "head_warmup_epochs", "plateau_patience"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be 0 or more and finite, got {getattr(self, name)}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must lie in [0, 1), got {self.momentum}")
        if not 0 < self.layer_decay <= 1:
            raise ValueError(f"layer_decay must lie above 0 and be at most 1, got {self.layer_decay}")
        if not 0 < self.decay_factor < 1:
            raise ValueError(f"decay_factor must lie between 0 and 1, got {self.decay_factor}")
        if self.schedule == "step" and not self.step_epochs:
            raise ValueError("step_epochs must name at least one epoch for schedule step, got none")
        if list(self.step_epochs) != sorted({epoch for epoch in self.step_epochs if epoch > 0}):
            raise ValueError(f"step_epochs must be positive and rise, got {self.step_epochs}")
        if self.gradient_clip is not None and not self.gradient_clip > 0:
            raise ValueError(f"gradient_clip must be positive, got {self.gradient_clip}")


def build_optimizer(model: DebiasingModel, config: OptimizationConfig) -> torch.optim.Optimizer:
    """The optimiser of the trainable parameters, where they lie now.

    Each of its groups says in "part" whether it is of the backbone or of the heads. All else that serves the backbone,
    such as a second set of BatchNorms, is of its part.
    """
    modules: tuple[tuple[Part, torch.nn.Module | None], ...] = (
        ("backbone", model.action_model.backbone),
        ("backbone", model.masked_norms),
        ("heads", model.action_model.head),
        ("heads", model.scene_head),
        ("heads", model.masked_head),
    )
    return optimizer_of([(part, module) for part, module in modules if module is not None], config)


def optimizer_of(modules: Sequence[tuple[Part, torch.nn.Module]], config: OptimizationConfig) -> torch.optim.Optimizer:
    """The optimiser of the trainable parameters of ``modules``, each of which says what of the network it is.

    Each of its groups says so in "part", and in "rate_factor", where layers learn at different rates, its own.
    """
    # A group for each module: torch's fused SGD wants momentum for all parameters that it updates at once, or for none,
    # and those of a module get their first gradient together.
    groups = [group for part, module in modules for group in _groups(part, module, config)]
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(config.momentum, 0.999), fused=True)
    return torch.optim.SGD(groups, lr=config.learning_rate, momentum=config.momentum, fused=True)


def step_where(optimizer: torch.optim.Optimizer, is_made: Tensor) -> None:
    """A step of an optimiser that `optimizer_of` made, or none where the bool scalar ``is_made`` says so.

    It is read on the device: the host need not wait for it. Without a step all state stays as it is.
    """
    for group in optimizer.param_groups:
        if isinstance(optimizer, torch.optim.SGD) and group["momentum"]:
            for parameter in group["params"]:
                # Torch would leave memory that was never written where the first step of a parameter is not made.
                if parameter.grad is not None and "momentum_buffer" not in optimizer.state[parameter]:
                    optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter.grad)
    # What `torch.amp.GradScaler` tells fused optimisers: gradients are no longer scaled, and whether one is not finite.
    optimizer.grad_scale, optimizer.found_inf = None, (~is_made).float()  # type: ignore[attr-defined]
    optimizer.step()


def set_learning_rates(optimizer: torch.optim.Optimizer, rates: Mapping[Part, float]) -> None:
    """Give each group of an optimiser that `optimizer_of` made the rate of its part, by its own factor."""
    for group in optimizer.param_groups:
        group["lr"] = rates[group["part"]] * group.get("rate_factor", 1.0)


def _groups(part: Part, module: torch.nn.Module, config: OptimizationConfig) -> Iterator[dict[str, Any]]:
    """The groups of ``module``, layer by layer where their rates differ."""
    if config.layer_decay == 1 or not isinstance(module, Backbone):
        yield from _by_decay(part, list(module.parameters()), config)
        return
    layers = module.layers
    for depth, parameters in enumerate(layers, start=1):
        factor = config.layer_decay ** (len(layers) - depth)
        for group in _by_decay(part, parameters, config):
            yield group | {"rate_factor": factor}


def _by_decay(
    part: Part, parameters: Sequence[torch.nn.Parameter], config: OptimizationConfig
) -> Iterator[dict[str, Any]]:
    """The trainable ones of ``parameters`` that decay, then those that do not."""
    trainable = [parameter for parameter in parameters if parameter.requires_grad]
    for decays in (True, False):
        group = [parameter for parameter in trainable if decays == (config.decay == "all" or parameter.ndim >= 2)]
        if group:
            yield {"params": group, "part": part, "weight_decay": config.weight_decay if decays else 0.0}


def learning_rates_at(
    step: int,
    steps_per_epoch: int,
    epochs: int,
    config: OptimizationConfig,
    validation_losses: Sequence[float] = (),
) -> dict[Part, float]:
    """The learning rates of global ``step`` (0-based, over all epochs): a pure function, so a resume needs no state.

    ``validation_losses`` holds the action loss on the validation clips after every finished epoch, for the schedule
    plateau alone: a debiased model is meant to raise the adversarial losses. A rate of exactly zero says that the part
    is frozen: its gradients should be None, as momentum would gather them.
    """
    epoch = step // steps_per_epoch
    if epoch < config.head_warmup_epochs:
        return {"backbone": 0.0, "heads": config.head_warmup_learning_rate}
    step_after = step - config.head_warmup_epochs * steps_per_epoch
    steps_after = (epochs - config.head_warmup_epochs) * steps_per_epoch
    warmup_steps = config.warmup_epochs * steps_per_epoch
    factor = 1.0
    if step_after < warmup_steps:
        factor = (step_after + 1) / (warmup_steps + 1)
    elif config.schedule == "cosine":
        progress = (step_after - warmup_steps) / max(1.0, steps_after - warmup_steps)
        factor = 0.5 * (1 + math.cos(math.pi * progress))
    elif config.schedule == "step":
        factor = config.decay_factor ** sum(epoch >= falls for falls in config.step_epochs)
    elif config.schedule == "plateau":
        losses = tuple(validation_losses[config.head_warmup_epochs : epoch])
        factor = _plateau_factor(losses, config.plateau_patience, config.decay_factor)
    rate = config.learning_rate * factor
    return {"backbone": rate, "heads": rate * config.new_layer_factor}


@lru_cache(maxsize=1)  # the same for all steps of an epoch
def _plateau_factor(losses: tuple[float, ...], patience: int, decay_factor: float) -> float:
    """What the losses so far have brought the learning rate to, as a factor of its peak."""
    optimizer = torch.optim.SGD([torch.zeros(())], lr=1.0)
    scheduler = ReduceLROnPlateau(optimizer, factor=decay_factor, patience=patience, eps=0.0)
    for loss in losses:
        scheduler.step(loss)
    return float(optimizer.param_groups[0]["lr"])
