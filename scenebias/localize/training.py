"""Training of the detector of segments on features that are in memory.

Shape suffixes: B videos of a batch, C channels, T features.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from scenebias.localize.points import Points, point_loss
from scenebias.localize.pyramid import Pyramid, PyramidConfig
from scenebias.localize.tracks import Take
from shards.checks import require_at_least


@dataclass(frozen=True, kw_only=True)
class HeadTrainingConfig:
    """How the detector is trained: AdamW, its learning rate rising over the first epochs, then falling as a cosine."""

    epochs: int = 60
    batch_size: int = 4
    """Videos of a step."""
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    warmup_epochs: int = 5
    """Epochs in which the learning rate rises; as many as there are at most."""
    gradient_clip: float = 1.0
    """The highest norm of a gradient."""
    seed: int = 0
    """Of the initial weights and of the order of the videos."""

    def __post_init__(self) -> None:
        require_at_least(1, epochs=self.epochs, batch_size=self.batch_size)
        require_at_least(0, warmup_epochs=self.warmup_epochs, weight_decay=self.weight_decay, seed=self.seed)
        for name in ("learning_rate", "gradient_clip"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be positive and finite, got {getattr(self, name)}")


def train_pyramid(
    takes: Sequence[Take],
    class_count: int,
    pyramid_config: PyramidConfig,
    config: HeadTrainingConfig,
    *,
    device: torch.device | str = "cpu",
    after_epoch: Callable[[int, float], None] = lambda epoch, loss: None,
) -> Pyramid:
    """Train a new detector; a function of its arguments alone, on a CPU to the same bits.

    ``after_epoch`` is called with the number of epochs done and the mean loss of the last one.

    Raises:
        ValueError: there is nothing to learn from.
        FloatingPointError: a loss is no finite number.
    """
    if not takes or not any(len(take.label_N) for take in takes):
        raise ValueError("takes must hold one or more segments to learn")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        pyramid = Pyramid(takes[0].track.feature_CT.shape[0], class_count, pyramid_config)
    pyramid.standardise_by([take.track.feature_CT for take in takes])
    pyramid.to(device).train()
    optimizer = torch.optim.AdamW(pyramid.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    order = torch.Generator().manual_seed(config.seed)
    for epoch in range(config.epochs):
        losses = []
        batches = list(_batches(takes, config.batch_size, order))
        for step, batch in enumerate(batches):
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate * rate_factor(epoch + step / len(batches), config)
            losses.append(_step(pyramid, batch, optimizer, config.gradient_clip))
        after_epoch(epoch + 1, sum(losses) / len(losses))
    return pyramid.eval()


def rate_factor(epoch: float, config: HeadTrainingConfig) -> float:
    """What the learning rate is multiplied by after so many epochs, above 0 to 1."""
    warmup = min(config.warmup_epochs, config.epochs)
    if epoch < warmup:
        return (epoch + 1) / (warmup + 1)
    progress = (epoch - warmup) / max(1, config.epochs - warmup)
    return 0.5 * (1 + math.cos(math.pi * progress))


def _batches(takes: Sequence[Take], size: int, order: torch.Generator) -> Iterator[list[Take]]:
    """Every take once, in a new order."""
    for numbers in torch.randperm(len(takes), generator=order).split(size):
        yield [takes[number] for number in numbers.tolist()]


def _step(pyramid: Pyramid, batch: Sequence[Take], optimizer: torch.optim.Optimizer, clip: float) -> float:
    """One step on a few videos, the shorter ones filled up; the loss before it."""
    device = pyramid.mean_C1.device
    feature_BTC = pad_sequence([take.track.feature_CT.T for take in batch], batch_first=True)
    length_B = torch.tensor([len(take.track) for take in batch])
    outputs = pyramid(feature_BTC.transpose(1, 2).to(device), length_B.to(device))
    points = Points.of(feature_BTC.shape[1], pyramid.config.levels)
    points = Points(points.position_P.to(device), points.stride_P.to(device))
    segments, labels = (
        _moved(values, device) for values in zip(*((t.segment_N2, t.label_N) for t in batch), strict=True)
    )
    loss = point_loss(outputs, points, segments, labels)
    if not loss.isfinite():
        raise FloatingPointError("the loss of the detector of segments is no finite number")
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(pyramid.parameters(), clip)
    optimizer.step()
    return loss.item()


def _moved(tensors: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    return [tensor.to(device) for tensor in tensors]
