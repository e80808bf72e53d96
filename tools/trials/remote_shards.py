"""Read a data set over HTTP in several processes that share a small cache, while some of them are killed all the time.

A server on loopback hands out the shards and spoils every fifth answer: it stalls, resets, cuts short, flips a bit or
says 503.
"""

import fcntl
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

PROJECT_ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PROJECT_ROOT))

import numpy as np  # noqa: E402

from scenebias.commands import Command  # noqa: E402
from shards.checks import require_at_least  # noqa: E402
from shards.dataset import ShardDataset  # noqa: E402
from shards.storage.cache_config import CacheConfig  # noqa: E402
from tools.trials.faulty_server import RETRIED, Fault, FaultyServer, Source, folder  # noqa: E402


@dataclass(frozen=True, kw_only=True)
class RemoteShards:
    """Who reads what, and for how long."""

    shards: Path
    """Folder of a packed data set."""
    minutes: float = 5.0
    """How long to start readers anew."""
    processes: int = 4
    """Readers at a time."""
    cached_shards: int = 4
    """How many shards the cache may hold."""
    reader: tuple[str, Path, int] | None = None
    """Read one epoch from this address, with this cache, in an order of this seed; what this script starts itself
    with."""

    def __post_init__(self) -> None:
        require_at_least(1, processes=self.processes, cached_shards=self.cached_shards)
        if not self.minutes > 0:
            raise ValueError(f"minutes must be above 0, got {self.minutes}")


def main(config: RemoteShards) -> int:
    """Read a data set over HTTP in several processes that share a small cache, while some of them are killed.

    Exit status 1 where a byte was wrong, a clip was missing, or the cache exceeded its budget.
    """
    local = ShardDataset.open(config.shards)
    budget_bytes = config.cached_shards * max(shard.bytes for shard in local.manifest.shards)
    if config.reader is not None:
        url, cache, seed = config.reader
        read_epoch(local, url, cache, budget_bytes, seed)
        return 0
    return run(config, budget_bytes)


def run(config: RemoteShards, budget_bytes: int) -> int:
    """Start, kill and restart the readers."""
    chance = random.Random(0)
    epochs, kills, most = 0, 0, 0
    end_s = time.monotonic() + 60 * config.minutes
    with tempfile.TemporaryDirectory() as cache, ChanceServer(folder(config.shards.parent), chance) as server:

        def start(seed: int) -> subprocess.Popen:
            url = f"{server.url}/{config.shards.name}"
            own = ["--shards", config.shards, "--cached-shards", config.cached_shards, "--reader", url, cache, seed]
            return subprocess.Popen([sys.executable, __file__, *map(str, own)])

        readers = [start(seed) for seed in range(config.processes)]
        try:
            while time.monotonic() < end_s or any(reader.poll() is None for reader in readers):
                time.sleep(chance.uniform(0, 0.5))
                most = max(most, kept_bytes(Path(cache) / "shards"))
                for number, reader in enumerate(readers):
                    if time.monotonic() > end_s:
                        break
                    if reader.poll() is not None:
                        epochs += 1
                    elif number % 2 and chance.random() < 0.2:
                        reader.kill()
                        kills += 1
                    else:
                        continue
                    if reader.wait() > 0:
                        break
                    readers[number] = start(chance.randrange(1 << 30))
                if any((reader.poll() or 0) > 0 for reader in readers):
                    print("a reader failed")
                    return 1
        finally:
            for reader in readers:
                reader.kill()
                reader.wait()
        fetched = sum(server.requests.values())
    spoilt = ", ".join(f"{count} x {fault}" for fault, count in sorted(server.spoilt.items()))
    print(f"{epochs} epochs read, {kills} readers killed, {most} of {budget_bytes} bytes kept")
    print(f"{fetched} requests, {server.spoilt.total()} of them spoilt: {spoilt}")
    return 1 if most > budget_bytes else 0


class ChanceServer(FaultyServer):
    """Spoils every fifth answer or so, and flips bits only in what has a checksum."""

    def __init__(self, source: Source, chance: random.Random) -> None:
        super().__init__(source)
        self.spoilt: Counter[Fault] = Counter()
        self._chance = chance

    def fault_for(self, name: str) -> Fault | None:
        if self._chance.random() > 0.2:
            return None
        fault = self._chance.choice([fault for fault in RETRIED if fault != "flip" or name.endswith(".tar")])
        self.spoilt[fault] += 1
        return fault


def kept_bytes(cache: Path) -> int:
    """Bytes of the cache while nobody adds or removes a shard."""
    if not cache.is_dir():
        return 0
    with (cache / "lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return sum(path.stat().st_size for path in cache.iterdir())


def read_epoch(local: ShardDataset, url: str, cache: Path, budget_bytes: int, seed: int) -> None:
    """Compare every clip with the local data set."""
    config = CacheConfig(
        directory=cache, budget_bytes=budget_bytes, download_retries=20, download_timeout_s=1, backoff_s=0.02
    )
    remote = ShardDataset.open(url, config)
    sample_count = 0
    for sample_B in remote.reading_ahead(np.array_split(np.random.default_rng(seed).permutation(len(local)), 100)):
        for i in sample_B.tolist():
            frames = np.arange(local.frame_counts[i])
            ours, theirs = (dataset.read_clip(i, frames) for dataset in (remote, local))
            assert [part.data for part in ours.parts] == [part.data for part in theirs.parts]
            sample_count += 1
    assert sample_count == len(local)


COMMAND = Command(
    main=main,
    options=RemoteShards,
    example="python tools/trials/remote_shards.py --shards data/jhmdb/train --minutes 5",
)

if __name__ == "__main__":
    COMMAND.run()
