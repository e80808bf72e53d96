"""The optimiser's groups and the learning rate of every step."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scenebias.optimization import OptimizationConfig, build_optimizer, learning_rate_at


@given(
    steps_per_epoch=st.integers(1, 50),
    epochs=st.integers(1, 20),
    warmup=st.floats(0, 3),
    schedule=st.sampled_from(["constant", "cosine"]),
)
def test_the_learning_rate_rises_to_the_peak_and_never_leaves_zero_to_peak(
    steps_per_epoch: int, epochs: int, warmup: float, schedule: str
) -> None:
    config = OptimizationConfig(learning_rate=0.3, warmup_epochs=warmup, schedule=schedule)
    rates = [learning_rate_at(step, steps_per_epoch, epochs, config) for step in range(steps_per_epoch * epochs)]
    warmup_steps = warmup * steps_per_epoch
    assert all(0 < rate <= 0.3 + 1e-12 for rate in rates)
    rising = [rate for step, rate in enumerate(rates) if step < warmup_steps]
    after = [rate for step, rate in enumerate(rates) if step >= warmup_steps]
    assert rising == sorted(rising)
    assert after == sorted(after, reverse=True)
    if schedule == "constant":
        assert set(after) <= {0.3}


def test_cosine_is_half_way_in_the_middle() -> None:
    config = OptimizationConfig(learning_rate=1.0, schedule="cosine")
    assert learning_rate_at(50, 10, 10, config) == pytest.approx(0.5)


def test_every_trainable_parameter_is_in_one_group_and_only_matrices_decay() -> None:
    model = torch.nn.Sequential(torch.nn.Conv3d(3, 4, 3), torch.nn.BatchNorm3d(4), torch.nn.Linear(4, 2))
    model[2].bias.requires_grad_(False)
    optimizer = build_optimizer(model, OptimizationConfig(weight_decay=0.01))
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    wanted = {id(p): 0.01 if p.ndim > 1 else 0.0 for p in model.parameters() if p.requires_grad}
    assert decay == wanted


@pytest.mark.parametrize(
    ("field", "value"),
    [("learning_rate", 0), ("momentum", 1.0), ("weight_decay", -1), ("warmup_epochs", -1), ("gradient_clip", 0)],
)
def test_impossible_settings_are_refused_by_name(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=field):
        OptimizationConfig(**{field: value})
