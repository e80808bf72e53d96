import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shards.errors import UserError
from shards.format.manifest import ShardRecord
from shards.storage.cache import Need, ShardCache
from shards.storage.downloads import CancelledDownloadError, never
from tests.project import ROOT


def content_of(number, size):
    return hashlib.sha256(str(number).encode()).digest() * (size // 32) + bytes([number]) * (size % 32)


def record_of(number, size):
    content = content_of(number, size)
    return ShardRecord(
        name=f"{number}.tar", bytes=size, samples=1, masks=0, scenes=0, sha256=hashlib.sha256(content).hexdigest()
    )


def need(urgent=True, is_over=never, neighbours=()):
    event = threading.Event()
    if urgent:
        event.set()
    return Need(event, is_over, lambda: neighbours)


def shards_in(folder):
    return {path.name for path in folder.iterdir()} - {"lock"}


def fill(cache, number, size=100, **options):
    """Read a shard as one does who lets it go at once; tell whether it was fetched."""
    fetched = []

    def download(target):
        target.write_bytes(content_of(number, size))
        fetched.append(number)

    file = cache.acquire(record_of(number, size), download, need(**options))
    file.let_go()
    assert file.read(0, size) == content_of(number, size)
    return bool(fetched)


@given(
    budget=st.integers(100, 500),
    sizes=st.lists(st.integers(1, 100), min_size=8, max_size=8),
    reads=st.lists(st.integers(0, 7), max_size=40),
)
@settings(deadline=None, max_examples=60)
def test_the_least_recently_used_give_way_and_the_budget_holds(tmp_path_factory, budget, sizes, reads):
    """Against a list in order of use."""
    folder = tmp_path_factory.mktemp("cache")
    cache = ShardCache(folder, budget)
    expected: list[int] = []
    for number in reads:
        assert fill(cache, number, sizes[number]) == (number not in expected)
        expected = [*(other for other in expected if other != number), number]
        while sum(sizes[other] for other in expected) > budget:
            expected.pop(0)
        assert shards_in(folder) == {f"{record_of(other, sizes[other]).sha256}.tar" for other in expected}


def test_an_open_shard_is_read_to_the_end_though_it_was_removed(tmp_path):
    cache = ShardCache(tmp_path, 100)
    first = cache.acquire(record_of(1, 100), lambda path: path.write_bytes(content_of(1, 100)), need())
    assert fill(cache, 2)
    assert first.is_removed
    assert first.read(50, 50) == content_of(1, 100)[50:]


def test_who_reads_ahead_waits_until_a_held_shard_is_let_go(tmp_path):
    cache = ShardCache(tmp_path, 100)
    held = cache.acquire(record_of(1, 100), lambda path: path.write_bytes(content_of(1, 100)), need())
    with ThreadPoolExecutor(1) as pool:
        later = pool.submit(fill, cache, 2, urgent=False)
        time.sleep(0.4)
        assert not later.done()
        assert not held.is_removed
        held.let_go()
        assert later.result(timeout=10)
    assert held.is_removed


def test_who_waits_for_room_takes_it_as_soon_as_it_becomes_urgent_or_gives_up(tmp_path):
    cache = ShardCache(tmp_path, 100)
    held = cache.acquire(record_of(1, 100), lambda path: path.write_bytes(content_of(1, 100)), need())
    waiting = need(urgent=False)
    given_up = []
    with ThreadPoolExecutor(2) as pool:
        later = pool.submit(
            cache.acquire, record_of(2, 100), lambda path: path.write_bytes(content_of(2, 100)), waiting
        )
        never_mind = pool.submit(fill, cache, 3, urgent=False, is_over=lambda: bool(given_up))
        time.sleep(0.1)
        waiting.urgent.set()
        later.result(timeout=10)
        given_up.append(True)
        with pytest.raises(CancelledDownloadError):
            never_mind.result(timeout=10)
    assert held.is_removed
    assert shards_in(tmp_path) == {f"{record_of(2, 100).sha256}.tar"}


def test_those_needed_as_much_are_spared_and_others_taken_first(tmp_path):
    cache = ShardCache(tmp_path, 300)
    for number in (1, 2, 3):
        fill(cache, number)
    fill(cache, 4, urgent=False, neighbours={record_of(1, 100).sha256, record_of(2, 100).sha256})
    assert shards_in(tmp_path) == {f"{record_of(number, 100).sha256}.tar" for number in (1, 2, 4)}


def test_a_failed_download_leaves_nothing_and_is_told_to_whom_it_concerns(tmp_path):
    cache = ShardCache(tmp_path, 100)

    def fail(path):
        path.write_bytes(b"some")
        raise UserError("no")

    with pytest.raises(UserError, match="no"):
        cache.acquire(record_of(1, 100), fail, need())
    assert not shards_in(tmp_path)
    assert fill(cache, 1)


def test_a_shard_cut_short_in_the_cache_is_fetched_again(tmp_path):
    cache = ShardCache(tmp_path, 100)
    fill(cache, 1)
    os.truncate(tmp_path / f"{record_of(1, 100).sha256}.tar", 50)
    assert fill(cache, 1)


def test_threads_and_caches_over_one_folder_fetch_every_shard_once(tmp_path):
    caches = [ShardCache(tmp_path, 1000) for _ in range(4)]

    def download(number, path):
        path.write_bytes(content_of(number, 50))
        time.sleep(0.02)
        path.write_bytes(content_of(number, 100))

    fetched: Counter[int] = Counter()

    def read(reader):
        for number in range(10):
            record = record_of(number, 100)
            file = caches[reader % 4].acquire(
                record, lambda path, number=number: (fetched.update([number]), download(number, path)), need()
            )
            assert file.read(0, 100) == content_of(number, 100)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(read, range(8)))
    assert fetched == Counter(range(10))


@pytest.mark.parametrize("moment", ["as it is fetched", "as it holds the lock of the folder"])
def test_what_a_killed_process_leaves_is_in_nobody_s_way(tmp_path, moment):
    program = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from tests.shards.storage.test_cache import *\n"
        "cache = ShardCache(Path(sys.argv[1]), 100)\n"
        "def download(path):\n"
        "    path.write_bytes(b'half')\n"
        "    print('now', flush=True)\n"
        "    time.sleep(60)\n"
    )
    if moment == "as it is fetched":
        program += "cache.acquire(record_of(1, 100), download, need())\n"
    else:
        program += "with cache._locked():\n    download(Path(sys.argv[1]) / f'{record_of(1, 100).sha256}.100.part')\n"
    process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, cwd=ROOT)
    with process:
        assert process.stdout.readline() == b"now\n"
        process.send_signal(signal.SIGKILL)
    (left,) = shards_in(tmp_path)
    assert left.endswith(".part")
    cache = ShardCache(tmp_path, 100)
    assert not shards_in(tmp_path)
    assert fill(cache, 1)


def test_a_smaller_budget_holds_from_the_next_opening_on(tmp_path):
    cache = ShardCache(tmp_path, 300)
    for number in range(3):
        fill(cache, number)
    ShardCache(tmp_path, 150)
    assert shards_in(tmp_path) == {f"{record_of(2, 100).sha256}.tar"}


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/cache: cannot be written .*choose another cache directory"):
        ShardCache(Path(tmp_path / "file" / "cache"), 1)
