"""The objective among several ranks: each clip counts the same on any of them, and DDP finds every parameter in use."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from scenebias.debiasing.debiasing_model import DebiasingModel, Losses
from scenebias.debiasing.objective import ObjectiveConfig, Phase
from scenebias.distributed.batch_norm import sync_batch_norm
from scenebias.distributed.process_place import ProcessPlace, distributed_session
from scenebias.models.action_model import ActionModel, ModelConfig
from tests.forked import run_in_ranks
from tests.scenebias.debiasing.objective_batch import make_batch

CONFIGURATIONS = {
    f"{objective}-{mask_loss}-{mask_step}-{masked_batch_norm}": ObjectiveConfig(
        name=objective, mask_loss=mask_loss, mask_step=mask_step, masked_batch_norm=masked_batch_norm
    )
    for objective, mask_loss, mask_step, masked_batch_norm in [
        ("baseline", "paper", "alternate", None),
        ("scene", "paper", "alternate", None),
        ("mask", "adversarial", "one_batch", "clean"),
        ("debias", "paper", "one_batch", "both"),
        ("debias", "released", "one_batch", "clean"),
        ("debias", "paper", "alternate", "own"),
        ("mask", "released", "alternate", "separate"),
        ("debias", "paper", "alternate", "released"),
        ("debias", "paper", "alternate", "frozen"),
        ("debias", "paper", "joint", "separate"),
        ("debias", "released", "alternate", "separate"),
        ("debias", "released", "joint", "frozen"),
    ]
}
CONFIGURATIONS |= {
    "albar": ObjectiveConfig(name="albar"),
    "albar-without-penalty": ObjectiveConfig(name="albar", albar_penalty=0.0),
}
RUNS = [
    (name, synced)
    for name, config in CONFIGURATIONS.items()
    for synced in (False, True)
    if not (synced and config.takes_second_derivatives)
]
every_configuration = pytest.mark.parametrize("name", CONFIGURATIONS)
SHARES = (slice(0, 4), slice(4, 6))


def make_model(name: str) -> DebiasingModel:
    torch.manual_seed(0)
    return DebiasingModel(ActionModel(ModelConfig("small3d"), action_count=5), CONFIGURATIONS[name]).double()


def run(model: torch.nn.Module, phase: Phase, part: slice = slice(None), world_size: int = 1) -> Losses:
    """The losses of a ``part`` of the batch, as one rank's of so many."""
    whole = make_batch()
    return model(
        phase, **vars(whole[part]), clip_count=6, effective_count=whole.effective_B.sum(), world_size=world_size
    )


def gradients(model: DebiasingModel, loss: Tensor) -> dict[str, Tensor]:
    """The gradients that ``backward`` leaves; parameters that the loss does not depend on are absent."""
    model.zero_grad(set_to_none=True)
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@every_configuration
def test_ranks_of_unequal_size_average_to_the_whole_batch(name: str) -> None:
    """What DDP does: each rank's gradient from its own clips, then the mean. Rank 2 has no effective mask."""
    model = make_model(name).eval()
    ranks = [slice(0, 3), slice(3, 4), slice(4, 5), slice(5, 6)]
    for phase in model.config.phases:
        whole = run(model, phase)
        expected = gradients(model, whole.total)
        parts = [run(model, phase, part, world_size=4) for part in ranks]
        found = [gradients(model, part.total) for part in parts]
        for parameter, gradient in expected.items():
            torch.testing.assert_close(sum(part[parameter] for part in found) / 4, gradient, rtol=1e-9, atol=1e-12)
        for number, value in whole.sums.items():
            torch.testing.assert_close(sum(part.sums[number] for part in parts), value)
        torch.testing.assert_close(torch.cat([part.clip_loss_B for part in parts]), whole.clip_loss_B)


@every_configuration
def test_unused_parameters_are_those_that_no_gradient_reaches(name: str) -> None:
    model = make_model(name)
    for phase in model.config.phases:
        found = gradients(model, run(model, phase).total)
        expected = [parameter for name, parameter in model.named_parameters() if name not in found]
        assert sorted(map(id, model.unused_in(phase))) == sorted(map(id, expected))


