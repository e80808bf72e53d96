"""Training of the detector of segments: on features that are in memory, or with the backbone.

Shape suffixes: B videos of a batch, C channels, T features.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils.rnn import pad_sequence

from scenebias.distributed.interruption import Interrupted, Interruption
from scenebias.distributed.process_place import ProcessPlace
from scenebias.localize.points import Points, point_loss
from scenebias.localize.pyramid import PointOutputs, Pyramid, PyramidConfig
from scenebias.localize.tracks import Take
from scenebias.run_folder.checkpoint import CheckpointFolder, TrainingState
from scenebias.training.optimization import OptimizationConfig, Part, learning_rates_at, optimizer_of
from shards.checks import require_at_least

ALONE = ProcessPlace(0, 1, torch.device("cpu"))


@dataclass(frozen=True, kw_only=True)
class HeadTrainingConfig:
    """How the detector is trained."""

    epochs: int = 60
    batch_size: int = 4
    """Videos of a step, over all processes."""
    seed: int = 0
    """Of the initial weights and of the order of the videos."""
    optimization: OptimizationConfig = field(
        default_factory=lambda: OptimizationConfig(
            optimizer="adamw",
            learning_rate=1e-3,
            weight_decay=0.05,
            schedule="cosine",
            warmup_epochs=5,
            gradient_clip=1.0,
        )
    )

    def __post_init__(self) -> None:
        require_at_least(1, epochs=self.epochs, batch_size=self.batch_size)
        require_at_least(0, seed=self.seed)
        if self.optimization.schedule == "plateau":
            raise ValueError("schedule must be one of constant, cosine, step, got 'plateau': no epoch is evaluated")


class Piece(NamedTuple):
    """A video, or a part of one, to learn from in one step."""

    content: Tensor
    """float (C, T), its features; or the frames that the encoder of the `SegmentDetector` makes them from."""
    segment_N2: Tensor
    """Start and end of its segments, in steps from its first feature."""
    label_N: Tensor


class Material(Protocol):
    """What is learned from."""

    def __len__(self) -> int:
        """How many videos there are."""

    def piece(self, video: int, epoch: int) -> Piece:
        """What is shown of a video in an epoch, a function of these two alone."""


@dataclass(frozen=True)
class Takes:
    """Whole videos whose features are in memory."""

    takes: Sequence[Take]

    def __len__(self) -> int:
        return len(self.takes)

    def piece(self, video: int, epoch: int) -> Piece:
        """All of it, in every epoch."""
        take = self.takes[video]
        return Piece(take.track.feature_CT, take.segment_N2, take.label_N)


class SegmentDetector(nn.Module):
    """What is trained: the pyramid, and where the backbone learns too, that."""

    def __init__(self, pyramid: Pyramid, encoder: nn.Module | None = None) -> None:
        super().__init__()
        self.pyramid, self.encoder = pyramid, encoder

    def forward(self, contents: Sequence[Tensor]) -> tuple[PointOutputs, int]:
        """What the points say of the pieces, the shorter ones filled up; and how many features the longest has."""
        device = self.pyramid.mean_C1.device
        features = [content.to(device) if self.encoder is None else self.encoder(content) for content in contents]
        feature_BTC = pad_sequence([feature_CT.T for feature_CT in features], batch_first=True)
        length_B = torch.tensor([feature_CT.shape[1] for feature_CT in features], device=device)
        return self.pyramid(feature_BTC.transpose(1, 2), length_B), feature_BTC.shape[1]


def train_pyramid(
    takes: Sequence[Take],
    class_count: int,
    pyramid_config: PyramidConfig,
    config: HeadTrainingConfig,
    *,
    after_epoch: Callable[[int, float], None] = lambda epoch, loss: None,
) -> Pyramid:
    """Train a new detector in one process on the CPU; a function of its arguments alone, to the same bits.

    ``after_epoch`` is called with the number of epochs done and the mean loss of the last one.

    Raises:
        ValueError: there is nothing to learn from.
        FloatingPointError: a loss is no finite number.
    """
    pyramid = new_pyramid(takes, class_count, pyramid_config, config.seed)
    DetectorTraining(SegmentDetector(pyramid), Takes(takes), config).run(after_epoch)
    return pyramid


def new_pyramid(takes: Sequence[Take], class_count: int, config: PyramidConfig, seed: int) -> Pyramid:
    """A detector that has learned nothing but how the features of ``takes`` are distributed.

    Raises ValueError where ``takes`` hold nothing to learn.
    """
    if not any(len(take.label_N) for take in takes):
        raise ValueError("takes must hold one or more segments to learn")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pyramid = Pyramid(takes[0].track.feature_CT.shape[0], class_count, config)
    pyramid.standardise_by([take.track.feature_CT for take in takes])
    return pyramid


class DetectorTraining:
    """Trains a `SegmentDetector`, from where its checkpoints say that it stood.

    The same videos make up a step in any number of processes, and the loss is the mean over all of them: the result
    depends on how many there are by the rounding of sums alone.
    """

    def __init__(
        self,
        detector: SegmentDetector,
        material: Material,
        config: HeadTrainingConfig,
        place: ProcessPlace = ALONE,
        checkpoints: CheckpointFolder | None = None,
        interruption: Interruption | None = None,
    ) -> None:
        self.detector, self._material, self._config, self._place = detector, material, config, place
        self._checkpoints, self._interruption = checkpoints, interruption or Interruption()
        detector.to(place.device)
        modules: list[tuple[Part, nn.Module]] = [("heads", detector.pyramid)]
        if detector.encoder is not None:
            modules.append(("backbone", detector.encoder))
        self._optimizer = optimizer_of(modules, config.optimization)
        self._steps = -(-len(material) // config.batch_size)
        self._epoch = self._step = 0
        self._history: list[dict[str, float]] = []
        self._loss_sum = 0.0
        if checkpoints is not None and (state := checkpoints.load_newest()) is not None:
            self._restore(state)

    @property
    def epochs_done(self) -> int:
        """How many whole epochs are behind it."""
        return self._epoch

    def run(self, after_epoch: Callable[[int, float], None] = lambda epoch, loss: None) -> list[float]:
        """Train to the last epoch; the mean loss of every one.

        ``after_epoch`` is called after each that this process trained, with how many are done and the loss of the last.

        Raises:
            FloatingPointError: a loss is no finite number.
            Interrupted: a signal asked for an end, and a checkpoint holds all that was done.
        """
        distributed = self._place.world_size > 1
        module = DistributedDataParallel(self.detector) if distributed else self.detector
        self.detector.train()
        while self._epoch < self._config.epochs:
            for batch in list(self._batches(self._epoch))[self._step :]:
                self._loss_sum += self._one_step(module, batch)
                self._step += 1
                self._end_where_asked()
            loss = self._loss_sum / self._steps
            self._history.append({"epoch": self._epoch, "loss": loss})
            self._epoch, self._step, self._loss_sum = self._epoch + 1, 0, 0.0
            self._save()
            after_epoch(self._epoch, loss)
        self.detector.eval()
        return [entry["loss"] for entry in self._history]

    def _batches(self, epoch: int) -> Iterator[Sequence[int]]:
        """The videos of every step: each once, in an order of the epoch's own."""
        order = np.random.default_rng((self._config.seed, epoch)).permutation(len(self._material)).tolist()
        size = self._config.batch_size
        return (order[start : start + size] for start in range(0, len(order), size))

    def _one_step(self, module: nn.Module, batch: Sequence[int]) -> float:
        """One update by this process's share of the batch; the loss of all of it before."""
        config, place = self._config.optimization, self._place
        step = self._epoch * self._steps + self._step
        rates = learning_rates_at(step, self._steps, self._config.epochs, config)
        for group in self._optimizer.param_groups:
            group["lr"] = rates[group["part"]]
        mine = batch[place.rank :: place.world_size]
        pieces = [self._material.piece(video, self._epoch) for video in mine or batch[:1]]
        outputs, length = module([piece.content for piece in pieces])
        points = Points.of(length, self.detector.pyramid.config.levels).to(place.device)
        segments = [piece.segment_N2.to(place.device) for piece in pieces]
        labels = [piece.label_N.to(place.device) for piece in pieces]
        found = point_loss(outputs, points, segments, labels)
        # A process without a share passes a video all the same, as the others wait for its gradients, which are zero.
        share = 1 if mine else 0
        answers = place.sum_over_ranks(share * found.answers).clamp(min=1)
        loss = place.sum_over_ranks(share * found.total.detach()) / answers
        if not loss.isfinite():
            raise FloatingPointError("the loss of the detector of segments is no finite number")
        self._optimizer.zero_grad()
        (share * found.total / answers * place.world_size).backward()  # gradients are averaged over processes
        if config.gradient_clip is not None:
            nn.utils.clip_grad_norm_(self.detector.parameters(), config.gradient_clip)
        self._optimizer.step()
        return loss.item()

    def _end_where_asked(self) -> None:
        try:
            self._interruption.end_together(self._place)
        except Interrupted:
            self._save()
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
                scaler={},
                counts={},
                history=[*self._history, {"epoch": self._epoch, "loss_sum": self._loss_sum}],
            )
        )

    def _restore(self, state: TrainingState) -> None:
        state.restore(self.detector, self._optimizer, torch.amp.GradScaler(enabled=False))
        self._epoch, self._step = state.position
        *self._history, begun = state.history
        self._loss_sum = begun["loss_sum"]
