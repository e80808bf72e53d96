"""Ranks that have drifted apart are found, whatever the size of the difference, and named."""

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from scenebias.distributed.process_place import ProcessPlace
from scenebias.distributed.rank_agreement import check_rank_agreement, checksum_of
from shards.errors import UserError

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.int8]


def by_hand(tensor: Tensor) -> int:
    """The definition, in Python's integers."""
    width = {8: torch.int64, 4: torch.int32, 2: torch.int16, 1: torch.uint8}[tensor.element_size()]
    bits = tensor.contiguous().view(width).flatten().tolist()
    total = sum(value * (2 * place + 1) for place, value in enumerate(bits)) % 2**64
    return total - 2**64 if total >= 2**63 else total


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_checksum_is_its_definition(dtype: torch.dtype) -> None:
    tensor = (100 * torch.randn(7, 3, 5, generator=torch.Generator().manual_seed(0))).to(dtype)
    assert int(checksum_of(tensor)) == by_hand(tensor)
    assert int(checksum_of(tensor[0, 0, 0])) == by_hand(tensor[0, 0, 0])


@given(st.integers(0, 31), st.integers(0, 99), st.integers(0, 99))
def test_one_bit_or_two_values_that_change_places_change_the_checksum(bit: int, place: int, other: int) -> None:
    values = torch.randn(100, generator=torch.Generator().manual_seed(1))
    flipped = values.clone()
    flipped.view(torch.int32)[place] ^= -(2**31) if bit == 31 else 2**bit
    assert checksum_of(flipped) != checksum_of(values)
    swapped = values.clone()
    swapped[[place, other]] = swapped[[other, place]]
    assert (checksum_of(swapped) == checksum_of(values)) == (place == other)


def test_the_checksum_does_not_depend_on_the_layout_in_memory() -> None:
    clip = torch.randn(2, 3, 4, 5, 6)
    assert checksum_of(clip.to(memory_format=torch.channels_last_3d)) == checksum_of(clip)


@dataclass(frozen=True)
class PretendedPlace(ProcessPlace):
    """A rank that already knows what the others hold."""

    others: tuple[nn.Module, ...] = ()

    def gather(self, tensor: Tensor) -> Tensor:
        rows = [torch.stack([checksum_of(p) for p in module.parameters()]) for module in self.others]
        return torch.stack([tensor, *rows])


def place_among(*others: nn.Module) -> ProcessPlace:
    return PretendedPlace(0, len(others) + 1, torch.device("cpu"), others=others)


def network(nudge: str | None = None) -> nn.Module:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    if nudge is not None:
        parameter = module.get_parameter(nudge)
        with torch.no_grad():
            parameter.view(-1)[0] = torch.nextafter(parameter.view(-1)[0], torch.tensor(9.0))
    return module


def test_ranks_with_the_same_weights_go_on_whatever_their_statistics() -> None:
    other = network()
    other(torch.randn(8, 3))
    check_rank_agreement(network(), place_among(other), "after step 3")
    check_rank_agreement(network(), ProcessPlace(0, 1, torch.device("cpu")), "after step 3")


def test_ranks_that_differ_from_most_are_named_with_the_first_parameter() -> None:
    with pytest.raises(UserError, match=r"after step 3, the weights of rank 2 differ .*first in 1\.bias"):
        check_rank_agreement(network(), place_among(network(), network("1.bias"), network()), "after step 3")
    others = (network(), network(), network("2.weight"), network())
    with pytest.raises(UserError, match=r"the weights of rank 0, 3 differ .*first in 0\.weight"):
        check_rank_agreement(network("0.weight"), place_among(*others), "after step 3")
