"""The ranks of one start meet each other, whatever earlier ones have left in the store."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributed import HashStore, Store, TCPStore

from scenebias.distributed.rendezvous import meet_in
from shards.errors import UserError


def meet_all(stores: list[Store], timeout_s: float = 20) -> list[Store]:
    """Each rank in a thread of its own."""
    world_size = len(stores)
    with ThreadPoolExecutor(world_size) as pool:
        ranks = [pool.submit(meet_in, store, rank, world_size, timeout_s) for rank, store in enumerate(stores)]
        return [rank.result() for rank in ranks]


def share_one_space(stores: list[Store]) -> bool:
    for rank, store in enumerate(stores):
        store.set(f"from {rank}", str(rank))
    return all(store.get(f"from {rank}") == str(rank).encode() for store in stores for rank in range(len(stores)))


@settings(max_examples=30, deadline=None)
@given(
    world_size=st.integers(1, 4),
    dead=st.lists(st.tuples(st.integers(1, 5), st.sampled_from(["ticket", "named", "here"])), max_size=6),
)
def test_ranks_meet_in_a_space_of_their_own_whatever_dead_ones_left(
    world_size: int, dead: list[tuple[int, str]]
) -> None:
    store = HashStore()
    for number, (rank, came_to) in enumerate(dead):
        store.set(f"ticket/{rank}", f"old{number}")
        if came_to != "ticket":
            store.set(f"name/old{number}", "before")
        if came_to == "here":
            store.set(f"before/here/{rank}", "")
    store.set("before/address", "stale")
    met = meet_all([store] * world_size)
    assert share_one_space(met)
    assert not any(rank_store.check(["address"]) for rank_store in met)


def test_a_second_start_in_the_same_server_has_another_space() -> None:
    server = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)

    def client() -> Store:
        return TCPStore("127.0.0.1", server.port, is_master=False, timeout=timedelta(seconds=20))

    first = meet_all([client(), client()])
    first[0].set("address", "stale")
    second = meet_all([client(), client(), client()])
    assert share_one_space(second)
    assert not second[2].check(["address"])


@pytest.mark.parametrize(
    ("come", "words"),
    [
        (lambda store: meet_in(store, 0, 3, 0.3), r"rank 0 waited 0\.3 s .* in vain for ranks 1, 2"),
        (lambda store: meet_in(store, 1, 3, 0.3), r"rank 1 waited 0\.3 s .* in vain for rank 0"),
    ],
)
def test_a_rank_that_waits_in_vain_says_for_whom(come: Callable[[Store], Store], words: str) -> None:
    server = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    with pytest.raises(UserError, match=words):
        come(server)
