import threading
from collections import Counter
from contextlib import closing
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from shards.format.manifest import ShardRecord
from shards.storage.cache_config import CacheConfig
from shards.storage.read_ahead import read_ahead


class FakeFetcher:
    """Notes what is asked of it."""

    def __init__(self, sizes):
        self.records = [
            ShardRecord(name=f"{number}", bytes=size, samples=1, masks=0, scenes=0, sha256="")
            for number, size in enumerate(sizes)
        ]
        self.planned = Counter()
        self.most_bytes = 0
        self.opened = []

    def plan(self, number):
        self.planned[number] += 1
        self.most_bytes = max(self.most_bytes, sum(self.records[planned].bytes for planned in self.planned))

    def unplan(self, number):
        self.planned[number] -= 1
        if not self.planned[number]:
            del self.planned[number]

    def open_ahead(self, number, stopped):
        assert not stopped() or not self.planned
        self.opened.append(number)


def config(budget_bytes, downloads=1):
    return CacheConfig(directory=Path("unused"), budget_bytes=budget_bytes, downloads=downloads)


def first_uses(batches):
    """Shards in the order in which they are needed, again where all planned uses were over before."""
    return [number for batch in batches for number in dict.fromkeys(batch)]


@given(
    batches=st.lists(st.lists(st.integers(0, 9), max_size=5), max_size=60),
    sizes=st.lists(st.integers(1, 9), min_size=10, max_size=10),
    budget_bytes=st.integers(9, 60),
)
@settings(deadline=None)
def test_batches_come_unchanged_and_no_more_is_planned_than_the_budget_holds(batches, sizes, budget_bytes):
    fetcher = FakeFetcher(sizes)
    read = []
    for batch in read_ahead(batches, lambda batch: batch, fetcher, config(budget_bytes)):
        assert set(batch) <= set(fetcher.planned)
        assert set(fetcher.planned.values()) <= {1}
        read.append(batch)
    assert read == batches
    assert not fetcher.planned
    last_batch = max((sum(sizes[number] for number in set(batch)) for batch in batches), default=0)
    assert fetcher.most_bytes < budget_bytes + last_batch


@given(batches=st.lists(st.lists(st.integers(0, 29), max_size=5), max_size=60))
@settings(deadline=None)
def test_shards_are_fetched_in_the_order_of_their_first_use(batches):
    """By one thread, where there is room for all; it may not come to the last ones before they are read."""
    fetcher = FakeFetcher([1] * 30)
    for _ in read_ahead(batches, lambda batch: batch, fetcher, config(1000)):
        pass
    uses = iter(first_uses(batches))
    assert all(number in uses for number in fetcher.opened)  # a subsequence


def test_all_planned_shards_are_fetched_while_the_first_batch_is_used():
    fetcher = FakeFetcher([1] * 100)
    enough = threading.Event()

    def open_ahead(number, stopped):
        fetcher.opened.append(number)
        if len(fetcher.opened) == 8:
            enough.set()

    fetcher.open_ahead = open_ahead
    with closing(read_ahead([[number] for number in range(100)], lambda b: b, fetcher, config(8))) as batches:
        assert next(batches) == [0]
        assert enough.wait(10)
        assert set(fetcher.opened) == set(range(8))
    assert not fetcher.planned


def test_threads_end_with_the_iterator_and_the_plan_is_taken_back():
    fetcher = FakeFetcher([1] * 10)
    before = threading.active_count()
    batches = read_ahead([[0, 1], [2]], lambda batch: batch, fetcher, config(10, downloads=3))
    assert threading.active_count() == before
    next(batches)
    assert threading.active_count() == before + 3
    assert set(fetcher.planned) == {0, 1, 2}
    batches.close()
    assert threading.active_count() == before
    assert not fetcher.planned


def test_no_step_draws_many_batches_at_once():
    drawn = []
    source = (drawn.append(number) or [0] for number in range(10_000))
    with closing(read_ahead(source, lambda batch: batch, FakeFetcher([1]), config(10))) as batches:
        for step, _ in zip(range(1, 600), batches, strict=False):
            assert len(drawn) <= min(16 * step, 4096 + step)
