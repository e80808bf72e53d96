"""Several processes share the cache of a remote data set."""

import fcntl
import json
import random
import signal
import subprocess
import sys
import time

import pytest

from shards.dataset import ShardDataset
from shards.storage.cache import ShardCache
from shards.system.checksums import sha256_of
from tools.trials.faulty_server import FaultyServer, folder

pytest.importorskip("aiohttp", reason="http:// needs aiohttp")


READER = """
import json, sys
from pathlib import Path
import numpy as np
from shards.storage.cache_config import CacheConfig
from shards.dataset import ShardDataset

local, url, cache, budget_bytes, seed = sys.argv[1:]
local = ShardDataset.open(Path(local))
config = CacheConfig(directory=Path(cache), budget_bytes=int(budget_bytes), downloads=2, backoff_s=0.01)
remote = ShardDataset.open(url, config)
read = []
for epoch in range(3):
    order = np.random.default_rng([int(seed), epoch]).permutation(len(local)).reshape(-1, 4)
    for sample_B in remote.reading_ahead(order):
        for i in sample_B.tolist():
            frames = np.arange(local.frame_counts[i])
            ours, theirs = (dataset.read_clip(i, frames) for dataset in (remote, local))
            assert [part.data for part in ours.parts] == [part.data for part in theirs.parts]
            read.append(i)
json.dump(read, sys.stdout)
"""


def test_processes_share_a_small_cache_while_one_is_killed_again_and_again(tiny_dataset, tmp_path):
    cache = tmp_path / "cache" / "shards"
    sizes = {shard.sha256: shard.bytes for shard in ShardDataset.open(tiny_dataset).manifest.shards}
    budget_bytes = sum(sorted(sizes.values())[-2:])
    answer = folder(tiny_dataset.parent)

    def slow(*request):
        time.sleep(0.01)
        return answer(*request)

    with FaultyServer(slow) as server:
        url = f"{server.url}/{tiny_dataset.name}"

        def start(seed):
            arguments = map(str, (tiny_dataset, url, cache.parent, budget_bytes, seed))
            return subprocess.Popen([sys.executable, "-c", READER, *arguments], stdout=subprocess.PIPE)

        ShardCache(cache, budget_bytes)
        survivors = [start(seed) for seed in range(3)]
        moments = random.Random(0)
        most, kills = 0, 0
        while kills < 4 or any(process.poll() is None for process in survivors):
            with start(100 + kills) as victim:
                end_s = time.monotonic() + moments.uniform(0.4, 1.2)  # it takes 0.3 s to begin
                while time.monotonic() < end_s:
                    most = max(most, kept_bytes(cache))
                    time.sleep(0.005)
                victim.send_signal(signal.SIGKILL)
            kills += 1
        for process in survivors:
            with process:
                assert sorted(json.load(process.stdout)) == sorted(3 * list(range(12)))
            assert process.returncode == 0
    assert most <= budget_bytes
    ShardCache(cache, budget_bytes)
    kept = [path for path in cache.iterdir() if path.name != "lock"]
    assert all(path.name == f"{sha256_of(path)}.tar" and path.stem in sizes for path in kept)
    assert kept_bytes(cache) <= budget_bytes


def kept_bytes(cache):
    """Bytes of all files while nobody adds or removes one."""
    with (cache / "lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return sum(path.stat().st_size for path in cache.iterdir())
