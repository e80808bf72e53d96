"""The terms that objectives are made of, one value a clip.

Shape suffixes: B clips, K classes, A actions, S scenes.
"""

import math
from typing import Literal

import torch
from torch import Tensor

AlphaSchedule = Literal["constant", "dann"]


def alpha_ramp(schedule: AlphaSchedule, progress: float) -> float:
    """What the debiasing weights are multiplied by when the share ``progress`` of the training is done, 0 to 1.

    ``dann``: 2 / (1 + exp(-10 p)) - 1 (Ganin and Lempitsky, ICML 2015, section 4).
    """
    assert 0 <= progress <= 1, f"progress {progress} is no share"
    return 1.0 if schedule == "constant" else 2 / (1 + math.exp(-10 * progress)) - 1


def log_softmax(logits_BK: Tensor) -> Tensor:
    """In float32 at least, whatever autocast made of the logits."""
    return logits_BK.log_softmax(dim=1, dtype=torch.promote_types(logits_BK.dtype, torch.float32))


def soft_cross_entropy(logits_BK: Tensor, target_BK: Tensor) -> Tensor:
    """Cross entropy with a distribution, in nats, (B,)."""
    return -(target_BK * log_softmax(logits_BK)).sum(dim=1)


def entropy(logits_BA: Tensor) -> Tensor:
    """Entropy of the softmax, in nats, (B,), 0 to ln A."""
    log_probability_BA = log_softmax(logits_BA)
    return -(log_probability_BA.exp() * log_probability_BA).sum(dim=1)


def symmetric_divergence(logits_BA: Tensor, other_BA: Tensor) -> Tensor:
    """(KL(p, q) + KL(q, p)) / 2 of the two softmaxes, in nats, (B,).

    As a consistency term: R-Drop (Liang et al., NeurIPS 2021), equation 2.
    """
    log_p_BA, log_q_BA = log_softmax(logits_BA), log_softmax(other_BA)
    return ((log_p_BA.exp() - log_q_BA.exp()) * (log_p_BA - log_q_BA)).sum(dim=1) / 2
