"""Training of the detector of segments: on features that are in memory, or with the backbone.

Shape suffixes: B videos of a batch, C channels, T features.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from scenebias.distributed.interruption import Interruption
from scenebias.distributed.process_place import ProcessPlace
from scenebias.localize.features.tracks import Take
from scenebias.localize.head.points import Points, point_loss
from scenebias.localize.head.pyramid import PointOutputs, Pyramid, PyramidConfig
from scenebias.run_folder.checkpoint import CheckpointFolder
from scenebias.training.detector_loop import ALONE, DetectorLoop, SummedLoss, require_no_plateau
from scenebias.training.optimization import OptimizationConfig, Part
from shards.checks import require_at_least


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
        require_no_plateau(self.optimization)


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
        UserError: a loss is not finite.
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


class DetectorTraining(DetectorLoop[Sequence[int]]):
    """Trains a `SegmentDetector`: the same videos make up a step in any number of processes."""

    def __init__(
        self,
        detector: SegmentDetector,
        material: Material,
        config: HeadTrainingConfig,
        place: ProcessPlace = ALONE,
        checkpoints: CheckpointFolder | None = None,
        interruption: Interruption | None = None,
    ) -> None:
        """Raises UserError as `DetectorLoop`."""
        self._material, self._config = material, config
        self._levels = detector.pyramid.config.levels
        modules: list[tuple[Part, nn.Module]] = [("heads", detector.pyramid)]
        if detector.encoder is not None:
            modules.append(("backbone", detector.encoder))
        super().__init__(
            detector.to(place.device),
            modules,
            config.optimization,
            epochs=config.epochs,
            steps_per_epoch=-(-len(material) // config.batch_size),
            place=place,
            checkpoints=checkpoints,
            interruption=interruption,
        )

    def batches(self, epoch: int, step: int) -> Iterator[Sequence[int]]:
        """The videos of every step: each once an epoch, in an order of the epoch's own."""
        size = self._config.batch_size
        for later in range(epoch, self.epochs):
            order = np.random.default_rng((self._config.seed, later)).permutation(len(self._material)).tolist()
            first = step * size if later == epoch else 0
            yield from (order[start : start + size] for start in range(first, len(order), size))

    def loss(self, module: nn.Module, batch: Sequence[int]) -> SummedLoss:
        """That of this process's share of the videos.

        A process without any passes one all the same, as the others wait for its gradients, which are then zero.
        """
        place = self.place
        mine = batch[place.rank :: place.world_size]
        pieces = [self._material.piece(video, self.epochs_done) for video in mine or batch[:1]]
        outputs, length = module([piece.content for piece in pieces])
        points = Points.of(length, self._levels).to(place.device)
        segments = [piece.segment_N2.to(place.device) for piece in pieces]
        found = point_loss(outputs, points, segments, [piece.label_N.to(place.device) for piece in pieces])
        return found if mine else SummedLoss(0 * found.total, 0 * found.answers)
