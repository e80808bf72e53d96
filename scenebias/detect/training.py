"""Training of the detector of boxes, with its backbone or on a frozen one.

A run is a function of its options and of the pair (epoch, step), as `scenebias.training.trainer` says of its own.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from scenebias.detect.detector import ActionDetector, DetectorConfig
from scenebias.detect.key_frames import Window
from scenebias.detect.windows_ahead import TrainingWindows
from scenebias.distributed.batch_norm import sync_batch_norm
from scenebias.distributed.interruption import Interrupted, Interruption
from scenebias.distributed.process_place import ProcessPlace
from scenebias.models.action_model import ActionModel
from scenebias.run_folder.checkpoint import CheckpointConfig, CheckpointFolder, TrainingState
from scenebias.training.arithmetic import ArithmeticConfig, Precision
from scenebias.training.bf16_on_cpu import pad_small_inputs
from scenebias.training.optimization import OptimizationConfig, learning_rates_at, optimizer_of
from shards.checks import require_at_least
from shards.errors import UserError

ALONE = ProcessPlace(0, 1, torch.device("cpu"))


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
        if self.optimization.schedule == "plateau":
            raise ValueError("schedule must be one of constant, cosine, step, got 'plateau': no epoch is evaluated")
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


class DetectorTraining:
    """Trains an `ActionDetector`, from where its checkpoints say that it stood.

    The same windows make up a step in any number of processes, and the loss is the mean over all of them. What
    BatchNorm normalises by are the windows of a process, unless ``sync_batch_norm`` says otherwise.
    """

    def __init__(
        self,
        detector: ActionDetector,
        windows: TrainingWindows,
        config: DetectorTrainingConfig,
        place: ProcessPlace = ALONE,
        checkpoints: CheckpointFolder | None = None,
        interruption: Interruption | None = None,
    ) -> None:
        """Raises UserError where the batches are too small for the processes, or a checkpoint does not fit."""
        if windows.order.batch_sizes[0] < place.world_size:
            raise UserError(
                f"a step has {windows.order.batch_sizes[0]} windows, too few for {place.world_size} processes: raise"
                " --batch-size or start fewer"
            )
        self.detector, self._windows, self._config, self._place = detector, windows, config, place
        self._checkpoints, self._interruption = checkpoints, interruption or Interruption()
        self._dtype = ArithmeticConfig(precision=config.precision).dtype_on(place.device)
        self._prepare()
        self._optimizer = optimizer_of(
            [("backbone", detector.model.backbone), ("heads", detector.own_layers)], config.optimization
        )
        self._scaler = torch.amp.GradScaler(place.device.type, enabled=self._dtype == torch.float16)
        self._steps = windows.steps_per_epoch
        self._epoch = self._step = 0
        self._history: list[dict[str, float]] = []
        self._loss_sum = 0.0
        if checkpoints is not None and (state := checkpoints.load_newest()) is not None:
            self._restore(state)
        if not place.agree(self._epoch * self._steps + self._step):
            raise UserError(
                "the processes found different checkpoints: put --out on storage that all machines share, or remove its"
                " checkpoints to begin anew"
            )

    def _prepare(self) -> None:
        model, place = self.detector.model, self._place
        model.freeze_backbone(self._config.freeze_backbone)
        model.head.requires_grad_(False)  # the detector has its own classes
        self.detector.to(place.device)
        model.backbone.to(memory_format=torch.channels_last_3d)
        if self._config.sync_batch_norm:
            sync_batch_norm(model.backbone, place)
        if place.device.type == "cpu" and self._dtype == torch.bfloat16:
            pad_small_inputs(model.backbone)

    def run(self, after_epoch: Callable[[int, float], None] = lambda epoch, loss: None) -> list[float]:
        """Train to the last epoch; the mean loss of every one.

        ``after_epoch`` is called after each that this process trained, with how many are done and the loss of the last.

        Raises:
            UserError: a loss is not finite, or a video is damaged.
            Interrupted: a signal asked for an end, and a checkpoint holds all that was done.
        """
        place, config = self._place, self._config
        module = self.detector if place.world_size == 1 else DistributedDataParallel(self.detector)
        self.detector.train()
        batches = self._windows.batches(self._epoch, config.epochs, self._step, place.rank, place.world_size)
        for batch in batches:
            self._loss_sum += self._one_step(module, batch)
            self._step += 1
            if self._step == self._steps:
                self._end_epoch(after_epoch)
            elif self._step % config.checkpoints.checkpoint_every_steps == 0:
                self._save()
            self._end_where_asked()
        self.detector.eval()
        return [entry["loss"] for entry in self._history]

    def _end_epoch(self, after_epoch: Callable[[int, float], None]) -> None:
        # BatchNorm's running averages are each rank's own; those that are kept are rank 0's.
        self._place.copy_from_main(self.detector.buffers())
        loss = self._loss_sum / self._steps
        self._history.append({"epoch": self._epoch, "loss": loss})
        self._epoch, self._step, self._loss_sum = self._epoch + 1, 0, 0.0
        self._save()
        after_epoch(self._epoch, loss)

    def _one_step(self, module: nn.Module, batch: list[Window]) -> float:
        """One update by this process's share of a step; the loss of all of it before."""
        config, place = self._config.optimization, self._place
        step = self._epoch * self._steps + self._step
        rates = learning_rates_at(step, self._steps, self._config.epochs, config)
        for group in self._optimizer.param_groups:
            group["lr"] = rates[group["part"]]
        clip_BTHWC = torch.stack([window.clip_THWC for window in batch]).to(place.device)
        with torch.autocast(place.device.type, self._dtype, enabled=self._dtype != torch.float32):
            said = module(clip_BTHWC)
        found = self.detector.summed_loss(said, [window.truth for window in batch])
        answers = place.sum_over_ranks(found.answers.clone()).clamp(min=1)
        loss = place.sum_over_ranks(found.total.detach().clone()) / answers
        if not loss.isfinite():
            raise UserError(
                f"the detector's loss is not finite in epoch {self._epoch}, step {self._step}: train with a lower"
                " --learning-rate or with --gradient-clip, into another --out"
            )
        self._optimizer.zero_grad()
        self._update(found.total / answers * place.world_size)  # gradients are averaged over processes
        return loss.item()

    def _update(self, loss: Tensor) -> None:
        self._scaler.scale(loss).backward()
        self._scaler.unscale_(self._optimizer)
        if self._config.optimization.gradient_clip is not None:
            nn.utils.clip_grad_norm_(self.detector.parameters(), self._config.optimization.gradient_clip)
        self._scaler.step(self._optimizer)
        self._scaler.update()

    def _end_where_asked(self) -> None:
        try:
            self._interruption.end_together(self._place)
        except Interrupted:
            self._save()
            self._place.wait_for_all()  # torchrun ends the others once one is gone, rank 0 in its write too
            raise

    def _save(self) -> None:
        if self._checkpoints is None or not self._place.is_main:
            return
        self._checkpoints.save(
            TrainingState(
                epoch=self._epoch,
                step=self._step,
                model=self.detector.state_dict(),
                optimizer=self._optimizer.state_dict(),
                scaler=self._scaler.state_dict(),
                counts={},
                history=[*self._history, {"epoch": self._epoch, "loss_sum": self._loss_sum}],
            )
        )

    def _restore(self, state: TrainingState) -> None:
        state.restore(self.detector, self._optimizer, self._scaler)
        self._epoch, self._step = state.position
        *self._history, begun = state.history
        self._loss_sum = begun["loss_sum"]
