"""The options of a training run: what it works on, and how."""

from dataclasses import dataclass, field
from pathlib import Path

from dali_pipelines import ClipConfig, DecodingConfig, FaultConfig, ProtocolConfig
from scenebias.augment.config import AugmentConfig
from scenebias.compose.config import ComposeConfig
from scenebias.data.datasets import RemoteConfig
from scenebias.data.mixture import MixtureConfig
from scenebias.distributed.process_place import DistributedConfig
from scenebias.evaluation.precision import PrecisionConfig
from scenebias.run_folder.boards import BoardsConfig
from scenebias.run_folder.checkpoint import CheckpointConfig
from scenebias.training.computing.arithmetic import ArithmeticConfig
from scenebias.training.optimization import OptimizationConfig
from scenebias.training.schedule import ScheduleConfig
from shards.checks import require_at_least

WITHOUT_EFFECT = (
    "out",
    "train",
    "val",
    "recipe",
    "init",
    "pretrained",
    "weights",
    "loader_threads",
    "loader_prefetch",
    "decoding",
    "remote",
    "check_ranks_every_steps",
    "checkpoints",
    "distributed",
    "faults",
    "skip_nonfinite_steps",
    "recompute",
    "profile",
    "boards",
    "force",
)
"""Options that decide nothing of what a run has done so far, so that it goes on with others; data and initial weights
count by their content, not their place."""


@dataclass(frozen=True, kw_only=True)
class RunPlaces:
    """What a training run works on, and where."""

    train: str | tuple[str, ...]
    """Packed data set to train on: a folder, or its URL; or several, whose classes are joined by name."""
    val: str | tuple[str, ...]
    """Packed data set to evaluate on after every epoch, or several, each of which is evaluated by itself too."""
    out: Path
    """Folder of the run; the same command continues a run that was interrupted."""
    mixture: MixtureConfig = field(default_factory=MixtureConfig)

    @property
    def train_locations(self) -> tuple[str, ...]:
        """Where the training data lie, set by set."""
        return self.train if isinstance(self.train, tuple) else (self.train,)

    @property
    def val_locations(self) -> tuple[str, ...]:
        """Where the validation data lie, set by set."""
        return self.val if isinstance(self.val, tuple) else (self.val,)


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """How to train, on whatever data."""

    loader_threads: int = 2
    """Decoding threads of each process."""
    loader_prefetch: int = 2
    """Batches that each process makes ahead."""
    decoding: DecodingConfig = field(default_factory=DecodingConfig)
    boards: BoardsConfig = field(default_factory=BoardsConfig)
    shuffle_window_shards: int | None = None
    """Shuffle within so many shards at a time, for storage that reads best in sequence; None: over all clips."""
    force: bool = False
    """Go on even where the initial weights have seen clips of --val."""
    profile: bool = False
    """Write a trace of a few steps, by torch's profiler, to trace.json in --out; it opens in ui.perfetto.dev."""
    clip: ClipConfig = field(default_factory=ClipConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    compose: ComposeConfig = field(default_factory=ComposeConfig)
    protocol: ProtocolConfig = field(default_factory=ProtocolConfig)
    evaluation: PrecisionConfig = field(default_factory=PrecisionConfig)
    faults: FaultConfig = field(default_factory=FaultConfig)
    remote: RemoteConfig = field(default_factory=RemoteConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    optimization: OptimizationConfig = field(default_factory=OptimizationConfig)
    arithmetic: ArithmeticConfig = field(default_factory=ArithmeticConfig)
    checkpoints: CheckpointConfig = field(default_factory=CheckpointConfig)
    distributed: DistributedConfig = field(default_factory=DistributedConfig)

    def __post_init__(self) -> None:
        heads_alone = self.optimization.head_warmup_epochs
        if heads_alone >= self.schedule.epochs:
            raise ValueError(
                f"head_warmup_epochs must be below epochs ({self.schedule.epochs}), got {heads_alone}: the backbone"
                " would learn nothing"
            )
        require_at_least(
            1,
            loader_threads=self.loader_threads,
            loader_prefetch=self.loader_prefetch,
            shuffle_window_shards=self.shuffle_window_shards,
        )


@dataclass(frozen=True, kw_only=True)
class RunConfig(TrainingOptions, RunPlaces):
    """What every training run needs to know."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, locations in (("train", self.train_locations), ("val", self.val_locations)):
            if not locations:
                raise ValueError(f"{name} must name at least one packed data set")
        self.mixture.require_sets(len(self.train_locations), len(self.val_locations))
