"""Remote data sets are compared by their clips without a shard being fetched."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from shards.dataset import ShardDataset
from shards.format.clip_sources import SOURCES_NAME
from shards.format.manifest import Manifest
from shards.storage.cache_config import CacheConfig
from tools.trials.faulty_server import FaultyServer, folder
from tools.trials.ready_samples import write_samples

pytest.importorskip("aiohttp", reason="http:// needs aiohttp")


@pytest.fixture
def directory(tmp_path: Path, synthetic_sample: Callable) -> Path:
    write_samples(tmp_path / "served" / "d", map(synthetic_sample, range(4)), ("clap", "jump", "wave"))
    return tmp_path / "served" / "d"


@pytest.fixture
def server(directory: Path) -> Iterator[FaultyServer]:
    with FaultyServer(folder(directory.parent)) as server:
        yield server


@pytest.fixture
def open_remote(server: FaultyServer, tmp_path: Path) -> Callable[[], ShardDataset]:
    config = CacheConfig(directory=tmp_path / "cache", download_retries=0)
    return lambda: ShardDataset.open(f"{server.url}/d", config)


def test_the_index_of_the_videos_comes_with_the_others(
    directory: Path, server: FaultyServer, open_remote: Callable[[], ShardDataset]
) -> None:
    manifest = Manifest.load(directory)
    replace(manifest, provenance={"sources": SOURCES_NAME}).save(directory)
    remote, local = open_remote(), ShardDataset.open(directory)
    assert remote.material.is_known
    assert remote.material.source_N.tolist() == local.material.source_N.tolist()
    assert not any(name.endswith(".tar") for name in server.requests)


def test_of_one_that_an_earlier_version_packed_nothing_is_known(
    directory: Path, server: FaultyServer, open_remote: Callable[[], ShardDataset]
) -> None:
    (directory / SOURCES_NAME).unlink()
    assert not open_remote().material.known_N.any()
    assert not any(name.endswith((".tar", SOURCES_NAME)) for name in server.requests)
