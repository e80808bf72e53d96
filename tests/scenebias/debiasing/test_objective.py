"""The objective on a real network: what each part of it does to each part of the network.

Shape suffixes as in `scenebias.debiasing.objective`. The models run in float64 with BatchNorm in evaluation mode,
unless said.
"""

from copy import deepcopy
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from scenebias.debiasing.debiasing_model import DebiasingModel, Losses
from scenebias.debiasing.losses import alpha_ramp, entropy, soft_cross_entropy
from scenebias.debiasing.objective import MaskStep, ObjectiveConfig, Phase
from scenebias.debiasing.scene_balance import SceneBalance
from scenebias.models.action_model import ActionModel, ModelConfig
from tests.scenebias.debiasing.objective_batch import ACTIONS, Batch, make_batch

CONFIGURATIONS = [
    ObjectiveConfig(
        name=objective,
        mask_loss=mask_loss,
        mask_step=mask_step,
        masked_batch_norm=masked_batch_norm,
        scene_adversary=scene_adversary,
        alpha_scene=0.3,
        alpha_mask=0.7,
        label_smoothing=0.1,
    )
    for objective, scene_adversary, mask_loss, mask_step, masked_batch_norm in [
        ("baseline", "marginal", "paper", "alternate", None),
        ("scene", "marginal", "paper", "alternate", "separate"),
        ("scene", "conditional", "paper", "one_batch", None),
        ("mask", "marginal", "paper", "alternate", "frozen"),
        ("mask", "marginal", "paper", "one_batch", "clean"),
        ("mask", "marginal", "released", "alternate", "released"),
        ("mask", "marginal", "released", "joint", "separate"),
        ("mask", "marginal", "adversarial", "one_batch", "both"),
        ("debias", "marginal", "paper", "alternate", "released"),
        ("debias", "marginal", "paper", "alternate", "separate"),
        ("debias", "marginal", "paper", "joint", "frozen"),
        ("debias", "marginal", "paper", "one_batch", "both"),
        ("debias", "weighted", "released", "alternate", "separate"),
        ("debias", "marginal", "released", "joint", "released"),
        ("debias", "conditional", "adversarial", "alternate", "own"),
        ("debias", "weighted", "adversarial", "one_batch", "clean"),
        ("albar", "marginal", "paper", "one_batch", None),
    ]
]


def name_of(config: ObjectiveConfig) -> str:
    parts = (config.name, config.scene_adversary, config.mask_loss, config.mask_step, config.norm_of_masked)
    return "-".join(parts)


every_configuration = pytest.mark.parametrize("config", CONFIGURATIONS, ids=name_of)
masked_configurations = pytest.mark.parametrize("config", [c for c in CONFIGURATIONS if c.uses_masks], ids=name_of)


@cache
def trained_model(config: ObjectiveConfig) -> DebiasingModel:
    torch.manual_seed(0)
    model = DebiasingModel(ActionModel(ModelConfig("small3d"), ACTIONS), config, balance_of(make_batch())).double()
    with torch.no_grad():
        for _ in range(3):  # running statistics that keep the features apart in evaluation mode
            for phase in config.phases:
                run(model, phase, make_batch(seed=1))
        last_layers = [model.action_model.head[-1]] + ([model.masked_head[-1]] if model.masked_head else [])
        for layer in last_layers:
            layer.weight *= 10  # predictions far from even, so that entropies have somewhere to go
    return model.eval()


def balance_of(batch: Batch) -> SceneBalance:
    return SceneBalance.of(batch.label_B.numpy(), batch.scene_BS.numpy(), ACTIONS)


def make_model(config: ObjectiveConfig) -> DebiasingModel:
    return deepcopy(trained_model(config))


def run(model: DebiasingModel, phase: Phase, batch: Batch, ramp: float = 1.0, **more: Tensor) -> Losses:
    return model(
        phase,
        batch.clip_BTHWC,
        batch.label_B,
        scene_BS=batch.scene_BS,
        masked_BTHWC=batch.masked_BTHWC,
        effective_B=batch.effective_B,
        still_BTHWC=batch.still_BTHWC,
        clip_count=len(batch.label_B),
        effective_count=batch.effective_B.sum(),
        ramp=ramp,
        **more,
    )


