"""One process or many: the same code under ``python -m`` and under ``torchrun``."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed


@dataclass(frozen=True)
class ProcessPlace:
    """Where this process stands among all that train together."""

    rank: int
    world_size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def sum_over_ranks(self, tensor: torch.Tensor) -> torch.Tensor:
        """Sum ``tensor`` over all ranks in place; every rank gets the sum."""
        if self.world_size > 1:
            torch.distributed.all_reduce(tensor)
        return tensor

    def wait_for_all(self) -> None:
        """Return when every rank has come here."""
        if self.world_size > 1:
            torch.distributed.barrier()


@contextmanager
def distributed_session() -> Iterator[ProcessPlace]:
    """Join the process group that ``torchrun`` describes; alone without it. GPUs with nccl, else the CPU with gloo."""
    rank = int(os.environ.get("RANK", "0"))
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    place = ProcessPlace(rank, world_size, device)
    if world_size == 1:
        yield place
        return
    torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield place
    finally:
        torch.distributed.destroy_process_group()
