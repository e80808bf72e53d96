"""BatchNorm on masked clips: whose statistics and weights a pass uses, and whose it leaves alone."""

from copy import deepcopy
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend

from scenebias.debiasing.debiasing_model import DebiasingModel, Losses
from scenebias.debiasing.losses import entropy
from scenebias.debiasing.masked_batch_norm import (
    IN_ONE_BATCH,
    IN_PASSES_OF_THEIR_OWN,
    MaskedBatchNorm,
    SeparateBatchNorms,
    batch_norms,
    frozen_statistics,
)
from scenebias.debiasing.objective import MaskStep, ObjectiveConfig, Phase
from scenebias.models.action_model import ActionModel, ModelConfig
from scenebias.models.backbones import BACKBONES, BackboneName
from scenebias.training.computing.recomputation import recompute_activations

CLEAN_BTHWC, MASKED_BTHWC = torch.randint(
    256, (2, 4, 4, 16, 16, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(5)
)


def make_network() -> nn.Module:
    torch.manual_seed(0)
    return BACKBONES["small3d"]().double()


def make_clip(seed: int = 0) -> Tensor:
    return 2 + torch.randn(3, 3, 4, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def state_of(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_all_kinds_of_batch_norm_are_found() -> None:
    synced = nn.SyncBatchNorm.convert_sync_batchnorm(make_network())
    assert list(batch_norms(make_network())) == list(batch_norms(synced)) == [f"trunk.{i}.1" for i in range(4)]
    assert list(batch_norms(nn.Sequential(nn.BatchNorm1d(1), nn.GroupNorm(1, 1), nn.BatchNorm2d(1)))) == ["0", "2"]


# --- frozen ---


@pytest.mark.parametrize("training", [True, False])
def test_frozen_statistics_are_used_and_kept(training: bool) -> None:
    network = make_network()
    network(make_clip(seed=1))  # running statistics that are not the first ones
    expected = deepcopy(network).eval()(make_clip())
    network.train(training)
    before = state_of(network)
    with frozen_statistics(network):
        found = network(make_clip())
    assert torch.equal(found, expected)
    assert_same(state_of(network), before)
    assert all(module.training == training for module in network.modules())


def test_frozen_norms_learn_still_and_nothing_else_changes_its_mode() -> None:
    network = nn.Sequential(make_network(), nn.Dropout(0.5))
    with frozen_statistics(network):
        assert network[1].training
        assert not any(norm.training for norm in batch_norms(network).values())
        network(make_clip()).sum().backward()
    assert all(norm.weight.grad.any() for norm in batch_norms(network).values())


def test_frozen_statistics_end_with_an_error_too() -> None:
    network = make_network()
    with pytest.raises(RuntimeError), frozen_statistics(network):
        network(torch.zeros(1, 2, 3))
    assert all(norm.training for norm in batch_norms(network).values())


# --- separate ---


def test_separate_norms_begin_as_a_copy() -> None:
    network = make_network()
    network(make_clip(seed=1))
    separate = SeparateBatchNorms(network)
    assert torch.equal(separate(network.eval(), make_clip()), network(make_clip()))


@pytest.mark.parametrize("training", [True, False])
def test_separate_norms_do_what_a_network_of_its_own_would(training: bool) -> None:
    """The other network has the same convolutions, and the second set of norms for its own."""
    network = make_network()
    separate = SeparateBatchNorms(network).double()
    with torch.no_grad():
        for parameter in separate.parameters():
            parameter.copy_(torch.rand_like(parameter) + 0.5)
    other = deepcopy(network).train(training)
    for norm, second in zip(batch_norms(other).values(), separate.norms, strict=True):
        norm.load_state_dict(second.state_dict())
    network.train(training)
    before = state_of(network)

    found, expected = separate(network, make_clip()), other(make_clip())
    assert torch.equal(found, expected)
    assert_same(state_of(network), before)
    found.square().sum().backward()
    expected.square().sum().backward()
    own = batch_norms(network)
    assert all(parameter.grad is None for norm in own.values() for parameter in norm.parameters())
    for norm, second in zip(batch_norms(other).values(), separate.norms, strict=True):
        assert_same(state_of(second), state_of(norm))
        assert torch.equal(second.weight.grad, norm.weight.grad)
        assert torch.equal(second.bias.grad, norm.bias.grad)
    of_norms = {f"{name}.{key}" for name in own for key in ("weight", "bias")}
    others = dict(other.named_parameters())
    assert all(torch.equal(p.grad, others[n].grad) for n, p in network.named_parameters() if n not in of_norms)


def test_the_own_pass_leaves_separate_norms_alone() -> None:
    network = make_network()
    separate = SeparateBatchNorms(network)
    before = state_of(separate)
    network(make_clip()).sum().backward()
    assert_same(state_of(separate), before)
    assert all(parameter.grad is None for parameter in separate.parameters())


def test_separate_norms_that_were_replaced_by_synchronised_ones_are_the_ones_in_use() -> None:
    network, separate = make_network(), SeparateBatchNorms(make_network())
    expected = separate(network.eval(), make_clip())
    together = nn.SyncBatchNorm.convert_sync_batchnorm(nn.ModuleDict({"network": network, "norms": separate})).eval()
    with torch.no_grad():
        for parameter in together["norms"].parameters():
            parameter.mul_(2)
    assert not torch.allclose(together["norms"](together["network"], make_clip()), expected)
    assert torch.equal(network(make_clip()), make_network().eval()(make_clip()))


# --- in the objective ---


every_choice = pytest.mark.parametrize("choice", IN_PASSES_OF_THEIR_OWN)


def make_model(choice: MaskedBatchNorm, mask_step: MaskStep = "alternate") -> DebiasingModel:
    """In training mode, with running statistics that are not the first ones."""
    torch.manual_seed(0)
    action_model = ActionModel(ModelConfig("small3d"), action_count=3)
    with torch.no_grad():
        action_model(torch.randint(256, (4, 4, 16, 16, 3), dtype=torch.uint8))
    return DebiasingModel(
        action_model, ObjectiveConfig(name="mask", masked_batch_norm=choice, mask_step=mask_step)
    ).double()


def run(model: DebiasingModel, phase: Phase) -> Losses:
    return model(
        phase,
        CLEAN_BTHWC,
        torch.tensor([0, 1, 2, 0]),
        masked_BTHWC=MASKED_BTHWC,
        effective_B=torch.tensor([True, True, False, True]),
        clip_count=4,
        effective_count=3,
    )


def gradients(model: DebiasingModel, loss: Tensor) -> dict[str, Tensor]:
    model.zero_grad(set_to_none=True)
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@every_choice
@pytest.mark.parametrize("mask_step", ["alternate", "joint"])
def test_masked_clips_move_the_statistics_that_they_should(choice: MaskedBatchNorm, mask_step: MaskStep) -> None:
    model = make_model(choice, mask_step)
    begun = deepcopy(model)
    clean_alone = deepcopy(model.action_model.backbone)
    clean_alone(model.action_model.normalise(CLEAN_BTHWC))
    for phase in model.config.phases:
        run(model, phase)
    pairs = zip(model.action_model.backbone.buffers(), clean_alone.buffers(), strict=True)
    assert all(torch.equal(found, expected) for found, expected in pairs) == (choice != "released")
    if choice == "separate":
        second_set = deepcopy(begun.action_model.backbone)  # they began as copies of its norms
        second_set(model.action_model.normalise(MASKED_BTHWC))
        for norm, expected in zip(model.masked_norms.norms, batch_norms(second_set).values(), strict=True):
            assert_same(state_of(norm), state_of(expected))


@every_choice
def test_masked_clips_are_normalised_as_asked_for(choice: MaskedBatchNorm) -> None:
    model = make_model(choice)
    reference = deepcopy(model.action_model).train(choice != "frozen")
    entropy_B = entropy(reference(MASKED_BTHWC))
    found = run(model, "masked").sums["masked_entropy"]
    torch.testing.assert_close(found, entropy_B[[0, 1, 3]].sum().detach())


@every_choice
def test_the_action_model_knows_nothing_of_the_other_norms(choice: MaskedBatchNorm) -> None:
    model = make_model(choice)
    assert model.action_model.state_dict().keys() == ActionModel(ModelConfig("small3d"), 3).state_dict().keys()
    assert any(name.startswith("masked_norms") for name in model.state_dict()) == (choice == "separate")


@every_choice
def test_a_frozen_backbone_keeps_both_sets_of_statistics(choice: MaskedBatchNorm) -> None:
    model = make_model(choice)
    model.action_model.freeze_backbone()
    before = state_of(model)
    for phase in model.config.phases:
        found = gradients(model.train(), run(model, phase).total)
        assert not any(name.startswith("action_model.backbone") for name in found)
    assert_same(state_of(model), before)


@every_choice
@pytest.mark.parametrize("mask_step", ["alternate", "joint"])
def test_recomputed_activations_are_those_of_their_own_pass(choice: MaskedBatchNorm, mask_step: MaskStep) -> None:
    plain, recomputing = make_model(choice, mask_step), make_model(choice, mask_step)
    recompute_activations(recomputing.action_model.backbone)
    for phase in plain.config.phases:
        found, expected = (gradients(model, run(model, phase).total) for model in (recomputing, plain))
        assert_same(found, expected)
    assert_same(state_of(recomputing), state_of(plain))


@every_choice
def test_a_compiled_backbone_gives_the_same(choice: MaskedBatchNorm) -> None:
    """Whatever pass it is compiled for first, and without a compilation for each."""
    plain, compiled = make_model(choice), make_model(choice)
    torch.compiler.reset()
    counter = CompileCounterWithBackend("aot_eager")
    compiled.action_model.backbone.compile(backend=counter)
    for phase in ("masked", "clean", "masked"):
        found, expected = (gradients(model, run(model, phase).total) for model in (compiled, plain))
        torch.testing.assert_close(found, expected)
    torch.testing.assert_close(state_of(compiled), state_of(plain))
    assert counter.frame_count == (2 if choice in ("frozen", "own") else 1)


# --- in one batch ---


def make_one_batch_model(choice: MaskedBatchNorm, backbone: BackboneName = "small3d") -> DebiasingModel:
    """In float64 and training mode."""
    torch.manual_seed(0)
    action_model = ActionModel(ModelConfig(backbone), action_count=3)
    return DebiasingModel(action_model, ObjectiveConfig(name="mask", masked_batch_norm=choice)).double()


def restated_norm(norm: nn.Module, input: Tensor, counted: int) -> Tensor:
    """Ioffe and Szegedy (ICML 2015), algorithm 1, in plain differentiable arithmetic; statistics of the first clips."""
    dimensions = [0, *range(2, input.ndim)]
    mean = input[:counted].mean(dimensions, keepdim=True)
    variance = (input[:counted] - mean).square().mean(dimensions, keepdim=True)
    weight, bias = (tensor.view_as(mean) for tensor in (norm.weight, norm.bias))
    return weight * (input - mean) / (variance + norm.eps).sqrt() + bias


def restate(model: DebiasingModel, counted: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for norm in batch_norms(model.action_model.backbone).values():
        monkeypatch.setattr(norm, "forward", partial(restated_norm, norm, counted=counted))


@pytest.mark.parametrize("backbone", ["small3d", "resnet3d_18_a"])
@pytest.mark.parametrize(("choice", "counted"), [("clean", 4), ("both", 8)])
def test_one_batch_is_normalised_by_the_clips_that_count(
    choice: MaskedBatchNorm, counted: int, backbone: BackboneName, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_one_batch_model(choice, backbone)
    restated = deepcopy(model)
    restate(restated, counted, monkeypatch)
    found, expected = run(model, "one_batch"), run(restated, "one_batch")
    torch.testing.assert_close(found.total, expected.total)
    torch.testing.assert_close(gradients(model, found.total), gradients(restated, expected.total))


def test_by_the_clean_clips_statistics_masked_ones_leave_no_trace_in_them() -> None:
    model, clean_alone = make_one_batch_model("clean"), make_model("own").action_model
    clean_alone.load_state_dict(model.action_model.state_dict())
    expected = clean_alone(CLEAN_BTHWC)
    run(model, "one_batch")
    torch.testing.assert_close(dict(model.action_model.named_buffers()), dict(clean_alone.named_buffers()))
    seen = []
    model.action_model.head.register_forward_hook(lambda _module, _inputs, logits_BA: seen.append(logits_BA))
    run(model, "one_batch")
    torch.testing.assert_close(seen[0], expected)


def test_by_the_statistics_of_both_masked_clips_move_them() -> None:
    model = make_one_batch_model("both")
    clean_alone = deepcopy(model.action_model)
    clean_alone(CLEAN_BTHWC)
    run(model, "one_batch")
    name = "backbone.trunk.0.1.running_mean"
    assert not torch.allclose(model.action_model.get_buffer(name), clean_alone.get_buffer(name), rtol=1e-3)


@pytest.mark.parametrize("choice", IN_ONE_BATCH)
def test_one_batch_recomputed_is_one_batch(choice: MaskedBatchNorm) -> None:
    plain, recomputing = make_one_batch_model(choice), make_one_batch_model(choice)
    recompute_activations(recomputing.action_model.backbone)
    found, expected = (gradients(model, run(model, "one_batch").total) for model in (recomputing, plain))
    assert_same(found, expected)
    assert_same(state_of(recomputing), state_of(plain))


@pytest.mark.parametrize("choice", IN_ONE_BATCH)
def test_one_batch_compiled_is_one_batch(choice: MaskedBatchNorm) -> None:
    plain, compiled = make_one_batch_model(choice), make_one_batch_model(choice)
    torch.compiler.reset()
    compiled.action_model.backbone.compile(backend="aot_eager")
    for _ in range(2):
        found, expected = (gradients(model, run(model, "one_batch").total) for model in (compiled, plain))
        torch.testing.assert_close(found, expected)
    torch.testing.assert_close(state_of(compiled), state_of(plain))


@pytest.mark.parametrize("choice", IN_ONE_BATCH)
def test_the_action_model_of_one_batch_is_saved_and_evaluated_like_any_other(choice: MaskedBatchNorm) -> None:
    model = make_one_batch_model(choice)
    run(model, "one_batch")
    plain = ActionModel(ModelConfig("small3d"), action_count=3).double()
    plain.load_state_dict(model.action_model.state_dict())
    assert torch.equal(model.action_model.eval()(CLEAN_BTHWC), plain.eval()(CLEAN_BTHWC))
