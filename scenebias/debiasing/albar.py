"""The losses of ALBAR, which unlearn what a still frame tells of the action, of humans as well as of scenes.

Fioresi, Dave and Shah, "ALBAR: Adversarial Learning approach to mitigate Biases in Action Recognition", ICLR 2025;
weights and reductions are those of the code that the authors released. Over clips x with actions y, and s one frame of
x, repeated:

    CE(f(x), y) - w_adv CE(f(s), y) - w_ent H(f(s)) + w_pen |∇_s Σ f(s)|

Here is all but the first term.

Shape suffixes: B clips, A actions.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from scenebias.debiasing.losses import entropy, soft_cross_entropy

ADVERSARIAL_WEIGHT, ENTROPY_WEIGHT, PENALTY_WEIGHT = 1.0, 4.25, 10.0
"""As released, for Video Swin-T on HMDB51."""


class StillLosses(NamedTuple):
    """Of the still frame of each clip, (B,), with gradients."""

    total_B: Tensor
    """What is minimised beside the cross entropy of the clip."""
    action_B: Tensor
    """Cross entropy with the clip's action, in nats."""
    entropy_B: Tensor
    """Entropy of the prediction, in nats, 0 to ln A."""
    penalty_B: Tensor
    """Norm of the gradient of the logits."""


def still_losses(
    logits_BA: Tensor,
    still_BCTHW: Tensor,
    target_BA: Tensor,
    *,
    adversarial_weight: float = ADVERSARIAL_WEIGHT,
    entropy_weight: float = ENTROPY_WEIGHT,
    penalty_weight: float = PENALTY_WEIGHT,
) -> StillLosses:
    """-w_adv CE(f(s), y) - w_ent H(f(s)) + w_pen |∇_s Σ f(s)|.

    ``still_BCTHW``: the network's input s (`scenebias.clips.scene_swap.still` makes such clips), which required a
    gradient before ``logits_BA`` were computed from it. ``target_BA``: probabilities of the actions. The gradient is
    that of the sum of all logits; as released, its norm is taken over channels, frames and rows, and averaged over
    columns. Where ``penalty_weight`` is 0 it is not computed, as it takes a second backward pass.
    """
    action_B, entropy_B = soft_cross_entropy(logits_BA, target_BA), entropy(logits_BA)
    penalty_B = torch.zeros_like(action_B)
    if penalty_weight:
        with torch.autocast(logits_BA.device.type, enabled=False):  # not for backward passes, which know their types
            (gradient_BCTHW,) = torch.autograd.grad(logits_BA.sum(), still_BCTHW, create_graph=True)
        squares_BW = gradient_BCTHW.square().flatten(start_dim=1, end_dim=-2).sum(dim=1)
        penalty_B = (squares_BW + 1e-12).sqrt().mean(dim=1)  # the root has no slope at 0
    total_B = penalty_weight * penalty_B - adversarial_weight * action_B - entropy_weight * entropy_B
    return StillLosses(total_B, action_B, entropy_B, penalty_B)
