"""Training of the detector of boxes, with its backbone or on a frozen one."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import nn

from scenebias.detect.detector import ActionDetector, DetectorConfig
from scenebias.detect.key_frames import Window
from scenebias.detect.windows_ahead import TrainingWindows
from scenebias.distributed.batch_norm import sync_batch_norm
from scenebias.distributed.interruption import Interruption
from scenebias.distributed.process_place import ProcessPlace
from scenebias.models.action_model import ActionModel
from scenebias.run_folder.checkpoint import CheckpointConfig, CheckpointFolder
from scenebias.training.computing.arithmetic import ArithmeticConfig, Precision
from scenebias.training.computing.bf16_on_cpu import pad_small_inputs
from scenebias.training.detector_loop import ALONE, DetectorLoop, SummedLoss, require_no_plateau
from scenebias.training.optimization import OptimizationConfig
from shards.checks import require_at_least
from shards.errors import UserError


@dataclass(frozen=True, kw_only=True)
class DetectorTrainingConfig:
    """How the detector is trained."""

    epochs: int = 12
    """Passes over the groups of key frames."""
    batch_size: int = 16
    """Windows of a step, over all processes."""
    key_frame_group: int = 8
    """Neighbouring frames of which one is trained on in an epoch, a different one in each."""
    seed: int = 0
    """Of the initial weights, and of which frames are shown when and how."""
    freeze_backbone: bool = False
    """Whether the detector alone learns."""
    precision: Precision = "auto"
    """As of pretraining: bf16 or fp16 (with loss scaling) autocast, or fp32; auto: bf16 on GPUs that have it, fp16 on
    others, fp32 on the CPU."""
    sync_batch_norm: bool = False
    """BatchNorm over the windows of all processes: the same losses with any number of them."""
    optimization: OptimizationConfig = field(
        default_factory=lambda: OptimizationConfig(
            optimizer="adamw",
            learning_rate=2e-3,
            weight_decay=0.05,
            schedule="cosine",
            warmup_epochs=0.5,
            gradient_clip=1.0,
        )
    )
    checkpoints: CheckpointConfig = field(default_factory=CheckpointConfig)

    def __post_init__(self) -> None:
        require_at_least(1, epochs=self.epochs, batch_size=self.batch_size, key_frame_group=self.key_frame_group)
        require_at_least(0, seed=self.seed)
        ArithmeticConfig(precision=self.precision)
        require_no_plateau(self.optimization)
        if self.optimization.head_warmup_epochs:
            raise ValueError(
                f"head_warmup_epochs must be 0, as the detector's own layers begin with the backbone, got"
                f" {self.optimization.head_warmup_epochs}"
            )


def new_detector(model: ActionModel, class_count: int, config: DetectorConfig, seed: int) -> ActionDetector:
    """A detector on ``model``, which it keeps; its own layers are random, the same for a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ActionDetector(model, class_count, config)


class DetectorTraining(DetectorLoop[list[Window]]):
    """Trains an `ActionDetector`.

    The same windows make up a step in any number of processes. What BatchNorm normalises by are the windows of a
    process, unless ``sync_batch_norm`` says otherwise.
    """

    detector: ActionDetector

    def __init__(
        self,
        detector: ActionDetector,
        windows: TrainingWindows,
        config: DetectorTrainingConfig,
        place: ProcessPlace = ALONE,
        checkpoints: CheckpointFolder | None = None,
        interruption: Interruption | None = None,
    ) -> None:
        """Raises UserError where the batches are too small for the processes, and as `DetectorLoop`."""
        if windows.order.batch_sizes[0] < place.world_size:
            raise UserError(
                f"a step has {windows.order.batch_sizes[0]} windows, too few for {place.world_size} processes: raise"
                " --batch-size or start fewer"
            )
        self._windows = windows
        dtype = ArithmeticConfig(precision=config.precision).dtype_on(place.device)
        _prepare(detector, config, place, dtype)
        super().__init__(
            detector,
            [("backbone", detector.model.backbone), ("heads", detector.own_layers)],
            config.optimization,
            epochs=config.epochs,
            steps_per_epoch=windows.steps_per_epoch,
            place=place,
            checkpoints=checkpoints,
            checkpoint_every_steps=config.checkpoints.checkpoint_every_steps,
            interruption=interruption,
            dtype=dtype,
        )

    def batches(self, epoch: int, step: int) -> Iterator[list[Window]]:
        """See `TrainingWindows.batches`."""
        return self._windows.batches(epoch, self.epochs, step, self.place.rank, self.place.world_size)

    def loss(self, module: nn.Module, batch: list[Window]) -> SummedLoss:
        """FCOS's losses, in float32 whatever the network computes in."""
        clip_BTHWC = torch.stack([window.clip_THWC for window in batch]).to(self.place.device)
        with torch.autocast(self.place.device.type, self.dtype, enabled=self.dtype != torch.float32):
            said = module(clip_BTHWC)
        return self.detector.summed_loss(said, [window.truth for window in batch])


def _prepare(detector: ActionDetector, config: DetectorTrainingConfig, place: ProcessPlace, dtype: torch.dtype) -> None:
    model = detector.model
    model.freeze_backbone(config.freeze_backbone)
    model.head.requires_grad_(False)  # the detector has its own classes
    detector.to(place.device)
    model.backbone.to(memory_format=torch.channels_last_3d)
    if config.sync_batch_norm:
        sync_batch_norm(model.backbone, place)
    if place.device.type == "cpu" and dtype == torch.bfloat16:
        pad_small_inputs(model.backbone)
