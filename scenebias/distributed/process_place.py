"""One process or many: the same code under ``python -m`` and under ``torchrun``."""

import math
import os
import select
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache
from typing import Literal, TypeVar, cast

import torch
import torch.distributed

from scenebias.distributed.cpu_memory import keep_freed_memory
from scenebias.distributed.rendezvous import meet
from shards.errors import UserError

T = TypeVar("T")
GpuUse = Literal["own", "shared", "none"]
LONGEST_WAIT = timedelta(days=30)
LAST_WORDS_S = 30
"""How long a process may go on whose parent has been killed; as long as torchrun itself waits."""


@dataclass(frozen=True, kw_only=True)
class DistributedConfig:
    """How the processes of a run keep together."""

    collective_timeout_s: float = 600.0
    """Seconds that a process waits for the others before it fails; longer than any of them may take to save or read."""

    def __post_init__(self) -> None:
        if not 0 < self.collective_timeout_s < math.inf:
            raise ValueError(f"collective_timeout_s must be positive and finite, got {self.collective_timeout_s}")


DEFAULT_CONFIG = DistributedConfig()


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

    def gather(self, tensor: torch.Tensor) -> torch.Tensor:
        """The ``tensor`` of every rank, which have one shape, along a new first dimension; every rank gets them."""
        if self.world_size == 1:
            return tensor[None]
        tensors = [torch.empty_like(tensor) for _ in range(self.world_size)]
        torch.distributed.all_gather(tensors, tensor)
        return torch.stack(tensors)

    def concatenate(self, items: list[T]) -> list[T]:
        """The ``items`` of all ranks, of each any number, in the order of the ranks; every rank gets them."""
        if self.world_size == 1:
            return items
        lists: list[list[T]] = [[]] * self.world_size
        torch.distributed.all_gather_object(lists, items)
        return [item for of_rank in lists for item in of_rank]

    def agree(self, value: int) -> bool:
        """Whether all ranks came with the same ``value``; every rank gets the same answer."""
        return len(self.gather(torch.tensor(value, device=self.device)).unique()) == 1

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


def process_count() -> int:
    """How many processes there are; known before they join."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def distributed_session(
    config: DistributedConfig = DEFAULT_CONFIG, *, long_waits: bool = False, gpus: GpuUse = "own"
) -> Iterator[ProcessPlace]:
    """Join the process group that ``torchrun`` describes; alone without it. GPUs with nccl, else the CPU with gloo.

    A process that fails, or is killed, makes the others fail where they next wait for it, after
    ``collective_timeout_s`` at the latest. With ``long_waits``, ``wait_for_all`` may take days.

    ``gpus``: each process has its own; or they are shared where there are fewer than processes, or none is used: then
    processes meet on the CPU, and gather and sum no tensors of a GPU.

    Raises:
        UserError: the processes do not find each other, or lose each other; or there are more of them than GPUs, of
            which each needs its own.
    """
    rank = int(os.environ.get("RANK", "0"))
    world_size = process_count()
    device = _take_device(gpus)
    place = ProcessPlace(rank, world_size, device, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    if world_size == 1:
        yield place
        return
    if torch.distributed.is_torchelastic_launched():
        _end_with_parent()
    backend = "nccl" if device.type == "cuda" and gpus == "own" else "gloo"
    torch.distributed.init_process_group(
        backend,
        store=meet(config.collective_timeout_s),
        rank=rank,
        world_size=world_size,
        timeout=timedelta(seconds=config.collective_timeout_s),
        device_id=device if device.type == "cuda" else None,  # else NCCL guesses, and joins at the first collective
    )
    if long_waits:
        waiters = torch.distributed.new_group(backend="gloo", timeout=LONGEST_WAIT)
        place = replace(place, waiters=cast(torch.distributed.ProcessGroup, waiters))
    try:
        yield place
    except RuntimeError as error:
        if isinstance(error, torch.distributed.DistError) or "gloo/transport" in str(error):
            raise UserError(
                f"rank {rank} has lost another process of the run ({error}): see what that one says, and start the same"
                " command again"
            ) from error
        raise
    # Not after an error: the others may wait in a collective, and torchrun ends them only once this process is gone.
    torch.distributed.destroy_process_group()


def _take_device(gpus: GpuUse) -> torch.device:
    """This process's GPU, or the CPU where there is none or none is used; UserError where there are too few."""
    if gpus == "none" or not torch.cuda.is_available():
        keep_freed_memory()
        return torch.device("cpu")
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    if gpus == "shared":
        local_rank %= torch.cuda.device_count()
    if local_rank >= torch.cuda.device_count():
        raise UserError(
            f"process {local_rank} of this machine has no GPU of its own: start at most {torch.cuda.device_count()}"
            " (--processes, or --nproc_per_node of torchrun)"
        )
    device = torch.device("cuda", local_rank)
    torch.cuda.set_device(device)
    return device


@cache  # a process may have several sessions, one after another
def _end_with_parent() -> None:
    """End this process when ``torchrun`` is killed: it could wait for the other ranks for ever, and keep its GPU."""
    parent = os.pidfd_open(os.getppid())

    def wait_for_parent() -> None:
        select.select([parent], [], [])
        os.kill(os.getpid(), signal.SIGTERM)  # training saves what it has done; other work ends of it
        time.sleep(LAST_WORDS_S)
        os._exit(1)

    threading.Thread(target=wait_for_parent, daemon=True).start()
