"""Softmax regression: how much of a label a linear classifier can read from fixed vectors.

Shape suffixes: N samples, D features, C classes.
"""

from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True)
class SoftmaxRegression:
    """A fitted linear classifier."""

    weight_DC: np.ndarray
    bias_C: np.ndarray
    """Both float64, for features as they are given."""

    def logits(self, feature_ND: np.ndarray) -> np.ndarray:
        """float64 (N, C)."""
        return np.asarray(feature_ND, dtype=np.float64) @ self.weight_DC + self.bias_C

    def predict(self, feature_ND: np.ndarray) -> np.ndarray:
        """The most probable class of each row, int64 (N,)."""
        return self.logits(feature_ND).argmax(axis=1)

    def accuracy(self, feature_ND: np.ndarray, label_N: np.ndarray, weight_N: np.ndarray | None = None) -> float:
        """Share of rows whose class is predicted, 0 to 1; ``weight_N``: how much each row counts."""
        return float(np.average(self.predict(feature_ND) == label_N, weights=weight_N))


def fit_softmax_regression(
    feature_ND: np.ndarray,
    label_N: np.ndarray,
    class_count: int,
    penalty: float = 1e-4,
    iterations: int = 300,
    weight_N: np.ndarray | None = None,
) -> SoftmaxRegression:
    """Minimise mean cross entropy + ``penalty``/2 · ‖W‖² by L-BFGS from zero; deterministic, as the problem is convex.

    ``weight_N`` says how much each row counts in the mean; None: all alike.

    Features are centred and divided by one common scale for the fit, so ``penalty`` means the same for any unit.
    """
    mean_D = np.asarray(feature_ND, dtype=np.float64).mean(axis=0)
    scale = max(float(np.std(feature_ND - mean_D)), 1e-12)
    x_ND = torch.from_numpy((feature_ND - mean_D) / scale)
    y_N = torch.tensor(np.asarray(label_N, dtype=np.int64))
    share_N = torch.from_numpy(np.full(len(y_N), 1.0) if weight_N is None else weight_N.astype(np.float64))
    share_N = share_N / share_N.sum()
    weight_DC = torch.zeros(x_ND.shape[1], class_count, dtype=torch.float64, requires_grad=True)
    bias_C = torch.zeros(class_count, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight_DC, bias_C], max_iter=iterations, tolerance_grad=1e-7, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = share_N @ torch.nn.functional.cross_entropy(x_ND @ weight_DC + bias_C, y_N, reduction="none")
        loss = loss + penalty / 2 * weight_DC.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    weight = weight_DC.detach().numpy() / scale
    return SoftmaxRegression(weight, bias_C.detach().numpy() - mean_D @ weight)
