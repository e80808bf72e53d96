"""Accuracy of a model on a packed data set: every window of every clip, counted exactly once at any world size.

Shape suffixes: B windows in a batch, T frames, H rows, W columns, N clips, D values per clip, A actions.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from dali_pipelines import ClipBatch, ClipConfig, DecodingConfig, EvalLoader, ProtocolConfig
from scenebias.clips.views import ClipChange
from scenebias.distributed.interruption import Interruption
from scenebias.distributed.process_place import (
    ProcessPlace,
)
from scenebias.evaluation.precision import EvaluationPrecision, computing_in
from scenebias.models.action_model import VideoClassifier, class_probabilities
from shards.dataset import ShardDataset

_DEFAULT_DECODING = DecodingConfig()


@dataclass(frozen=True)
class Evaluation:
    """Predictions of a model for N clips of A actions."""

    probability_NA: np.ndarray
    """float64, the mean softmax over a clip's windows, as in Choi et al. 2019, section 4.2."""
    label_N: np.ndarray
    """int64, the true classes."""

    @property
    def prediction_N(self) -> np.ndarray:
        return self.probability_NA.argmax(axis=1)

    @property
    def top1(self) -> float:
        """Share of clips whose class is predicted, 0 to 1."""
        return float((self.prediction_N == self.label_N).mean())

    @property
    def top5(self) -> float:
        """Share of clips whose class is among the five most probable ones, 0 to 1."""
        best = np.argsort(-self.probability_NA, axis=1, kind="stable")[:, :5]
        return float((best == self.label_N[:, None]).any(axis=1).mean())

    @property
    def confusion_AA(self) -> np.ndarray:
        """Counts of clips, true class by predicted class (int64)."""
        actions = self.probability_NA.shape[1]
        return np.bincount(self.label_N * actions + self.prediction_N, minlength=actions**2).reshape(actions, actions)

    @property
    def mean_class_accuracy(self) -> float:
        """Mean over the classes that occur of the share predicted right, 0 to 1."""
        return float(np.nanmean(class_accuracies(self.confusion_AA)))

    @property
    def action_loss(self) -> float:
        """Mean cross entropy of the prediction with the true class, in nats."""
        probability_N = self.probability_NA[np.arange(len(self.label_N)), self.label_N]
        return float(-np.log(np.clip(probability_N, 1e-12, None)).mean())

    @property
    def entropy(self) -> float:
        """Mean entropy of the prediction, in nats; ln A is the highest."""
        p = self.probability_NA
        return float(-(p * np.log(np.clip(p, 1e-12, None))).sum(axis=1).mean())

    def summary(self) -> dict[str, float]:
        return {
            "top1": self.top1,
            "top5": self.top5,
            "mean_class_accuracy": self.mean_class_accuracy,
            "action_loss": self.action_loss,
            "entropy": self.entropy,
            "clips": len(self.label_N),
        }


def class_accuracies(confusion_AA: np.ndarray) -> np.ndarray:
    """Share of each class's clips predicted right, float64 (A,), 0 to 1; NaN for a class without clips.

    ``confusion_AA`` counts clips, true class by predicted class.
    """
    count_A = confusion_AA.sum(axis=1)
    return np.divide(confusion_AA.diagonal(), count_A, out=np.full(len(count_A), np.nan), where=count_A > 0)


def mean_over_windows(
    function: Callable[[torch.Tensor], torch.Tensor],
    batches: Iterable[ClipBatch],
    clip_count: int,
    width: int,
    place: ProcessPlace,
    *,
    change: ClipChange | None = None,
    interruption: Interruption | None = None,
) -> np.ndarray:
    """Average ``function`` (uint8 clip_BTHWC to (B, ``width``)) over the windows of each clip, on all ranks together.

    ``batches`` are this rank's share. ``change`` alters the clips first. Returns float64 (``clip_count``, ``width``),
    the same on every rank, NaN for clips of which no window comes. Raises `Interrupted`, on all ranks, where
    ``interruption`` asks any of them to end.
    """
    total_ND = torch.zeros(clip_count, width, dtype=torch.float64, device=place.device)
    windows_N1 = torch.zeros(clip_count, 1, dtype=torch.float64, device=place.device)
    with torch.inference_mode():
        for batch in batches:
            if interruption is not None and interruption.requested is not None:
                break
            value_BD = function(batch.clip_BTHWC if change is None else change(batch)).double()
            sample_B = batch.sample_B.to(place.device)
            total_ND.index_add_(0, sample_B, value_BD)
            windows_N1.index_add_(0, sample_B, torch.ones_like(value_BD[:, :1]))
    if interruption is not None:
        interruption.end_together(place)
    place.sum_over_ranks(total_ND)
    place.sum_over_ranks(windows_N1)
    return (total_ND / windows_N1).cpu().numpy()


@contextmanager
def evaluating(model: torch.nn.Module, precision: EvaluationPrecision = "fp32") -> Iterator[None]:
    """Evaluation mode and this arithmetic inside, the mode of before afterwards."""
    was_training = model.training
    model.eval()
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    try:
        with computing_in(precision, device):
            yield
    finally:
        model.train(was_training)


def evaluate_model(
    model: torch.nn.Module,
    loader: EvalLoader,
    action_count: int,
    place: ProcessPlace,
    *,
    change: ClipChange | None = None,
    interruption: Interruption | None = None,
    precision: EvaluationPrecision = "fp32",
) -> Evaluation:
    """Predict every clip that ``loader`` serves; ``model`` maps uint8 clip_BTHWC to logits_BA.

    ``change`` and ``interruption`` are as of `mean_over_windows`. The result is the same on every rank, and in the
    order of `EvalLoader.samples`.
    """
    label_N = np.asarray(loader.dataset.labels)
    with evaluating(model, precision):
        probability_NA = mean_over_windows(
            partial(class_probabilities, model),
            loader,
            len(label_N),
            action_count,
            place,
            change=change,
            interruption=interruption,
        )
    return Evaluation(probability_NA[loader.samples], label_N[loader.samples])


def extract_features(model: VideoClassifier, loader: EvalLoader, place: ProcessPlace) -> np.ndarray:
    """The features of every clip, averaged over its windows: float64 (N, D), the same on every rank."""
    with evaluating(model):
        return mean_over_windows(model.features, loader, len(loader.dataset), model.feature_count, place)


def evaluation_loader_for(
    dataset: ShardDataset,
    clip: ClipConfig,
    place: ProcessPlace,
    *,
    batch_size: int,
    threads: int,
    protocol: ProtocolConfig | None = None,
    order: np.ndarray | None = None,
    decoding: DecodingConfig = _DEFAULT_DECODING,
) -> EvalLoader:
    """This rank's share of the windows of ``dataset``; ``batch_size`` counts those of all ranks together.

    ``protocol``, ``order`` and ``decoding`` are as of `EvalLoader`.
    """
    return EvalLoader(
        dataset,
        clip,
        batch_size=max(1, batch_size // place.world_size),
        rank=place.rank,
        world_size=place.world_size,
        device=place.device,
        threads=threads,
        protocol=protocol,
        order=order,
        decoding=decoding,
    )
