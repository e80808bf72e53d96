"""The optimiser's groups and the learning rates of every step."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim.lr_scheduler import ReduceLROnPlateau

from scenebias.debiasing.debiasing_model import DebiasingModel
from scenebias.debiasing.objective import ObjectiveConfig
from scenebias.models.action_model import ActionModel, ModelConfig
from scenebias.training.optimization import (
    OptimizationConfig,
    build_optimizer,
    learning_rates_at,
    set_learning_rates,
    step_where,
)

STEPS_PER_EPOCH = 10


def make_model(**objective: object) -> DebiasingModel:
    torch.manual_seed(0)
    model = DebiasingModel(ActionModel(ModelConfig(backbone="small3d"), 3), ObjectiveConfig(**objective))
    return model.to(memory_format=torch.channels_last_3d)


def rates_of_epochs(config: OptimizationConfig, epochs: int, losses: list[float] | None = None) -> list[float]:
    """The backbone's learning rate in each epoch, which must be the same in all its steps."""
    rates = []
    for epoch in range(epochs):
        steps = range(epoch * STEPS_PER_EPOCH, (epoch + 1) * STEPS_PER_EPOCH)
        found = {
            learning_rates_at(step, STEPS_PER_EPOCH, epochs, config, (losses or [])[:epoch])["backbone"]
            for step in steps
        }
        assert len(found) == 1
        rates.append(found.pop())
    return rates


