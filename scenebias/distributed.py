"""One process or many: the same code under ``python -m`` and under ``torchrun``."""

import os
import select
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import cast

import torch
import torch.distributed

from scenebias.cpu_memory import keep_freed_memory
from shards.errors import UserError

LONGEST_WAIT = timedelta(days=30)


@dataclass(frozen=True)
class ProcessPlace:
    """Where this process stands among all that train together."""

    rank: int
    world_size: int
    device: torch.device
    local_world_size: int = 1
    """Processes on this machine."""
    waiters: torch.distributed.ProcessGroup | None = None
    """The group that `wait_for_all` waits with; None: the one for everything."""

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def sum_over_ranks(self, tensor: torch.Tensor) -> torch.Tensor:
        """Sum ``tensor`` over all ranks in place; every rank gets the sum."""
        if self.world_size > 1:
            torch.distributed.all_reduce(tensor)
        return tensor

    def agree(self, value: int) -> bool:
        """Whether all ranks came with the same ``value``; every rank gets the same answer."""
        values = torch.tensor([value, value**2], dtype=torch.float64, device=self.device)
        mean, mean_square = (self.sum_over_ranks(values) / self.world_size).tolist()
        return mean_square == mean**2

    def copy_from_main(self, tensors: Iterable[torch.Tensor]) -> None:
        """Overwrite ``tensors`` in place with those of rank 0."""
        if self.world_size > 1:
            for tensor in tensors:
                torch.distributed.broadcast(tensor, src=0)

    def from_main(self, value: int) -> int:
        """The ``value`` with which rank 0 comes; every rank gets it."""
        if self.world_size == 1:
            return value
        shared = torch.tensor(value)
        torch.distributed.broadcast(shared, src=0, group=self.waiters)
        return int(shared)

    def wait_for_all(self) -> None:
        """Return when every rank has come here."""
        if self.world_size > 1:
            torch.distributed.barrier(self.waiters)


def is_main_process() -> bool:
    """Whether this is the process of rank 0, or the only one; known before the processes join."""
    return int(os.environ.get("RANK", "0")) == 0


@contextmanager
def distributed_session(*, long_waits: bool = False) -> Iterator[ProcessPlace]:
    """Join the process group that ``torchrun`` describes; alone without it. GPUs with nccl, else the CPU with gloo.

    With ``long_waits`` the processes may wait for each other for days, where the usual limit is half an hour.
    """
    rank = int(os.environ.get("RANK", "0"))
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    device = torch.device("cpu")
    if torch.cuda.is_available():
        local_rank = int(os.environ.get("LOCAL_RANK", "0"))
        if local_rank >= torch.cuda.device_count():
            raise UserError(
                f"process {local_rank} of this machine has no GPU of its own: start at most"
                f" --nproc_per_node={torch.cuda.device_count()}"
            )
        device = torch.device("cuda", local_rank)
        torch.cuda.set_device(device)
    else:
        keep_freed_memory()
    place = ProcessPlace(rank, world_size, device, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    if world_size == 1:
        yield place
        return
    _end_with_parent()
    torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    if long_waits:
        waiters = torch.distributed.new_group(backend="gloo", timeout=LONGEST_WAIT)
        place = replace(place, waiters=cast(torch.distributed.ProcessGroup, waiters))
    yield place
    # Not after an error: the others may wait in a collective, and torchrun ends them only once this process is gone.
    torch.distributed.destroy_process_group()


def _end_with_parent() -> None:
    """End this process when ``torchrun`` is killed: it could wait for the other ranks for ever, and keep its GPU."""
    parent = os.pidfd_open(os.getppid())

    def wait_for_parent() -> None:
        select.select([parent], [], [])
        os._exit(1)

    threading.Thread(target=wait_for_parent, daemon=True).start()
