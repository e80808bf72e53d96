"""BatchNorm over processes with unequal shares of a batch must be BatchNorm over the whole batch."""

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from scenebias.distributed.batch_norm import PartBatchNorm, sync_batch_norm
from scenebias.distributed.process_place import ProcessPlace, distributed_session
from scenebias.models.backbones import BACKBONES
from scenebias.training.computing.recomputation import recompute_activations
from tests.forked import run_in_ranks

PASSES = 3
SHARES = {2: (3, 1), 3: (2, 1, 3)}
"""Clips of each rank, by the number of ranks."""
Results = dict[str, Tensor]


def place_of(rank: int, world_size: int) -> ProcessPlace:
    return ProcessPlace(rank, world_size, torch.device("cpu"))


def clips(*shape: int, number: int = 0) -> Tensor:
    """Not centred on zero, so that means count."""
    generator = torch.Generator().manual_seed(number)
    return 3 + 2 * torch.randn(shape, generator=generator, dtype=torch.float64)


def pass_norms(norm: nn.Module, share: slice, batch_size: int) -> Results:
    """A few passes through one layer, of clips and of features, on this share of the batch."""
    found = {}
    for number, shape in enumerate([(5, 2, 3, 4), (5,), (5, 2, 3, 4)]):
        batch = clips(batch_size, *shape, number=number)
        if len(shape) == 4:
            batch = batch.contiguous(memory_format=torch.channels_last_3d)
        given = batch[share].detach().requires_grad_()
        output = norm(given)
        (output * clips(*batch.shape, number=9)[share]).sum().backward()
        found |= {f"output {number}": output.detach(), f"input gradient {number}": given.grad}
    norm.eval()
    found["in evaluation"] = norm(given.detach()).detach()
    return found | {name: p.grad for name, p in norm.named_parameters()} | dict(norm.named_buffers())


def train_network(network: nn.Module, parameters: nn.Module, share: slice, batch_size: int, weight: int) -> Results:
    """Gradients and statistics after a few steps without updates; ``weight`` undoes DDP's averaging."""
    for number in range(PASSES):
        given = clips(batch_size, 3, 4, 16, 16, number=number).float()[share]
        network(given.contiguous(memory_format=torch.channels_last_3d)).square().sum().mul(weight).backward()
    return {name: p.grad for name, p in parameters.named_parameters()} | dict(parameters.named_buffers())


def make_layer() -> nn.Module:
    norm = nn.BatchNorm1d(5, eps=1e-3, momentum=0.3, dtype=torch.float64)
    norm._check_input_dim = lambda given: None  # one layer for features and for clips
    with torch.no_grad():
        norm.weight.copy_(torch.linspace(0.5, 2, 5))
        norm.bias.copy_(torch.linspace(-1, 1, 5))
    return norm


def make_network() -> nn.Module:
    torch.manual_seed(0)
    return BACKBONES["small3d"]()


def work(folder: Path) -> None:
    """What one process does, into a file."""
    with distributed_session() as place:
        shares = SHARES[place.world_size]
        share = slice(sum(shares[: place.rank]), sum(shares[: place.rank + 1]))
        results = {"layer": pass_norms(sync_batch_norm(make_layer(), place), share, sum(shares))}
        for recomputing in (False, True):
            network = sync_batch_norm(make_network(), place)
            if recomputing:
                recompute_activations(network)
            wrapped = DistributedDataParallel(network, gradient_as_bucket_view=True, broadcast_buffers=False)
            results[f"network {recomputing}"] = train_network(wrapped, network, share, sum(shares), place.world_size)
    torch.save(results, folder / f"rank{place.rank}.pt")


@pytest.fixture(scope="module", params=SHARES, ids="{} processes".format)
def of_ranks(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Results]]:
    """What each rank found."""
    world_size = request.param
    folder = tmp_path_factory.mktemp("ranks")
    run_in_ranks(folder, world_size, work, folder)
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(world_size)]


def test_a_layer_does_what_it_does_with_the_whole_batch(of_ranks: list[dict[str, Results]]) -> None:
    """Outputs and gradients clip by clip; the gradients of weights add up; all have the statistics of all."""
    ranks = [found["layer"] for found in of_ranks]
    batch_size = sum(SHARES[len(ranks)])
    for name, wanted in pass_norms(make_layer(), slice(None), batch_size).items():
        parts = [found[name] for found in ranks]
        if name in ("weight", "bias"):
            torch.testing.assert_close(sum(parts), wanted, rtol=1e-10, atol=1e-10)
        elif wanted.shape[:1] == (batch_size,):
            torch.testing.assert_close(torch.cat(parts), wanted, rtol=1e-10, atol=1e-10)
        else:
            assert all(torch.equal(part, parts[0]) for part in parts)
            torch.testing.assert_close(parts[0], wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("recomputing", [False, True])
def test_a_network_behind_ddp_has_the_gradients_and_statistics_of_one_process(
    of_ranks: list[dict[str, Results]], recomputing: bool
) -> None:
    network = make_network()
    wanted = train_network(network, network, slice(None), sum(SHARES[len(of_ranks)]), 1)
    for found in of_ranks:
        assert found[f"network {recomputing}"].keys() == wanted.keys()
        for name, tensor in found[f"network {recomputing}"].items():
            largest = wanted[name].abs().max()
            torch.testing.assert_close(tensor, wanted[name], rtol=1e-3, atol=1e-4 * float(largest), msg=name)


def test_parameters_buffers_and_their_names_stay() -> None:
    network = make_network().eval()
    before = network.state_dict(keep_vars=True)
    assert sync_batch_norm(network, place_of(0, 2)) is network
    after = network.state_dict(keep_vars=True)
    assert after.keys() == before.keys()
    assert all(after[name] is before[name] for name in before)
    norms = [module for module in network.modules() if isinstance(module, PartBatchNorm)]
    assert len(norms) == 4
    assert not any(norm.training for norm in norms)


def test_a_single_process_keeps_its_network_as_it_is() -> None:
    network = make_network()
    kinds = [type(module) for module in network.modules()]
    sync_batch_norm(network, place_of(0, 1))
    assert [type(module) for module in network.modules()] == kinds


def test_a_copy_in_evaluation_does_what_the_original_does() -> None:
    norm = make_layer().eval()
    norm.running_mean.fill_(2.0)
    synced = sync_batch_norm(copy.deepcopy(norm), place_of(0, 2))
    assert torch.equal(synced(clips(4, 5)), norm(clips(4, 5)))
