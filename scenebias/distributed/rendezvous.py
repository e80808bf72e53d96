"""How the processes of one start find each other, and none that an earlier start has left traces of.

``torchrun --max-restarts`` keeps one key-value store over all its restarts, and PyTorch names its keys alike in each
(https://github.com/pytorch/pytorch/issues/135712): a process could read the address of a dead one, and wait for it.
"""

import time
import uuid
from datetime import timedelta

from torch.distributed import DistStoreError, PrefixStore, Store, rendezvous

from shards.errors import UserError

POLL_INTERVAL_S = 0.02


def meet(timeout_s: float) -> Store:
    """Wait for all processes that the environment tells of; returns a store that they alone write to.

    Raises:
        UserError: some did not come within ``timeout_s``.
    """
    store, rank, world_size = next(rendezvous("env://", timeout=timedelta(seconds=timeout_s)))
    return meet_in(store, rank, world_size, timeout_s)


def meet_in(store: Store, rank: int, world_size: int, timeout_s: float) -> Store:
    """`meet` in ``store``, which may hold what processes of earlier starts, dead by now, have written.

    Rank 0 makes up a name. Every other rank has a ticket of its own, so that nobody but this rank 0 can have answered
    it with the name; and only where it sets a key of that name does rank 0 know that the ticket was no dead rank's.
    """
    deadline_s = time.monotonic() + timeout_s
    store.set_timeout(timedelta(seconds=timeout_s))
    if rank == 0:
        name = uuid.uuid4().hex
        missing = set(range(1, world_size))
        while missing:
            if time.monotonic() > deadline_s:
                raise UserError(f"{_waited(rank, timeout_s)} ranks {', '.join(map(str, sorted(missing)))}")
            for other in missing:
                if store.check([f"ticket/{other}"]):
                    store.set(f"name/{store.get(f'ticket/{other}').decode()}", name)
            missing = {other for other in missing if not store.check([f"{name}/here/{other}"])}
            time.sleep(POLL_INTERVAL_S)
    else:
        ticket = uuid.uuid4().hex
        store.set(f"ticket/{rank}", ticket)
        try:
            name = store.get(f"name/{ticket}").decode()
        except DistStoreError as error:
            raise UserError(f"{_waited(rank, timeout_s)} rank 0") from error
        store.set(f"{name}/here/{rank}", "")
    return PrefixStore(name, store)


def _waited(rank: int, timeout_s: float) -> str:
    return f"rank {rank} waited {timeout_s:g} s (--collective-timeout-s) in vain for"
