"""The objective against numpy in float64, and the direction in which each part pushes each network.

Shape suffixes as in `scenebias.objective`. The models run in float64 with BatchNorm in evaluation mode, unless said.
"""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from scenebias.model import ActionModel, ModelConfig
from scenebias.objective import SCENE_COUNT, DebiasingModel, Losses, ObjectiveConfig, Phase, entropy, soft_cross_entropy

ACTIONS = 5
CONFIGURATIONS = [
    ObjectiveConfig(
        objective=objective,
        mask_loss=mask_loss,
        mask_step=mask_step,
        alpha_scene=0.3,
        alpha_mask=0.7,
        label_smoothing=0.1,
    )
    for objective, mask_loss, mask_step in [
        ("baseline", "paper", "alternate"),
        ("scene", "paper", "alternate"),
        ("mask", "paper", "alternate"),
        ("mask", "released", "alternate"),
        ("mask", "released", "joint"),
        ("debias", "paper", "alternate"),
        ("debias", "paper", "joint"),
        ("debias", "released", "alternate"),
        ("debias", "released", "joint"),
    ]
]
every_configuration = pytest.mark.parametrize(
    "config", CONFIGURATIONS, ids=lambda c: f"{c.objective}-{c.mask_loss}-{c.mask_step}"
)
masked_configurations = pytest.mark.parametrize(
    "config", [c for c in CONFIGURATIONS if c.uses_masks], ids=lambda c: f"{c.objective}-{c.mask_loss}-{c.mask_step}"
)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Tensors this small are slower on several threads, many times so on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@dataclass
class Batch:
    clip_BTHWC: Tensor
    label_B: Tensor
    scene_BS: Tensor
    masked_BTHWC: Tensor
    effective_B: Tensor

    def __getitem__(self, index: slice) -> "Batch":
        return Batch(*(tensor[index] for tensor in vars(self).values()))


