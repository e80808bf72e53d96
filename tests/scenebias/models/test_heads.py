"""The heads, and the sign and size of a reversed gradient."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from scenebias.models.heads import ActionHead, AdversaryHead, reverse_gradient


@settings(deadline=None)
@given(alpha=st.floats(0, 10), as_tensor=st.booleans(), seed=st.integers(0, 2**31))
def test_reversal_is_the_identity_forward_and_minus_alpha_backward(alpha: float, as_tensor: bool, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(3, 4, dtype=torch.float64, generator=generator, requires_grad=True)
    upstream = torch.randn(3, 4, dtype=torch.float64, generator=generator)
    out = reverse_gradient(x, torch.tensor(alpha, dtype=torch.float64) if as_tensor else alpha)
    assert torch.equal(out, x)
    out.backward(upstream)
    assert torch.equal(x.grad, -alpha * upstream)


def test_reversal_keeps_the_type_of_features_and_gradient() -> None:
    x = torch.randn(2, 2, dtype=torch.bfloat16, requires_grad=True)
    out = reverse_gradient(x, torch.tensor(0.5))
    assert out.dtype == torch.bfloat16
    out.sum().backward()
    assert x.grad.dtype == torch.bfloat16


def test_head_behind_a_reversal_learns_as_it_would_without_it() -> None:
    torch.manual_seed(0)
    head = AdversaryHead(6, 5, hidden_layers=1).double()
    x = torch.randn(8, 6, dtype=torch.float64, requires_grad=True)
    plain = torch.autograd.grad(head(x).square().sum(), [x, *head.parameters()])
    behind = torch.autograd.grad(head(reverse_gradient(x, 0.3)).square().sum(), [x, *head.parameters()])
    torch.testing.assert_close(behind[0], -0.3 * plain[0])
    torch.testing.assert_close(behind[1:], plain[1:])


@pytest.mark.parametrize("hidden_layers", [0, 1, 3])
def test_adversary_head_has_the_layers_asked_for(hidden_layers: int) -> None:
    head = AdversaryHead(128, 365, hidden_layers)
    widths = [(m.in_features, m.out_features) for m in head.modules() if isinstance(m, nn.Linear)]
    assert widths == list(zip([128] + [512] * hidden_layers, [512] * hidden_layers + [365], strict=True))
    assert sum(isinstance(m, nn.BatchNorm1d) for m in head.modules()) == hidden_layers
    assert sum(isinstance(m, nn.ReLU) for m in head.modules()) == hidden_layers
    assert head(torch.randn(4, 128)).shape == (4, 365)


def test_action_head_drops_features_only_in_training() -> None:
    torch.manual_seed(0)
    head = ActionHead(64, 5, dropout=0.5)
    x = torch.ones(1, 64)
    assert not torch.equal(head(x), head(x))
    head.eval()
    assert torch.equal(head(x), head(x))