def gradients(model: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    """The gradients that ``backward`` leaves; parameters that the loss does not depend on are absent."""
    model.zero_grad(set_to_none=True)
    loss.backward(retain_graph=True)  # losses may share a part of it
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def masked_features(model: DebiasingModel, batch: Batch) -> Tensor:
    """What the backbone in evaluation mode sees in the masked clips."""
    action = model.action_model
    if model.masked_norms is None:
        return action.features(batch.masked_BTHWC)
    return model.masked_norms(action.backbone, action.normalise(batch.masked_BTHWC))


def numpy_log_softmax(logits: Tensor) -> np.ndarray:
    values = logits.detach().numpy().astype(np.float64)
    values = values - values.max(axis=1, keepdims=True)
    return values - np.log(np.exp(values).sum(axis=1, keepdims=True))


# --- the single losses ---


def test_entropy_and_soft_cross_entropy_agree_with_numpy() -> None:
    logits_BS = 5 * torch.randn(4, 7, dtype=torch.float64)
    target_BS = torch.rand(4, 7, dtype=torch.float64)
    log_p = numpy_log_softmax(logits_BS)
    np.testing.assert_allclose(entropy(logits_BS), -(np.exp(log_p) * log_p).sum(axis=1))
    np.testing.assert_allclose(soft_cross_entropy(logits_BS, target_BS), -(target_BS.numpy() * log_p).sum(axis=1))


def test_entropy_spans_zero_to_the_logarithm_of_the_class_count_and_stays_finite() -> None:
    logits_BA = torch.tensor([[0.0] * 8, [1e4] + [-1e4] * 7], requires_grad=True)
    values_B = entropy(logits_BA)
    torch.testing.assert_close(values_B, torch.tensor([np.log(8), 0.0], dtype=torch.float32))
    values_B.sum().backward()
    assert logits_BA.grad.isfinite().all()


def test_losses_have_the_gradient_of_their_values() -> None:
    logits = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    target = torch.rand(3, 4, dtype=torch.float64)
    assert torch.autograd.gradcheck(entropy, logits)
    assert torch.autograd.gradcheck(lambda x: soft_cross_entropy(x, target), logits)


def test_half_precision_logits_are_judged_in_float32() -> None:
    logits = torch.randn(3, 400).bfloat16()
    assert entropy(logits).dtype == torch.float32
    torch.testing.assert_close(entropy(logits), entropy(logits.float()))


# --- gradients ---


@every_configuration
def test_each_network_gets_its_own_combination_of_plain_gradients(config: ObjectiveConfig) -> None:
    """Rebuilt without any reversal: one plain loss after the other, weighted by hand for backbone and heads."""
    model, batch = make_model(config), make_batch()
    found: dict[str, Tensor] = {}
    for phase in config.phases:
        for name, gradient in gradients(model, run(model, phase, batch).total).items():
            found[name] = found.get(name, 0) + gradient

    action = model.action_model
    parts = [(nn.functional.cross_entropy(action(batch.clip_BTHWC), batch.label_B, label_smoothing=0.1), 1.0, 1.0)]
    if config.uses_scenes:
        told = action.features(batch.clip_BTHWC)
        if config.scene_adversary == "conditional":
            told = torch.cat([told, torch.eye(ACTIONS, dtype=torch.float64)[batch.label_B]], dim=1)
        log_p = model.scene_head(told).log_softmax(dim=1)
        divergence_B = nn.functional.kl_div(log_p, batch.scene_BS.double(), reduction="none").sum(dim=1)
        if config.scene_adversary == "weighted":
            weight_AS = torch.from_numpy(balance_of(batch).weight_AS)
            divergence_B = divergence_B * weight_AS[batch.label_B, batch.scene_BS.argmax(dim=1)]
        parts.append((divergence_B.mean(), -0.3, 1.0))
    if config.uses_masks:
        head = action.head if config.mask_loss == "paper" else model.masked_head
        logits_BA = head(masked_features(model, batch)[batch.effective_B])
        mean_entropy = torch.distributions.Categorical(logits=logits_BA).entropy().mean()
        named = nn.functional.cross_entropy(logits_BA, batch.label_B[batch.effective_B])
        choices = {
            "paper": (mean_entropy, -0.7, -0.7),
            "released": (mean_entropy, 0.7, -1.0),
            "adversarial": (named, -0.7, 1.0),
        }
        parts.append(choices[config.mask_loss])
    if config.uses_stills:
        still_BCTHW = action.normalise(batch.still_BTHWC).requires_grad_()
        logits_BA = action.head(action.backbone(still_BCTHW))
        (slope_BCTHW,) = torch.autograd.grad(logits_BA.sum(), still_BCTHW, create_graph=True)
        parts.append((nn.functional.cross_entropy(logits_BA, batch.label_B), -1.0, -1.0))
        parts.append((torch.distributions.Categorical(logits=logits_BA).entropy().mean(), -4.25, -4.25))
        steepness = (slope_BCTHW.square().sum(dim=(1, 2, 3)) + 1e-12).sqrt().mean()
        parts.append((steepness, 10.0, 10.0))
    expected: dict[str, Tensor] = {}
    for loss, backbone_weight, head_weight in parts:
        for name, gradient in gradients(model, loss).items():
            weight = backbone_weight if name.startswith(("action_model.backbone", "masked_norms")) else head_weight
            expected[name] = expected.get(name, 0) + weight * gradient

    assert found.keys() == expected.keys() == dict(model.named_parameters()).keys()
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("objective", "mask_loss", "number", "moved", "direction"), [
    ("mask", "paper", "masked_entropy", "action_model.backbone", 1),
    ("mask", "paper", "masked_entropy", "action_model.head", 1),
    ("mask", "released", "masked_entropy", "action_model.backbone", -1),
    ("mask", "released", "masked_entropy", "masked_head", 1),
    ("mask", "adversarial", "masked_loss", "action_model.backbone", 1),
    ("mask", "adversarial", "masked_loss", "masked_head", -1),
    ("scene", "paper", "action_loss", "action_model", -1),
    ("scene", "paper", "scene_loss", "scene_head", -1),
])  # fmt: skip
def test_a_small_step_moves_each_number_the_way_it_should(
    objective: str, mask_loss: str, number: str, moved: str, direction: int
) -> None:
    config = ObjectiveConfig(name=objective, mask_loss=mask_loss, mask_step="alternate")
    model, batch = make_model(config), make_batch()
    phase = "masked" if objective == "mask" else "clean"

    def value_of(losses: Losses) -> Tensor:
        return losses.total.detach() if number == "masked_loss" else losses.sums[number]

    before = run(model, phase, batch)
    before.total.backward()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith(moved):
                parameter -= 1e-4 * parameter.grad
    after = run(model, phase, batch)
    assert direction * (value_of(after) - value_of(before)) > 1e-7


