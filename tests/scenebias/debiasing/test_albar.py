"""The losses of ALBAR against numpy and finite differences, in float64.

Shape suffixes: B clips, C channels, T frames, H height, W width, A actions.
"""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from scenebias.debiasing.albar import StillLosses, still_losses

SHAPE = (2, 2, 2, 3)  # C, T, H, W
HIDDEN, ACTIONS = 4, 3


def random_case(seed: int, clips: int = 2) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Clips, still clips, weights of two layers, and targets."""
    random = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64)

    still_BCTHW = normal(clips, SHAPE[0], 1, *SHAPE[2:]).expand(clips, *SHAPE).clone()
    return (
        normal(clips, *SHAPE),
        still_BCTHW,
        normal(int(np.prod(SHAPE)), HIDDEN),
        normal(HIDDEN, ACTIONS),
        normal(clips, ACTIONS).softmax(dim=1),
    )


def network(clip_BCTHW: Tensor, first: Tensor, second: Tensor) -> Tensor:
    return torch.tanh(clip_BCTHW.flatten(start_dim=1) @ first) @ second


def losses_of(
    clip: Tensor, still: Tensor, first: Tensor, second: Tensor, target: Tensor, **weights
) -> tuple[Tensor, StillLosses]:
    """The cross entropy of each clip, (B,), and the losses of its still."""
    still = still.requires_grad_()
    action_B = functional.cross_entropy(network(clip, first, second), target, reduction="none")
    return action_B, still_losses(network(still, first, second), still, target, **weights)


def logits_in_numpy(clip_BCTHW: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.tanh(clip_BCTHW.reshape(len(clip_BCTHW), -1) @ first) @ second


@settings(max_examples=10)
@given(
    st.integers(0, 2**31),
    st.floats(0, 3),
    st.floats(0, 5),
    st.floats(0.1, 20),
)
def test_each_loss_is_that_of_numpy_and_of_finite_differences(
    seed: int, adversarial_weight: float, entropy_weight: float, penalty_weight: float
) -> None:
    case = random_case(seed)
    action_B, losses = losses_of(
        *case,
        adversarial_weight=adversarial_weight,
        entropy_weight=entropy_weight,
        penalty_weight=penalty_weight,
    )
    clip, still, first, second, target = (tensor.detach().numpy() for tensor in case)
    for place in range(2):
        clean, frozen = (
            np.exp(logits) / np.exp(logits).sum()
            for logits in (logits_in_numpy(clips[[place]], first, second)[0] for clips in (clip, still))
        )
        action, still_action = (-(target[place] * np.log(p)).sum() for p in (clean, frozen))
        entropy = -(frozen * np.log(frozen)).sum()
        norms = []
        for column in range(SHAPE[3]):
            squares = 0.0
            for channel, frame, row in np.ndindex(SHAPE[:3]):
                shifted = [still[[place]].copy() for _ in range(2)]
                for clips, step in zip(shifted, (1e-5, -1e-5), strict=True):
                    clips[0, channel, frame, row, column] += step
                up, down = (logits_in_numpy(clips, first, second).sum() for clips in shifted)
                squares += ((up - down) / 2e-5) ** 2
            norms.append(np.sqrt(squares))
        penalty = np.mean(norms)
        total = action - adversarial_weight * still_action - entropy_weight * entropy + penalty_weight * penalty
        found = [loss_B[place].item() for loss_B in (action_B + losses.total_B, action_B, *losses[1:])]
        np.testing.assert_allclose(found, [total, action, still_action, entropy, penalty], rtol=1e-5, atol=1e-6)


def test_the_gradient_of_the_whole_is_that_of_finite_differences() -> None:
    clip, still, first, second, target = random_case(0)

    def total(first: Tensor, second: Tensor) -> Tensor:
        action_B, losses = losses_of(clip, still, first, second, target)
        return action_B + losses.total_B

    assert torch.autograd.gradcheck(total, (first.requires_grad_(), second.requires_grad_()))


def test_by_default_the_weights_are_those_released() -> None:
    _, losses = losses_of(*random_case(1))
    expected_B = 10 * losses.penalty_B - losses.action_B - 4.25 * losses.entropy_B
    torch.testing.assert_close(losses.total_B, expected_B)


def test_without_a_weight_the_penalty_is_not_computed() -> None:
    _, still, first, second, target = random_case(2)
    losses = still_losses(network(still, first, second), still, target, penalty_weight=0.0)
    assert not losses.penalty_B.any()
    torch.testing.assert_close(losses.total_B, -losses.action_B - 4.25 * losses.entropy_B)


@pytest.mark.parametrize("shift", [0.0, 300.0])
def test_sure_and_unsure_predictions_have_finite_losses_and_gradients(shift: float) -> None:
    """Also where the network does not depend on its input."""
    logits_BA = torch.tensor([[shift, 0.0, -shift]], requires_grad=True)
    still = torch.ones(1, *SHAPE, requires_grad=True)
    losses = still_losses(logits_BA + 0 * still.sum(), still, torch.tensor([[0.0, 0.5, 0.5]]))
    losses.total_B.sum().backward()
    assert all(loss_B.isfinite().all() for loss_B in losses)
    assert logits_BA.grad.isfinite().all()
