"""How long a run is, of which batches, and what it outlives."""

from dataclasses import dataclass, field

from scenebias.training.precise_batch_norm import PreciseBatchNormConfig
from shards.checks import require_at_least


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """How long and in what steps to train."""

    epochs: int = 10
    """Passes over the training clips; a finished run may be given more, if its schedule permits it."""
    batch_size: int = 32
    """Clips per step, over all processes together."""
    repeated_augmentation: int = 1
    """Times that every clip comes in its step, each time augmented anew: --batch-size counts all of them, and an epoch
    has as many times more steps."""
    seed: int = 0
    """Decides the initial weights, the order of the clips and their augmentation."""
    skip_nonfinite_steps: int = 0
    """Steps in which a loss or gradient may be infinite or no number: that update of the weights, and what follows it
    in the step, is not made. One more ends the run."""
    ema: float | None = None
    """Evaluate and keep the moving average of the weights over the steps, such as 0.999: each step leaves this share of
    it, the first ones less. None: the weights after the last step."""
    check_ranks_every_steps: int = 500
    """Steps between checks that all processes hold the same weights; they also follow every epoch."""
    precise_bn: PreciseBatchNormConfig = field(default_factory=PreciseBatchNormConfig)

    def __post_init__(self) -> None:
        require_at_least(
            1, epochs=self.epochs, batch_size=self.batch_size, check_ranks_every_steps=self.check_ranks_every_steps
        )
        require_at_least(1, repeated_augmentation=self.repeated_augmentation)
        if self.batch_size % self.repeated_augmentation:
            raise ValueError(
                f"repeated_augmentation must divide batch_size ({self.batch_size}), got {self.repeated_augmentation}"
            )
        if self.skip_nonfinite_steps < 0:
            raise ValueError(f"skip_nonfinite_steps must be 0 or more, got {self.skip_nonfinite_steps}")
        if self.ema is not None and not 0 < self.ema < 1:
            raise ValueError(f"ema must lie between 0 and 1, got {self.ema}")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed must lie in [0, 2^63), got {self.seed}")