def test_the_reversal_makes_the_backbone_forget_the_scene() -> None:
    """With a weight that lets it outdo the action loss, whose gradient the backbone gets as well."""
    model, batch = make_model(ObjectiveConfig(name="scene", alpha_scene=100.0)), make_batch()
    before = run(model, "clean", batch)
    before.total.backward()
    with torch.no_grad():
        for parameter in model.action_model.backbone.parameters():
            parameter -= 1e-4 * parameter.grad
    assert run(model, "clean", batch).sums["scene_loss"] - before.sums["scene_loss"] > 1e-7


@pytest.mark.parametrize("mask_step", ["one_batch", "alternate"])
def test_consistency_is_the_mean_divergence_of_the_comparable_clips(mask_step: MaskStep) -> None:
    config = ObjectiveConfig(name="mask", alpha_mask=0.0, consistency=0.25, mask_step=mask_step)
    model, batch, other = make_model(replace(config, consistency=0.0)), make_batch(), make_batch(seed=7)
    expected = run(model, config.phases[0], batch)
    model.config = config
    comparable_B = torch.tensor([True, False, True, True, False, False])
    more = {"original_BTHWC": other.clip_BTHWC, "comparable_B": comparable_B}
    losses = run(model, config.phases[0], batch, **more)
    p_BA, q_BA = (model.action_model(clip).softmax(dim=1) for clip in (batch.clip_BTHWC, other.clip_BTHWC))
    divergence_B = (p_BA * (p_BA / q_BA).log() + q_BA * (q_BA / p_BA).log()).sum(dim=1) / 2
    mean = (divergence_B * comparable_B).sum() / 6
    torch.testing.assert_close(losses.total, expected.total + 0.25 * mean)
    torch.testing.assert_close(losses.sums["consistency_loss"], 6 * mean.detach())