@every_configuration
def test_among_several_ranks_unused_parameters_get_a_gradient_of_zero(name: str) -> None:
    model = make_model(name).eval()
    for phase in model.config.phases:
        alone = run(model, phase)
        expected = gradients(model, alone.total)
        among = run(model, phase, world_size=2)
        assert among.total == 2 * alone.total
        found = gradients(model, among.total)
        assert found.keys() == dict(model.named_parameters()).keys()
        for parameter, gradient in found.items():
            assert torch.equal(gradient, 2 * expected.get(parameter, torch.zeros_like(gradient)))


# --- behind DDP ---


def step(model: DebiasingModel, optimizer: torch.optim.Optimizer, phase: Phase) -> None:
    for parameter in model.unused_in(phase):
        parameter.grad = None
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def optimizer_of(model: DebiasingModel) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=0.1)


def train_behind_ddp(name: str, rank: int, synced: bool) -> dict[str, Tensor]:
    model = make_model(name)
    if synced:
        sync_batch_norm(model, ProcessPlace(rank, 2, torch.device("cpu")))
    # The options that are valid where all passes have one graph: in a joint step, and without masks.
    wrapped = DistributedDataParallel(model, gradient_as_bucket_view=True, static_graph=len(model.config.phases) == 1)
    optimizer = optimizer_of(model)
    for phase in 2 * model.config.phases:
        run(wrapped, phase, SHARES[rank], world_size=2).total.backward()
        step(model, optimizer, phase)
    return model.state_dict()


def train_alone(name: str) -> dict[str, Tensor]:
    """One process on the whole batch."""
    model = make_model(name)
    optimizer = optimizer_of(model)
    for phase in 2 * model.config.phases:
        run(model, phase).total.backward()
        step(model, optimizer, phase)
    return model.state_dict()


def train_by_hand(name: str) -> list[dict[str, Tensor]]:
    """Two replicas: the statistics of the first for both before each pass, and the mean of their gradients after."""
    replicas = [make_model(name), make_model(name)]
    optimizers = [optimizer_of(replica) for replica in replicas]
    for phase in 2 * replicas[0].config.phases:
        for buffer, first in zip(replicas[1].buffers(), replicas[0].buffers(), strict=True):
            buffer.copy_(first)
        for replica, share in zip(replicas, SHARES, strict=True):
            run(replica, phase, share, world_size=2).total.backward()
        for pair in zip(*(replica.parameters() for replica in replicas), strict=True):
            mean = (pair[0].grad + pair[1].grad) / 2
            pair[0].grad, pair[1].grad = mean, mean.clone()
        for replica, optimizer in zip(replicas, optimizers, strict=True):
            step(replica, optimizer, phase)
    return [replica.state_dict() for replica in replicas]


def train_as_rank(folder: Path) -> None:
    with distributed_session() as place:
        found = {run: train_behind_ddp(run[0], place.rank, synced=run[1]) for run in RUNS}
    torch.save(found, folder / f"{place.rank}.pt")


Trained = list[dict[tuple[str, bool], dict[str, Tensor]]]
"""What each rank holds after training, by configuration and whether BatchNorm was synchronised."""


@pytest.fixture(scope="module")
def trained_behind_ddp(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("ranks")
    run_in_ranks(folder, 2, train_as_rank, folder)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@every_configuration
def test_training_behind_ddp_is_training_by_hand(name: str, trained_behind_ddp: Trained) -> None:
    for found, expected in zip(trained_behind_ddp, train_by_hand(name), strict=True):
        torch.testing.assert_close(found[name, False], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", [name for name, synced in RUNS if synced])
def test_training_behind_ddp_with_synchronised_norms_is_training_alone(name: str, trained_behind_ddp: Trained) -> None:
    expected = train_alone(name)
    for found in trained_behind_ddp:
        torch.testing.assert_close(found[name, True], expected, rtol=1e-7, atol=1e-10)
