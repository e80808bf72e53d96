"""What sits on the features: classifiers, and the layer that turns a gradient around.

Shape suffixes: B clips, D features, K classes (actions or scenes).
"""

from typing import Any

import torch
from torch import Tensor, nn

HIDDEN_COUNT = 512


class _ReverseGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, alpha: float) -> Tensor:
        ctx.alpha = alpha
        return features.view_as(features)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        return -ctx.alpha * gradient, None


class GradientReversal(nn.Module):
    """The identity, whose gradient is multiplied by ``-alpha`` (Ganin and Lempitsky, ICML 2015).

    A head behind it learns at full strength; what feeds it is pushed, with weight ``alpha``, to make that head fail.
    """

    def __init__(self, alpha: float) -> None:
        super().__init__()
        self.alpha = alpha

    def forward(self, features: Tensor) -> Tensor:
        return _ReverseGradient.apply(features, self.alpha)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}"


class ActionHead(nn.Sequential):
    """The action classifier: one linear layer, after dropout where asked for; (B, D) -> logits (B, K)."""

    def __init__(self, feature_count: int, action_count: int, dropout: float = 0.0) -> None:
        super().__init__(nn.Dropout(dropout), nn.Linear(feature_count, action_count))


class AdversaryHead(nn.Sequential):
    """``hidden_layers`` times [Linear 512, BatchNorm, ReLU], then a linear layer; (B, D) -> logits (B, K).

    With three hidden layers and 365 classes it is the scene classifier of Choi et al., NeurIPS 2019. In training mode
    BatchNorm needs at least two clips in a batch.
    """

    def __init__(self, feature_count: int, class_count: int, hidden_layers: int) -> None:
        layers: list[nn.Module] = []
        width = feature_count
        for _ in range(hidden_layers):
            layers += [nn.Linear(width, HIDDEN_COUNT, bias=False), nn.BatchNorm1d(HIDDEN_COUNT), nn.ReLU(inplace=True)]
            width = HIDDEN_COUNT
        super().__init__(*layers, nn.Linear(width, class_count))