def test_mixed_targets_weigh_the_losses_of_their_actions() -> None:
    model, batch = make_model(ObjectiveConfig(name="baseline")), make_batch()
    target_BA = torch.rand(6, ACTIONS, dtype=torch.float64)
    target_BA /= target_BA.sum(dim=1, keepdim=True)
    losses = run(model, "clean", batch, target_BA=target_BA)
    of_each = torch.stack(
        [run(model, "clean", replace(batch, label_B=torch.full((6,), action))).clip_loss_B for action in range(ACTIONS)]
    )
    torch.testing.assert_close(losses.total, (of_each.T * target_BA).sum() / 6)


# --- the ramp ---


@every_configuration
def test_ramp_multiplies_the_weights_of_debiasing(config: ObjectiveConfig) -> None:
    model, batch = make_model(config), make_batch()
    names = ("alpha_scene", "alpha_mask", "albar_adversarial", "albar_entropy", "albar_penalty")
    reduced = replace(config, **{name: 0.25 * getattr(config, name) for name in names})
    expected_model = deepcopy(model)
    expected_model.config = reduced
    for phase in config.phases:
        losses = run(model, phase, batch, ramp=0.25)
        expected = run(expected_model, phase, batch)
        torch.testing.assert_close(losses.total, expected.total)
        torch.testing.assert_close(losses.clip_loss_B, expected.clip_loss_B)
        torch.testing.assert_close(gradients(model, losses.total), gradients(expected_model, expected.total))


def test_dann_ramp_rises_from_zero_to_almost_one() -> None:
    progress = np.linspace(0, 1, 101)
    ramp = np.array([alpha_ramp("dann", p) for p in progress])
    np.testing.assert_allclose(ramp, np.tanh(5 * progress), atol=1e-12)  # the same function
    assert ramp[0] == 0
    assert (np.diff(ramp) > 0).all()
    assert {alpha_ramp("constant", p) for p in progress} == {1.0}


# --- the loss of each clip ---


@every_configuration
def test_losses_of_the_clips_add_up_to_the_total(config: ObjectiveConfig) -> None:
    model, batch = make_model(config), make_batch()
    for phase in config.phases:
        losses = run(model, phase, batch)
        assert losses.clip_loss_B.shape == (6,)
        assert not losses.clip_loss_B.requires_grad
        counts = {"clean": 6, "masked": 4}
        if phase in counts:
            torch.testing.assert_close(losses.clip_loss_B.sum() / counts[phase], losses.total.detach())
        if phase == "masked":
            assert not losses.clip_loss_B[~batch.effective_B].any()


@pytest.mark.parametrize("mask_step", ["joint", "one_batch"])
def test_the_loss_of_a_broken_clip_gives_it_away(mask_step: MaskStep) -> None:
    model, batch = make_model(ObjectiveConfig(mask_step=mask_step)), make_batch()
    batch.scene_BS[3] = float("nan")
    losses = run(model, mask_step, batch)
    assert not losses.total.isfinite()
    assert losses.clip_loss_B.isfinite().tolist() == [True, True, True, False, True, True]


# --- clips without an effective mask ---


@masked_configurations
@pytest.mark.parametrize("training", [True, False])
def test_a_batch_without_any_effective_mask_gives_no_confusion_gradient(
    config: ObjectiveConfig, training: bool
) -> None:
    model, batch = make_model(config).train(training), make_batch()
    batch.effective_B[:] = False
    if config.mask_step == "alternate":
        losses = run(model, "masked", batch)
        assert losses.total.item() == 0
        assert losses.total.requires_grad
        assert all(not gradient.any() for gradient in gradients(model, losses.total).values())
    elif config.norm_of_masked == "both" and training:
        pytest.skip("masked clips take part in the statistics of the clean ones, effective or not")
    else:
        alone = replace(config, mask_step="alternate", masked_batch_norm=None)
        clean = DebiasingModel(ActionModel(ModelConfig("small3d"), ACTIONS), alone, balance_of(batch)).double()
        clean.load_state_dict({name: t for name, t in model.state_dict().items() if "masked_norms" not in name})
        clean.train(training)
        expected = gradients(clean, run(clean, "clean", batch).total)
        found = gradients(model, run(model, config.mask_step, batch).total)
        for name, gradient in found.items():
            wanted = expected.get(name, torch.zeros_like(gradient))
            torch.testing.assert_close(gradient, wanted, rtol=1e-6, atol=1e-9)


