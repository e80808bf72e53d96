"""What sits on the features: classifiers, and the function that turns a gradient around.

Shape suffixes: B clips, D features, K classes (actions or scenes).
"""

from torch import Tensor, nn

HIDDEN_COUNT = 512


def reverse_gradient(features: Tensor, alpha: float) -> Tensor:
    """The finite ``features`` as they are, whose gradient is multiplied by ``-alpha`` (Ganin and Lempitsky, ICML 2015).

    A head behind it learns at full strength; what feeds it is pushed, with weight ``alpha``, to make that head fail.
    """
    constant = features.detach()
    return constant - alpha * (features - constant)


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
