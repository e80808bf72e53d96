"""The losses of ALBAR, which unlearn what a still frame tells of the action, of humans as well as of scenes.

Fioresi, Dave and Shah, "ALBAR: Adversarial Learning approach to mitigate Biases in Action Recognition", ICLR 2025;
weights and reductions are those of the code that the authors released.

Shape suffixes: B clips, A actions.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Categorical
from torch.nn import functional

ADVERSARIAL_WEIGHT, ENTROPY_WEIGHT, PENALTY_WEIGHT = 1.0, 4.25, 10.0
"""As released, for Video Swin-T on HMDB51."""


class AlbarLosses(NamedTuple):
    """Of each clip, (B,), with gradients."""

    total_B: Tensor
    """What is minimised."""
    action_B: Tensor
    """Cross entropy of the clip, in nats."""
    still_action_B: Tensor
    """Cross entropy of its still frame."""
    still_entropy_B: Tensor
    """Entropy of the prediction for its still frame, in nats, 0 to ln A."""
    penalty_B: Tensor
    """Norm of the gradient of its still frame's logits."""


def albar_losses(
    logits_BA: Tensor,
    still_logits_BA: Tensor,
    still_input: Tensor,
    target_BA: Tensor,
    *,
    adversarial_weight: float = ADVERSARIAL_WEIGHT,
    entropy_weight: float = ENTROPY_WEIGHT,
    penalty_weight: float = PENALTY_WEIGHT,
) -> AlbarLosses:
    """CE(f(x), y) - w_adv CE(f(s), y) - w_ent H(f(s)) + w_pen |∇_s Σ f(s)|, s one frame of x, repeated.

    ``still_input``: the network's input s, (B, C, T, H, W), with ``requires_grad`` set before ``still_logits_BA`` were
    computed from it (`scenebias.clips.scene_swap.still` makes such clips). ``target_BA``: probabilities of the actions.
    The gradient is that of the sum of all logits; as released, its norm is taken over channels, frames and rows, and
    averaged over columns. Where ``penalty_weight`` is 0 it is not computed, as it takes a second backward pass.
    """
    logits_BA, still_logits_BA = (  # autocast may have made them of half precision
        logits.to(torch.promote_types(logits.dtype, torch.float32)) for logits in (logits_BA, still_logits_BA)
    )
    action_B, still_action_B = (
        functional.cross_entropy(logits, target_BA, reduction="none") for logits in (logits_BA, still_logits_BA)
    )
    still_entropy_B = Categorical(logits=still_logits_BA, validate_args=False).entropy()
    penalty_B = torch.zeros_like(action_B)
    if penalty_weight:
        (gradient,) = torch.autograd.grad(still_logits_BA.sum(), still_input, create_graph=True)
        squares_BW = gradient.square().flatten(start_dim=1, end_dim=-2).sum(dim=1)
        penalty_B = (squares_BW + 1e-12).sqrt().mean(dim=1)  # the root has no slope at 0
    total_B = (
        action_B - adversarial_weight * still_action_B - entropy_weight * still_entropy_B + penalty_weight * penalty_B
    )
    return AlbarLosses(total_B, action_B, still_action_B, still_entropy_B, penalty_B)
