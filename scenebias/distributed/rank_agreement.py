"""Whether all ranks still hold the same weights, to the bit.

Data-parallel training keeps a copy on every rank and never compares them: a fault of one GPU, of the network or of the
program makes the copies drift apart, and nobody sees it.

Shape suffixes: N values, P parameters, R ranks.
"""

from collections import Counter

import torch
from torch import Tensor

from scenebias.distributed.process_place import ProcessPlace
from shards.errors import UserError

INTEGER_OF_SIZE = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Integer types by the bytes of a value."""


def checksum_of(tensor: Tensor) -> Tensor:
    """The sum modulo 2^64 of the bits of every value times an odd number that tells its place: an int64 scalar.

    Integer sums are exact in whatever order, so the same bits give the same number on every device; a change of a
    single value always changes it.
    """
    bits_N = tensor.detach().contiguous().view(INTEGER_OF_SIZE[tensor.element_size()]).flatten().long()
    odd_N = torch.arange(1, 2 * bits_N.numel(), 2, device=bits_N.device)
    return (bits_N * odd_N).sum()


def check_rank_agreement(module: torch.nn.Module, place: ProcessPlace, when: str) -> None:
    """Raise UserError, on every rank, where the ranks hold different parameters; ``when`` says since when, as a clause.

    Every rank must call this. Buffers may differ: BatchNorm's statistics are each rank's own.
    """
    if place.world_size == 1:
        return
    names, parameters = zip(*module.named_parameters(), strict=True)
    checksum_RP = place.gather(torch.stack([checksum_of(parameter) for parameter in parameters]))
    rows = [tuple(row) for row in checksum_RP.tolist()]
    if len(set(rows)) == 1:
        return
    most_common = Counter(rows).most_common(1)[0][0]
    others = [rank for rank, row in enumerate(rows) if row != most_common]
    first = next(name for name, *sums in zip(names, *rows, strict=True) if len(set(sums)) > 1)
    raise UserError(
        f"{when}, the weights of rank {', '.join(map(str, others))} differ from those of the other ranks (first in"
        f" {first}): start the same command again to go on from the last checkpoint, and where it happens again, on"
        " other machines"
    )
