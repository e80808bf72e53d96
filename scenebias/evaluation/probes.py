"""Probes: what a linear classifier, or one with a hidden layer, reads from frozen features, in whatever unit they are.

Every feature is standardised, the penalty is chosen on a held-out part of the training rows, and the probe is fitted
anew on all of them with the chosen one.

Shape suffixes: N rows, D features, H hidden units, C classes.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scenebias.evaluation.softmax_regression import fit_softmax_regression
from shards.randomness import hash_uint64

HELD_OUT_SHARE = 0.2
"""Of the training rows of every class, for the choice of the penalty."""
LINEAR_PENALTIES = (10.0, 1.0, 0.1, 0.01, 1e-3, 1e-4)
MLP_PENALTIES = (1.0, 0.1, 0.01, 1e-3)
"""What is chosen from, strongest first; the first after which the loss on the held-out rows rises."""
HIDDEN_UNITS = 128

_LINEAR_ITERATIONS = 100
_MLP_EPOCHS, _MLP_PATIENCE, _MLP_LEARNING_RATE = 60, 5, 1e-3
_LEAST_BATCH_SIZE, _MOST_STEPS = 64, 16
# A float32 cannot tell such a feature from a constant one.
_LEAST_RELATIVE_DEVIATION = 1e-7
_HELD_OUT_STREAM = 0x4E1D

Classifier = Callable[[np.ndarray], np.ndarray]
"""Logits (N, C) of standardised features (N, D)."""


@dataclass(frozen=True)
class Standardisation:
    """To mean 0 and standard deviation 1, feature by feature."""

    varies_D: np.ndarray
    """bool, which features are kept: those that are not constant."""
    mean_D: np.ndarray
    deviation_D: np.ndarray
    """float64, of all features."""

    @classmethod
    def of(cls, feature_ND: np.ndarray, weight_N: np.ndarray) -> "Standardisation":
        """That of these rows, each of which counts as much as its weight; the weights sum to 1."""
        feature_ND = np.asarray(feature_ND, dtype=np.float64)
        mean_D = weight_N @ feature_ND
        deviation_D = np.sqrt(weight_N @ np.square(feature_ND - mean_D))
        return cls(deviation_D > _LEAST_RELATIVE_DEVIATION * np.abs(feature_ND).max(axis=0), mean_D, deviation_D)

    def __call__(self, feature_ND: np.ndarray) -> np.ndarray:
        """The standardised features, float32, without the constant ones; a single 0 where all are.

        So rounded, features in another unit are the same to the bit.
        """
        if not self.varies_D.any():
            return np.zeros((len(feature_ND), 1), dtype=np.float32)
        kept_ND = (np.asarray(feature_ND, dtype=np.float64) - self.mean_D)[:, self.varies_D]
        return (kept_ND / self.deviation_D[self.varies_D]).astype(np.float32)


@dataclass(frozen=True)
class Probe:
    """A fitted classifier of features as they are given."""

    standardisation: Standardisation
    classifier: Classifier
    penalty: float
    """The one that was chosen."""

    def predict(self, feature_ND: np.ndarray) -> np.ndarray:
        """The most probable class of each row, int64 (N,)."""
        return self.classifier(self.standardisation(feature_ND)).argmax(axis=1)


@dataclass(frozen=True)
class Rows:
    """What a probe is fitted on, or chosen by."""

    x_ND: np.ndarray
    """float32, standardised."""
    label_N: np.ndarray
    """int64."""
    weight_N: np.ndarray
    """float64, how much each row counts; no zeros."""

    def part(self, chosen_N: np.ndarray) -> "Rows":
        return Rows(self.x_ND[chosen_N], self.label_N[chosen_N], self.weight_N[chosen_N])


def held_out_rows(label_N: np.ndarray) -> np.ndarray:
    """Which rows choose the penalty, bool (N,): of every class the share `HELD_OUT_SHARE`, by a hash of their place.

    A class of a single row keeps it; any other gives one row or more.
    """
    held_out_N = np.zeros(len(label_N), dtype=bool)
    order_N = np.argsort(hash_uint64(np.arange(len(label_N)), _HELD_OUT_STREAM))
    for label in np.unique(label_N):
        rows = order_N[label_N[order_N] == label]
        held_out_N[rows[: 0 if len(rows) == 1 else max(1, round(HELD_OUT_SHARE * len(rows)))]] = True
    return held_out_N


def fit_linear_probe(
    feature_ND: np.ndarray, label_N: np.ndarray, class_count: int, weight_N: np.ndarray | None = None
) -> Probe:
    """A softmax regression with the penalty of `LINEAR_PENALTIES` that does best on the held-out rows.

    ``weight_N`` says how much each row counts, everywhere; None: all alike. Multiplying features by positive factors
    changes no prediction.
    """
    standardisation, rows = _prepare(feature_ND, label_N, weight_N)
    held_out_N = held_out_rows(rows.label_N)
    fitted, chosen = rows.part(~held_out_N), rows.part(held_out_N)
    penalty, _ = _choose(
        LINEAR_PENALTIES, lambda penalty: (_loss(_fit_linear(fitted, class_count, penalty), chosen), 0)
    )
    return Probe(standardisation, _fit_linear(rows, class_count, penalty), penalty)


def fit_mlp_probe(
    feature_ND: np.ndarray, label_N: np.ndarray, class_count: int, weight_N: np.ndarray | None = None
) -> Probe:
    """A network with one hidden layer (`HIDDEN_UNITS`, ReLU), as `fit_linear_probe` otherwise.

    Penalty and number of epochs are those of the lowest loss on the held-out rows. The same values in the same order
    give the same probe: initial weights and the order of the rows are drawn from one seed.
    """
    standardisation, rows = _prepare(feature_ND, label_N, weight_N)
    held_out_N = held_out_rows(rows.label_N)
    fitted, chosen = rows.part(~held_out_N), rows.part(held_out_N)
    penalty, epochs = _choose(MLP_PENALTIES, lambda penalty: _stop_early(fitted, chosen, class_count, penalty))
    network = _Mlp(rows.x_ND.shape[1], class_count)
    for _ in range(epochs):
        network.train_epoch(rows, penalty)
    return Probe(standardisation, network.logits, penalty)


def _prepare(feature_ND: np.ndarray, label_N: np.ndarray, weight_N: np.ndarray | None) -> tuple[Standardisation, Rows]:
    """The standardisation of the rows that count, and these."""
    weight_N = np.ones(len(label_N)) if weight_N is None else np.asarray(weight_N, dtype=np.float64)
    counts_N = weight_N > 0
    weight_N = weight_N[counts_N] / weight_N.sum()
    standardisation = Standardisation.of(feature_ND[counts_N], weight_N)
    return standardisation, Rows(standardisation(feature_ND[counts_N]), label_N[counts_N], weight_N)


def _choose(penalties: tuple[float, ...], fit: Callable[[float], tuple[float, int]]) -> tuple[float, int]:
    """The penalty after which the loss rises, and the number of epochs that goes with it; ``fit`` tells both."""
    best_penalty, (best_loss, best_epochs) = penalties[0], fit(penalties[0])
    for penalty in penalties[1:]:
        loss, epochs = fit(penalty)
        if loss >= best_loss:
            break
        best_penalty, best_loss, best_epochs = penalty, loss, epochs
    return best_penalty, best_epochs


def _loss(classifier: Classifier, rows: Rows) -> float:
    """Mean cross entropy in nats; 0 of no rows."""
    if not len(rows.label_N):
        return 0.0
    loss_N = F.cross_entropy(
        torch.from_numpy(classifier(rows.x_ND)).double(), torch.from_numpy(rows.label_N), reduction="none"
    )
    return float(np.average(loss_N.numpy(), weights=rows.weight_N))


def _fit_linear(rows: Rows, class_count: int, penalty: float) -> Classifier:
    regression = fit_softmax_regression(
        rows.x_ND.astype(np.float64), rows.label_N, class_count, penalty, _LINEAR_ITERATIONS, rows.weight_N
    )
    return regression.logits


class _Mlp:
    """A network with one hidden layer in training; all it draws follows from one seed."""

    def __init__(self, feature_count: int, class_count: int) -> None:
        self.generator = torch.Generator().manual_seed(0)
        # Their own initial weights would be drawn from the generator that all of the program shares.
        self.hidden = nn.utils.skip_init(nn.Linear, feature_count, HIDDEN_UNITS)
        self.output = nn.utils.skip_init(nn.Linear, HIDDEN_UNITS, class_count)
        for layer, gain in ((self.hidden, 2.0), (self.output, 1.0)):
            nn.init.normal_(layer.weight, std=(gain / max(1, layer.in_features)) ** 0.5, generator=self.generator)
            nn.init.zeros_(layer.bias)
        self.parameters = [*self.hidden.parameters(), *self.output.parameters()]
        self.optimizer = torch.optim.Adam(self.parameters, lr=_MLP_LEARNING_RATE)

    def forward(self, x_ND: Tensor) -> Tensor:
        return self.output(F.relu(self.hidden(x_ND)))

    def logits(self, x_ND: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return self.forward(torch.from_numpy(x_ND)).numpy()

    def train_epoch(self, rows: Rows, penalty: float) -> None:
        """Every row once: mean cross entropy + ``penalty``/2 · Σ of both layers' ‖W‖², by Adam."""
        x_ND, label_N = torch.from_numpy(rows.x_ND), torch.from_numpy(rows.label_N)
        weight_N = torch.from_numpy(rows.weight_N / rows.weight_N.mean()).float()
        batch_size = max(_LEAST_BATCH_SIZE, -(-len(label_N) // _MOST_STEPS))
        for part in torch.randperm(len(label_N), generator=self.generator).split(batch_size):
            loss_B = F.cross_entropy(self.forward(x_ND[part]), label_N[part], reduction="none")
            squares = self.hidden.weight.square().sum() + self.output.weight.square().sum()
            self.optimizer.zero_grad()
            ((weight_N[part] * loss_B).mean() + penalty / 2 * squares).backward()
            self.optimizer.step()


def _stop_early(fitted: Rows, chosen: Rows, class_count: int, penalty: float) -> tuple[float, int]:
    """The lowest loss on ``chosen`` of a network trained on ``fitted``, and after how many epochs it had it."""
    network = _Mlp(fitted.x_ND.shape[1], class_count)
    best, best_epoch = float("inf"), 0
    for epoch in range(1, _MLP_EPOCHS + 1):
        network.train_epoch(fitted, penalty)
        loss = _loss(network.logits, chosen)
        if loss < best:
            best, best_epoch = loss, epoch
        if epoch - best_epoch >= _MLP_PATIENCE:
            break
    return best, best_epoch
