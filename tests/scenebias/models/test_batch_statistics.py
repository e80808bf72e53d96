"""BatchNorm statistics estimated anew must be the means of those of the batches, and nothing else may change.

Shape suffixes: B clips, D features.
"""

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from scenebias.distributed.batch_norm import sync_batch_norm
from scenebias.distributed.process_place import distributed_session
from scenebias.models.action_model import ActionModel, ModelConfig
from scenebias.models.batch_statistics import estimate_statistics, tracking_batch_norms
from scenebias.training.computing.recomputation import recompute_activations
from tests.forked import run_in_ranks


def two_layers() -> nn.Sequential:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Linear(4, 6, bias=False), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.5), nn.Linear(6, 3), nn.BatchNorm1d(3)
    )
    for norm in tracking_batch_norms(network):
        nn.init.uniform_(norm.weight, 0.5, 2)
        nn.init.uniform_(norm.bias, -1, 1)
        norm.running_mean.fill_(7.0)
        norm.running_var.fill_(9.0)
        norm.num_batches_tracked.fill_(5)
    return network.requires_grad_()


def feature_batches(*sizes: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [3 + 2 * torch.randn(size, 4, generator=generator) for size in sizes]


def state_of(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def around(network: nn.Module) -> tuple[list, list, list]:
    """What estimating must leave as it is, beside the parameters."""
    norms = tracking_batch_norms(network)
    modes = [module.training for module in network.modules()]
    hooks = [len(module._forward_hooks) for module in network.modules()]
    return modes, hooks, [(norm.momentum, int(norm.num_batches_tracked)) for norm in norms]


def test_means_and_variances_are_those_that_numpy_finds_layer_by_layer() -> None:
    network, batches = two_layers(), feature_batches(5, 8, 6)
    first, norm1, _, _, second, norm2 = network
    parameters = [
        tensor.detach().numpy().astype(np.float64)
        for tensor in (first.weight, norm1.weight, norm1.bias, second.weight, second.bias)
    ]
    found: list[list[np.ndarray]] = []
    for batch in batches:
        input_BD = batch.numpy().astype(np.float64)
        hidden_BD = input_BD @ parameters[0].T
        normalised_BD = (hidden_BD - hidden_BD.mean(0)) / np.sqrt(hidden_BD.var(0) + norm1.eps)
        output_BD = np.maximum(normalised_BD * parameters[1] + parameters[2], 0) @ parameters[3].T + parameters[4]
        found.append([f(0) for f in (hidden_BD.mean, output_BD.mean)])
        found[-1] += [value_BD.var(0, ddof=1) for value_BD in (hidden_BD, output_BD)]
    estimate_statistics(network, batches, network)
    buffers = norm1.running_mean, norm2.running_mean, norm1.running_var, norm2.running_var
    for buffer, wanted in zip(buffers, zip(*found, strict=True), strict=True):
        np.testing.assert_allclose(buffer.numpy(), np.mean(wanted, axis=0), rtol=1e-5, atol=1e-5)


def test_precise_statistics_stay_as_they_are_to_the_bit() -> None:
    network, batches = two_layers(), feature_batches(5, 8, 6)
    estimate_statistics(network, batches, network)
    once = state_of(network)
    estimate_statistics(network, batches, network)
    torch.testing.assert_close(state_of(network), once, rtol=0, atol=0)


def test_parameters_gradients_modes_and_momenta_are_as_before() -> None:
    network = two_layers()
    network[4].eval()
    network[1].momentum = None
    network(feature_batches(4)[0]).sum().backward()
    before, modes = state_of(network), around(network)
    gradients = [parameter.grad.clone() for parameter in network.parameters()]
    estimate_statistics(network, feature_batches(5, 8), network)
    assert around(network) == modes
    for parameter, gradient in zip(network.parameters(), gradients, strict=True):
        assert torch.equal(parameter.grad, gradient)
    changed = {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {f"{place}.running_{what}" for place in (1, 5) for what in ("mean", "var")}


def test_after_an_error_all_is_as_before() -> None:
    network = two_layers()
    before, modes = state_of(network), around(network)

    def fail_late(batch: Tensor) -> None:
        network(batch)
        if len(batch) == 8:
            raise OSError(len(batch))

    with pytest.raises(OSError, match="8"):
        estimate_statistics(network, feature_batches(5, 8), fail_late)
    assert around(network) == modes
    torch.testing.assert_close(state_of(network), before, rtol=0, atol=0)


def test_layers_in_evaluation_and_layers_without_a_pass_keep_theirs() -> None:
    network = two_layers()
    network[1].eval()
    before = state_of(network)
    estimate_statistics(network, feature_batches(5, 8), network[:4])
    torch.testing.assert_close(state_of(network), before, rtol=0, atol=0)


def test_nothing_is_asked_for_where_there_is_nothing_to_estimate() -> None:
    batches = iter([1])
    for network in (nn.Linear(2, 2), two_layers().eval(), nn.BatchNorm1d(2, track_running_stats=False)):
        estimate_statistics(network, batches, network)
    assert next(batches) == 1


def test_every_pass_counts_and_a_pass_by_lent_buffers_counts_for_these() -> None:
    norm, lent = nn.BatchNorm1d(4), nn.BatchNorm1d(4)
    network = nn.ModuleList([norm, lent])
    batches = feature_batches(5, 8)

    def forward(batch: Tensor) -> None:
        norm(batch)
        norm(10 * batch)
        functional_call(norm, lent.state_dict(keep_vars=True), 100 * batch)

    estimate_statistics(network, batches, forward)
    mean_D = torch.stack([batch.mean(dim=0) for batch in batches]).mean(dim=0)
    var_D = torch.stack([batch.var(dim=0) for batch in batches]).mean(dim=0)
    torch.testing.assert_close(norm.running_mean, 5.5 * mean_D)
    torch.testing.assert_close(norm.running_var, 50.5 * var_D)
    torch.testing.assert_close(lent.running_mean, 100 * mean_D)
    torch.testing.assert_close(lent.running_var, 10_000 * var_D)


def clip_batches(*sizes: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(2)
    return [torch.randint(256, (size, 4, 16, 16, 3), generator=generator, dtype=torch.uint8) for size in sizes]


def small_model() -> ActionModel:
    torch.manual_seed(0)
    return ActionModel(ModelConfig("small3d"), 3)


def estimated(change: Callable[[ActionModel], object] = lambda _: None) -> dict[str, Tensor]:
    model = small_model()
    change(model)
    estimate_statistics(model, clip_batches(5, 6), model.features)
    return state_of(model)


def test_a_frozen_backbone_stays_as_it_is() -> None:
    torch.testing.assert_close(estimated(ActionModel.freeze_backbone), small_model().state_dict(), rtol=0, atol=0)


def test_recomputed_activations_make_no_difference() -> None:
    recomputed = estimated(lambda model: recompute_activations(model.backbone))
    torch.testing.assert_close(recomputed, estimated(), rtol=0, atol=0)


def work(folder: Path) -> None:
    """One process of several with synchronised layers; it then trains a step with the others."""
    with distributed_session() as place:

        def synchronise(model: ActionModel) -> None:
            sync_batch_norm(model, place)

        torch.save(estimated(synchronise), folder / f"rank{place.rank}.pt")
        model = small_model()
        synchronise(model)
        before = copy.deepcopy(model)
        estimate_statistics(model, [], model)
        share = clip_batches(4)[0][2 * place.rank :][:2]
        torch.testing.assert_close(model(share), before(share), rtol=0, atol=0)
        whole = small_model()(clip_batches(4)[0])[2 * place.rank :][:2]
        torch.testing.assert_close(model(share), whole, rtol=1e-4, atol=1e-5)


def test_any_number_of_processes_with_synchronised_layers_find_the_same_to_the_bit(tmp_path: Path) -> None:
    run_in_ranks(tmp_path, 2, work, tmp_path)
    for rank in range(2):
        found = torch.load(tmp_path / f"rank{rank}.pt", weights_only=True)
        torch.testing.assert_close(found, estimated(), rtol=0, atol=0)


def test_torch_s_synchronised_layers_take_no_part_in_a_group_they_are_not_in() -> None:
    """They run on GPUs alone; what matters is the group that they see in a pass."""
    network = nn.SyncBatchNorm.convert_sync_batchnorm(two_layers())
    seen = []

    def forward(_batch: Tensor) -> None:
        seen.extend(norm.process_group for norm in tracking_batch_norms(network))

    estimate_statistics(network, feature_batches(5), forward)
    assert seen
    assert all(torch.distributed.get_world_size(group) == -1 for group in seen)
    assert all(norm.process_group is None for norm in tracking_batch_norms(network))