def make_batch(clips: int = 6, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    shape = (clips, 4, 16, 16, 3)
    return Batch(
        clip_BTHWC=torch.randint(256, shape, dtype=torch.uint8, generator=generator),
        label_B=torch.randint(ACTIONS, (clips,), generator=generator),
        scene_BS=(3 * torch.randn(clips, SCENE_COUNT, generator=generator)).softmax(dim=1),
        masked_BTHWC=torch.randint(256, shape, dtype=torch.uint8, generator=generator),
        effective_B=torch.tensor([True, False, True, True, False, True])[:clips],
    )


@cache
def trained_model(config: ObjectiveConfig) -> DebiasingModel:
    torch.manual_seed(0)
    model = DebiasingModel(ActionModel(ModelConfig("small3d"), ACTIONS), config).double()
    with torch.no_grad():
        for _ in range(3):  # running statistics that keep the features apart in evaluation mode
            for phase in config.phases:
                run(model, phase, make_batch(seed=1))
        last_layers = [model.action_model.head[-1]] + ([model.entropy_head[1][-1]] if model.entropy_head else [])
        for layer in last_layers:
            layer.weight *= 10  # predictions far from even, so that entropies have somewhere to go
    return model.eval()


def make_model(config: ObjectiveConfig) -> DebiasingModel:
    return deepcopy(trained_model(config))


def run(model: DebiasingModel, phase: Phase, batch: Batch, of: Batch | None = None, world_size: int = 1) -> Losses:
    """The losses of ``batch``, as one rank's part of the global batch ``of``."""
    whole = of or batch
    return model(
        phase,
        batch.clip_BTHWC,
        batch.label_B,
        scene_BS=batch.scene_BS,
        masked_BTHWC=batch.masked_BTHWC,
        effective_B=batch.effective_B,
        clip_count=len(whole.label_B),
        effective_count=whole.effective_B.sum(),
        world_size=world_size,
    )


def gradients(model: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    """The gradients that ``backward`` leaves; parameters that the loss does not depend on are absent."""
    model.zero_grad(set_to_none=True)
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


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


# --- values ---


@every_configuration
def test_total_and_sums_agree_with_numpy(config: ObjectiveConfig) -> None:
    model, batch = make_model(config), make_batch()
    clips, effective = len(batch.label_B), batch.effective_B.numpy()
    features_BD = model.action_model.features(batch.clip_BTHWC)
    masked_BD = model.action_model.features(batch.masked_BTHWC)
    sums, total = {}, 0.0
    for phase in config.phases:
        losses = run(model, phase, batch)
        sums |= {name: value.item() for name, value in losses.sums.items()}
        total += losses.total.item()

    log_p = numpy_log_softmax(model.action_model.head(features_BD))
    target = np.full((clips, ACTIONS), 0.1 / ACTIONS)
    target[np.arange(clips), batch.label_B] += 0.9
    expected = {
        "action_loss": -(target * log_p).sum(),
        "action_correct": (log_p.argmax(axis=1) == batch.label_B.numpy()).sum(),
    }
    expected_total = expected["action_loss"] / clips
    if config.uses_scenes:
        log_p = numpy_log_softmax(model.scene_head[1](features_BD))
        scene_BS = batch.scene_BS.numpy().astype(np.float64)
        expected["scene_loss"] = -(scene_BS * log_p).sum()
        expected["scene_correct"] = (log_p.argmax(axis=1) == scene_BS.argmax(axis=1)).sum()
        expected_total += expected["scene_loss"] / clips
    if config.uses_masks:
        paper = config.mask_loss == "paper"
        log_p = numpy_log_softmax(model.action_model.head(masked_BD) if paper else model.entropy_head[1](masked_BD))
        expected["masked_entropy"] = (-(np.exp(log_p) * log_p).sum(axis=1))[effective].sum()
        expected_total -= (config.alpha_mask if paper else 1) * expected["masked_entropy"] / effective.sum()
    assert sums == pytest.approx(expected)
    assert total == pytest.approx(expected_total)


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
        log_p = model.scene_head[1](action.features(batch.clip_BTHWC)).log_softmax(dim=1)
        parts.append((nn.functional.kl_div(log_p, batch.scene_BS.double(), reduction="batchmean"), -0.3, 1.0))
    if config.uses_masks:
        paper = config.mask_loss == "paper"
        head = action.head if paper else model.entropy_head[1]
        logits_BA = head(action.features(batch.masked_BTHWC[batch.effective_B]))
        mean_entropy = torch.distributions.Categorical(logits=logits_BA).entropy().mean()
        parts.append((mean_entropy, -0.7, -0.7) if paper else (mean_entropy, 0.7, -1.0))
    expected: dict[str, Tensor] = {}
    for loss, backbone_weight, head_weight in parts:
        for name, gradient in gradients(model, loss).items():
            weight = backbone_weight if name.startswith("action_model.backbone") else head_weight
            expected[name] = expected.get(name, 0) + weight * gradient

    assert found.keys() == expected.keys() == dict(model.named_parameters()).keys()
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("mask_loss", "moved", "direction"), [
    ("paper", "action_model.backbone", 1),
    ("paper", "action_model.head", 1),
    ("released", "action_model.backbone", -1),
    ("released", "entropy_head", 1),
])  # fmt: skip
def test_a_small_step_moves_the_entropy_the_way_it_should(mask_loss: str, moved: str, direction: int) -> None:
    model, batch = make_model(ObjectiveConfig(objective="mask", mask_loss=mask_loss)), make_batch()
    before = run(model, "masked", batch)
    before.total.backward()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith(moved):
                parameter -= 1e-4 * parameter.grad
    after = run(model, "masked", batch)
    change = after.sums["masked_entropy"] - before.sums["masked_entropy"]
    assert direction * change > 1e-7


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
    else:
        clean = DebiasingModel(model.action_model, ObjectiveConfig(**(vars(config) | {"mask_step": "alternate"})))
        clean.scene_head, clean.entropy_head = model.scene_head, model.entropy_head
        expected = gradients(clean, run(clean, "clean", batch).total)
        found = gradients(model, run(model, "joint", batch).total)
        for name, gradient in found.items():
            torch.testing.assert_close(gradient, expected.get(name, torch.zeros_like(gradient)))


@masked_configurations
def test_a_clip_without_an_effective_mask_contributes_nothing(config: ObjectiveConfig) -> None:
    model, batch, phase = make_model(config), make_batch(), config.phases[-1]
    losses = run(model, phase, batch)
    expected = gradients(model, losses.total)
    batch.masked_BTHWC[~batch.effective_B] = 255 - batch.masked_BTHWC[~batch.effective_B]
    changed = run(model, phase, batch)
    assert changed.total == losses.total
    torch.testing.assert_close(gradients(model, changed.total), expected, rtol=1e-12, atol=1e-15)


# --- ranks ---


@every_configuration
def test_ranks_of_unequal_size_average_to_the_whole_batch(config: ObjectiveConfig) -> None:
    """What DDP does: each rank's gradient from its own clips, then the mean. Rank 2 has no effective mask."""
    model, batch = make_model(config), make_batch()
    ranks = [batch[0:3], batch[3:4], batch[4:5], batch[5:6]]
    for phase in config.phases:
        whole = run(model, phase, batch)
        expected = gradients(model, whole.total)
        parts = [run(model, phase, rank, of=batch, world_size=4) for rank in ranks]
        found = [gradients(model, part.total) for part in parts]
        for name, gradient in expected.items():
            torch.testing.assert_close(sum(part[name] for part in found) / 4, gradient, rtol=1e-9, atol=1e-12)
        for name, value in whole.sums.items():
            torch.testing.assert_close(sum(part.sums[name] for part in parts), value)


@every_configuration
def test_parameters_are_unused_only_where_announced(config: ObjectiveConfig) -> None:
    model, batch = make_model(config), make_batch()
    names = dict(model.named_parameters()).keys()
    unused = [names - gradients(model, run(model, phase, batch).total).keys() for phase in config.phases]
    assert any(unused) == config.leaves_parameters_unused


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
        model = DebiasingModel(ActionModel(ModelConfig("small3d"), ACTIONS), config)
        assert (model.scene_head is not None) == config.uses_scenes
        assert (model.entropy_head is not None) == (config.uses_masks and config.mask_loss == "released")


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("objective", "all", "one of baseline, scene, mask, debias"),
        ("mask_loss", "code", "one of paper, released"),
        ("mask_step", "both", "one of alternate, joint"),
        ("fill", "black", "one of frame_mean, dataset_mean, white, random"),
        ("scene_hidden_layers", 2, "one of 0, 1, 3"),
        ("alpha_scene", -0.1, "0 or more and finite"),
        ("alpha_mask", float("nan"), "0 or more and finite"),
        ("min_person_share", 1.1, "from 0 to 1"),
        ("label_smoothing", 1.0, "from 0 to below 1"),
    ],
)
def test_bad_configuration_names_the_field_and_what_is_allowed(field: str, value: object, allowed: str) -> None:
    with pytest.raises(ValueError, match=f"^{field} must be {allowed}, not"):
        ObjectiveConfig(**{field: value})