@masked_configurations
def test_a_clip_without_an_effective_mask_contributes_nothing(config: ObjectiveConfig) -> None:
    model, batch, phase = make_model(config), make_batch(), config.phases[-1]
    losses = run(model, phase, batch)
    expected = gradients(model, losses.total)
    batch.masked_BTHWC[~batch.effective_B] = 255 - batch.masked_BTHWC[~batch.effective_B]
    changed = run(model, phase, batch)
    assert changed.total == losses.total
    torch.testing.assert_close(gradients(model, changed.total), expected, rtol=1e-12, atol=1e-15)


# --- the rest ---


@every_configuration
def test_works_in_training_mode_under_bfloat16_autocast(config: ObjectiveConfig) -> None:
    """Up to the features: PyTorch's own bfloat16 gradient of a small 3D convolution is not reliable on every CPU."""
    model, batch = make_model(config).float().train(), make_batch()
    for phase in config.phases:
        with torch.autocast("cpu", torch.bfloat16):
            losses = run(model, phase, batch)
        assert losses.total.dtype == torch.float32
        assert losses.total.isfinite()
        found = gradients(model, losses.total)
        assert all(gradient.isfinite().all() for name, gradient in found.items() if "backbone" not in name)


def test_heads_exist_only_where_they_are_used() -> None:
    for config in CONFIGURATIONS:
        model = make_model(config)
        assert (model.scene_head is not None) == config.uses_scenes
        assert (model.masked_head is not None) == (config.uses_masks and config.mask_loss != "paper")
        assert (model.masked_norms is not None) == (config.uses_masks and config.masked_batch_norm == "separate")


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("name", "all", "one of baseline, scene, mask, debias, albar"),
        ("mask_loss", "code", "one of paper, released, adversarial"),
        ("mask_step", "both", "one of one_batch, alternate, joint"),
        ("alpha_schedule", "linear", "one of constant, dann"),
        ("masked_batch_norm", "none", "one of clean, both with mask_step one_batch"),
        ("scene_adversary", "joint", "one of marginal, conditional, weighted"),
        ("mask_cover", "clip", "one of pixels, boxes"),
        ("consistency", -1.0, "0 or more and finite"),
        ("fill", "black", "one of frame_mean, dataset_mean, white, random, noise, whole_frame_mean"),
        ("scene_hidden_layers", 2, "one of 0, 1, 3"),
        ("alpha_scene", -0.1, "0 or more and finite"),
        ("alpha_mask", float("nan"), "0 or more and finite"),
        ("albar_adversarial", -1.0, "0 or more and finite"),
        ("albar_entropy", float("inf"), "0 or more and finite"),
        ("albar_penalty", -0.1, "0 or more and finite"),
        ("min_person_share", 1.1, "from 0 to 1"),
        ("label_smoothing", 1.0, "from 0 to below 1"),
    ],
)
def test_bad_configuration_names_the_field_and_what_is_allowed(field: str, value: object, allowed: str) -> None:
    option = "objective" if field == "name" else field
    with pytest.raises(ValueError, match=f"^{option} must be {allowed}, not"):
        ObjectiveConfig(**{field: value})


def test_stills_take_the_place_of_clips_as_they_were() -> None:
    with pytest.raises(ValueError, match=r"^consistency must be 0 with objective albar, not 0.5"):
        ObjectiveConfig(name="albar", consistency=0.5)


def test_without_gradients_the_penalty_is_left_out_and_nothing_else() -> None:
    """As in a pass for BatchNorm's statistics."""
    model, batch = make_model(ObjectiveConfig(name="albar")), make_batch()
    with torch.no_grad():
        found = run(model, "clean", batch)
    expected = run(model, "clean", batch)
    assert expected.sums["still_penalty"] > 0
    torch.testing.assert_close(found.sums, expected.sums | {"still_penalty": torch.zeros((), dtype=torch.float64)})


def test_clips_and_stills_are_one_batch_to_batch_norm() -> None:
    model, batch = make_model(ObjectiveConfig(name="albar")).train(), make_batch()
    seen = []
    norm = next(module for module in model.modules() if isinstance(module, nn.BatchNorm3d))
    norm.register_forward_hook(lambda _, given, output: seen.append((given[0], output)))
    run(model, "clean", batch)
    ((given, output),) = seen
    assert len(given) == 12
    normalised = nn.functional.batch_norm(given, None, None, norm.weight, norm.bias, training=True, eps=norm.eps)
    torch.testing.assert_close(output, normalised.relu())  # the next layer works in place