@given(
    steps_per_epoch=st.integers(1, 50),
    epochs=st.integers(1, 20),
    warmup=st.floats(0, 3),
    schedule=st.sampled_from(["constant", "cosine", "step", "plateau"]),
    head_warmup=st.integers(0, 3),
    losses=st.lists(st.floats(0, 10), min_size=20, max_size=20),
)
def test_the_learning_rate_rises_to_the_peak_and_never_again(
    steps_per_epoch: int, epochs: int, warmup: float, schedule: str, head_warmup: int, losses: list[float]
) -> None:
    config = OptimizationConfig(
        learning_rate=0.3,
        warmup_epochs=warmup,
        schedule=schedule,
        head_warmup_epochs=head_warmup,
        step_epochs=(2, 5),
        plateau_patience=1,
    )
    first = head_warmup * steps_per_epoch
    rates = [
        learning_rates_at(step, steps_per_epoch, epochs, config, losses[: step // steps_per_epoch])["backbone"]
        for step in range(first, steps_per_epoch * epochs)
    ]
    warmup_steps = warmup * steps_per_epoch
    assert all(0 < rate <= 0.3 + 1e-12 for rate in rates)
    rising = [rate for step, rate in enumerate(rates) if step < warmup_steps]
    after = [rate for step, rate in enumerate(rates) if step >= warmup_steps]
    assert rising == sorted(rising)
    assert after == sorted(after, reverse=True)
    if schedule == "constant":
        assert set(after) <= {0.3}


def test_each_layer_learns_slower_than_the_next_by_the_same_factor() -> None:
    model = make_model(name="debias")
    config = OptimizationConfig(learning_rate=1.0, new_layer_factor=3.0, layer_decay=0.5)
    optimizer = build_optimizer(model, config)
    set_learning_rates(optimizer, learning_rates_at(0, STEPS_PER_EPOCH, 1, config))
    rate_of = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    trained = [p for p in model.parameters() if p.requires_grad]
    assert sorted(rate_of) == sorted(map(id, trained))
    backbone = model.action_model.backbone
    for layer, rate in zip(backbone.layers, (0.125, 0.25, 0.5, 1.0), strict=True):
        assert {rate_of[id(parameter)] for parameter in layer} == {rate}
    assert {rate_of[id(parameter)] for parameter in model.action_model.head.parameters()} == {3.0}
    for group in optimizer.param_groups:
        assert {parameter.ndim >= 2 for parameter in group["params"]} == {group["weight_decay"] > 0}


def test_without_layer_decay_the_groups_are_those_of_before() -> None:
    groups = build_optimizer(make_model(), OptimizationConfig()).param_groups
    assert not any("rate_factor" in group for group in groups)
    assert [group["part"] for group in groups[:2]] == ["backbone", "backbone"]


@pytest.mark.parametrize("factor", [0.0, 1.1])
def test_a_layer_decay_that_is_none_is_refused(factor: float) -> None:
    with pytest.raises(ValueError, match="layer_decay must lie above 0 and be at most 1"):
        OptimizationConfig(layer_decay=factor)


def test_cosine_is_half_way_in_the_middle() -> None:
    config = OptimizationConfig(learning_rate=1.0, schedule="cosine")
    assert learning_rates_at(50, 10, 10, config)["backbone"] == pytest.approx(0.5)


def test_cosine_begins_at_the_peak_after_the_heads_had_their_epochs() -> None:
    config = OptimizationConfig(learning_rate=1.0, schedule="cosine", head_warmup_epochs=4)
    assert learning_rates_at(40, 10, 10, config)["backbone"] == 1.0
    assert learning_rates_at(70, 10, 10, config)["backbone"] == pytest.approx(0.5)


def test_a_step_schedule_falls_when_the_named_epochs_are_done() -> None:
    config = OptimizationConfig(learning_rate=1.0, schedule="step", step_epochs=(2, 3), decay_factor=0.5)
    assert rates_of_epochs(config, 5) == [1.0, 1.0, 0.5, 0.25, 0.25]


def test_a_plateau_falls_after_one_epoch_more_than_its_patience_without_a_lower_loss() -> None:
    config = OptimizationConfig(learning_rate=1.0, schedule="plateau", plateau_patience=1, decay_factor=0.5)
    losses = [3.0, 2.0, 2.0, 2.5, 1.0, 1.5, 1.5, 1.5]
    assert rates_of_epochs(config, 9, losses) == [1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.25, 0.25]


@given(losses=st.lists(st.floats(0, 5), max_size=30), patience=st.integers(0, 4), factor=st.floats(0.05, 0.95))
def test_a_plateau_resumed_in_any_epoch_is_torch_s_scheduler_run_without_a_break(
    losses: list[float], patience: int, factor: float
) -> None:
    config = OptimizationConfig(
        learning_rate=0.01, schedule="plateau", plateau_patience=patience, decay_factor=factor, new_layer_factor=5.0
    )
    optimizer = torch.optim.SGD([torch.zeros(())], lr=0.01)
    scheduler = ReduceLROnPlateau(optimizer, factor=factor, patience=patience, eps=0.0)
    for epoch in range(len(losses) + 1):
        rates = learning_rates_at(epoch * 7 + 3, 7, len(losses) + 1, config, losses)
        assert rates["backbone"] == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)
        assert rates["heads"] == pytest.approx(5 * rates["backbone"], rel=1e-12)
        if epoch < len(losses):
            scheduler.step(losses[epoch])


def test_a_plateau_does_not_see_the_losses_of_the_heads_own_epochs() -> None:
    config = OptimizationConfig(learning_rate=1.0, schedule="plateau", plateau_patience=0, head_warmup_epochs=2)
    assert rates_of_epochs(config, 5, [0.1, 0.1, 3.0, 2.0]) == [0.0, 0.0, 1.0, 1.0, 1.0]


def test_heads_learn_alone_at_their_own_rate_and_then_beside_the_backbone() -> None:
    config = OptimizationConfig(
        learning_rate=1e-4, head_warmup_epochs=4, head_warmup_learning_rate=1e-2, new_layer_factor=10.0
    )
    assert learning_rates_at(39, 10, 20, config) == {"backbone": 0.0, "heads": 1e-2}
    assert learning_rates_at(40, 10, 20, config) == {"backbone": 1e-4, "heads": pytest.approx(1e-3)}


@pytest.mark.parametrize("decay", ["kernels", "all"])
def test_every_trainable_parameter_is_in_one_group_of_its_part_and_decays_as_asked(decay: str) -> None:
    model = make_model(mask_loss="released")
    model.action_model.head[1].bias.requires_grad_(False)
    optimizer = build_optimizer(model, OptimizationConfig(weight_decay=0.01, decay=decay))
    found = {p: (group["part"], group["weight_decay"]) for group in optimizer.param_groups for p in group["params"]}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(found)
    backbone = set(model.action_model.backbone.parameters())
    wanted = {
        p: ("backbone" if p in backbone else "heads", 0.01 if decay == "all" or p.ndim > 1 else 0.0)
        for p in model.parameters()
        if p.requires_grad
    }
    assert found == wanted


def test_a_frozen_backbone_leaves_the_heads_alone_to_the_optimiser() -> None:
    model = make_model(name="baseline")
    model.action_model.freeze_backbone()
    optimizer = build_optimizer(model, OptimizationConfig())
    assert {group["part"] for group in optimizer.param_groups} == {"heads"}


def test_sgd_updates_as_written_by_hand_in_float64() -> None:
    """g <- g + decay w; m <- momentum m + g; w <- w - rate m, the momentum beginning at the first gradient."""
    model = make_model(name="scene")
    config = OptimizationConfig(learning_rate=0.1, weight_decay=0.01, new_layer_factor=3.0)
    optimizer = build_optimizer(model, config)
    weights = {p: p.detach().double() for p in model.parameters()}
    momenta = {p: torch.zeros_like(weight) for p, weight in weights.items()}
    for step in range(3):
        rates = learning_rates_at(step, 10, 1, config)
        optimizer.zero_grad()
        clip_BTHWC = torch.randint(256, (4, 8, 32, 32, 3), dtype=torch.uint8)
        losses = model("clean", clip_BTHWC, torch.arange(4) % 3, scene_BS=torch.full((4, 365), 1 / 365), clip_count=4)
        losses.total.backward()
        for group in optimizer.param_groups:
            group["lr"] = rates[group["part"]]
            for p in group["params"]:
                momenta[p] = 0.9 * momenta[p] + p.grad.double() + group["weight_decay"] * weights[p]
                weights[p] = weights[p] - group["lr"] * momenta[p]
        optimizer.step()
    for p, weight in weights.items():
        torch.testing.assert_close(p.detach().double(), weight, rtol=1e-5, atol=1e-6)


def test_adamw_updates_as_written_by_hand_in_float64() -> None:
    """Loshchilov and Hutter, ICLR 2019, algorithm 2, with beta2 = 0.999 and epsilon = 1e-8, on given gradients."""
    model = make_model(name="baseline")
    config = OptimizationConfig(optimizer="adamw", learning_rate=0.1, weight_decay=0.01, momentum=0.8)
    optimizer = build_optimizer(model, config)
    weights = {p: p.detach().double() for p in model.parameters()}
    first = {p: torch.zeros_like(weight) for p, weight in weights.items()}
    second = {p: torch.zeros_like(weight) for p, weight in weights.items()}
    for step in range(1, 5):
        for group in optimizer.param_groups:
            for p in group["params"]:
                p.grad = torch.randn_like(p)
                first[p] = 0.8 * first[p] + 0.2 * p.grad.double()
                second[p] = 0.999 * second[p] + 0.001 * p.grad.double() ** 2
                update = first[p] / (1 - 0.8**step) / ((second[p] / (1 - 0.999**step)).sqrt() + 1e-8)
                weights[p] = weights[p] - 0.1 * (update + group["weight_decay"] * weights[p])
        optimizer.step()
    for p, weight in weights.items():
        torch.testing.assert_close(p.detach().double(), weight, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_the_fused_kernels_do_what_the_plain_ones_do(name: str) -> None:
    """Of gradients as autograd lays them out: the kernels for CPUs go by memory, whatever the strides."""
    config = OptimizationConfig(optimizer=name, learning_rate=0.01, weight_decay=0.1)
    fused, plain = make_model(name="baseline"), make_model(name="baseline")
    optimizers = [build_optimizer(model, config) for model in (fused, plain)]
    assert all(group["fused"] for optimizer in optimizers for group in optimizer.param_groups)
    for group in optimizers[1].param_groups:
        group["fused"] = False
    for _ in range(3):
        optimizers[0].zero_grad()
        clip_BTHWC = torch.randint(256, (4, 8, 32, 32, 3), dtype=torch.uint8)
        fused("clean", clip_BTHWC, torch.arange(4) % 3, clip_count=4).total.backward()
        for a, b in zip(fused.parameters(), plain.parameters(), strict=True):
            b.grad = a.grad
        for optimizer in optimizers:
            optimizer.step()
    for a, b in zip(fused.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
@pytest.mark.parametrize("made", [(False, True, False, True), (True, False, True)])
def test_a_step_that_is_not_made_leaves_no_trace_in_those_after_it(name: str, made: tuple[bool, ...]) -> None:
    """Not where it is the first either; those that are made are the optimiser's own, to the bit."""
    config = OptimizationConfig(optimizer=name, learning_rate=0.1, weight_decay=0.1)
    choosing, plain = make_model(name="baseline"), make_model(name="baseline")
    optimizers = [build_optimizer(model, config) for model in (choosing, plain)]
    for is_made in made:
        for a, b in zip(choosing.parameters(), plain.parameters(), strict=True):
            b.grad = torch.randn_like(a)
            a.grad = b.grad.clone() if is_made else torch.full_like(a, torch.nan)
        step_where(optimizers[0], torch.tensor(is_made))
        if is_made:
            optimizers[1].step()
        assert all(map(torch.equal, choosing.parameters(), plain.parameters()))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("optimizer", "lamb"),
        ("schedule", "linear"),
        ("decay", "none"),
        ("learning_rate", 0),
        ("learning_rate", math.inf),
        ("new_layer_factor", 0),
        ("head_warmup_learning_rate", -1),
        ("momentum", 1.0),
        ("weight_decay", -1),
        ("warmup_epochs", -1),
        ("head_warmup_epochs", -1),
        ("plateau_patience", -1),
        ("decay_factor", 1.0),
        ("step_epochs", (3, 3)),
        ("step_epochs", (0,)),
        ("gradient_clip", 0),
    ],
)
def test_impossible_settings_are_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=field):
        OptimizationConfig(**{field: value})


def test_a_step_schedule_must_say_when() -> None:
    with pytest.raises(ValueError, match="step_epochs"):
        OptimizationConfig(schedule="step")
