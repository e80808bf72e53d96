"""Remote data sets in S3: a real server of its protocol on loopback, behind one that spoils some of its answers."""

import pickle
import random
import threading
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest

from shards.dataset import ShardDataset
from shards.errors import UserError
from shards.storage.cache_config import CacheConfig
from tools.trials.faulty_server import RETRIED, FaultyServer, another_server

pytest.importorskip("s3fs", reason="s3:// needs s3fs")
moto_server = pytest.importorskip("moto.server", reason="the server is that of moto")

CLIPS = 12


@pytest.fixture(scope="module")
def s3(tiny_dataset):
    """Where the server is that has the tiny data set in the bucket "clips"; nothing else of its kind may be running."""
    import s3fs

    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    files = s3fs.S3FileSystem(key="k", secret="s", endpoint_url=f"http://{host}:{port}", skip_instance_cache=True)
    files.mkdir("clips")
    for path in tiny_dataset.iterdir():
        files.pipe_file(f"clips/a/train/{path.name}", path.read_bytes())
    yield host, port
    server.stop()


@pytest.fixture
def proxy(s3):
    with FaultyServer(another_server(*s3)) as proxy:
        yield proxy


def make_config(tmp_path, proxy, **changes):
    options = {
        "key": "k",
        "secret": "s",
        "endpoint_url": proxy.url,
        "config_kwargs": {"retries": {"total_max_attempts": 1}},  # ours are what is tested
    }
    defaults = {
        "budget_bytes": 1 << 30,
        "download_retries": 3,
        "download_timeout_s": 30.0,
        "backoff_s": 0.01,
        "storage_options": options,
    }
    return CacheConfig(directory=tmp_path / "cache", **{**defaults, **changes})


@pytest.fixture(scope="module")
def local(tiny_dataset):
    return ShardDataset.open(tiny_dataset)


def assert_same(remote, local, order=range(CLIPS)):
    for i in order:
        ours, theirs = (dataset.read_clip(i, np.arange(dataset.frame_counts[i])) for dataset in (remote, local))
        assert [part.data for part in ours.parts] == [part.data for part in theirs.parts]
        assert (ours.masks is None) == (theirs.masks is None)
        assert ours.masks is None or np.array_equal(ours.masks, theirs.masks)


def test_nothing_is_lost_or_doubled_whatever_befalls_the_downloads(proxy, tmp_path, local):
    """Several epochs through a cache that holds two of three shards; every third answer is spoilt."""
    largest = sorted(shard.bytes for shard in local.manifest.shards)[-2:]
    random_faults = random.Random(0)
    names = ["manifest.json", "samples.npy", "strips.npy", "scenes.npy"]
    for name in names:
        proxy.faults[name].append(random_faults.choice([fault for fault in RETRIED if fault != "flip"]))
    for shard in local.manifest.shards:
        for _ in range(6):
            proxy.faults[shard.name].append(random_faults.choice(RETRIED))
            proxy.faults[shard.name].extend([None] * 2)
    remote = ShardDataset.open(
        "s3://clips/a/train", make_config(tmp_path, proxy, budget_bytes=sum(largest), download_timeout_s=1.0)
    )
    read = []
    for epoch in range(3):
        order = np.random.default_rng(epoch).permutation(CLIPS).reshape(-1, 3)
        for sample_B in remote.reading_ahead(order):
            assert_same(remote, local, sample_B.tolist())
            read += sample_B.tolist()
    assert sorted(read) == sorted(list(range(CLIPS)) * 3)
    assert sum(path.stat().st_size for path in (tmp_path / "cache" / "shards").iterdir()) <= sum(largest)
    assert list(remote.verify()) == []


@pytest.mark.parametrize("fault", ["silence", "short", "503"])
def test_the_budget_of_attempts_ends_in_one_clear_error(proxy, tmp_path, local, fault):
    name = local.manifest.shards[1].name
    config = make_config(tmp_path, proxy, download_retries=1)
    remote = ShardDataset.open(
        "s3://clips/a/train", replace(config, download_timeout_s=0.5) if fault == "silence" else config
    )
    proxy.faults[name].extend([fault] * 100)
    with closing(remote.reading_ahead(np.arange(CLIPS).reshape(-1, 3))) as batches:
        next(batches)
        with pytest.raises(UserError, match=rf"s3://clips/a/train/{name} cannot be fetched: 2 attempts have failed"):
            remote.read_clip(5, np.arange(4))
    assert not any(thread.name.startswith("read-ahead") for thread in threading.enumerate())
    proxy.faults[name].clear()
    assert_same(ShardDataset.open("s3://clips/a/train", config), local)


def test_what_is_not_there_and_what_may_not_be_read_is_said_at_once(proxy, tmp_path):
    with pytest.raises(UserError, match=r"s3://clips/b/manifest\.json does not exist"):
        ShardDataset.open("s3://clips/b", make_config(tmp_path, proxy))
    with pytest.raises(UserError, match=r"s3://nowhere/b/manifest\.json does not exist"):
        ShardDataset.open("s3://nowhere/b", make_config(tmp_path, proxy))
    anonymous = {"anon": True, "endpoint_url": proxy.url}
    with pytest.raises(
        UserError, match=r"manifest\.json may not be read .*check the credentials in the environment .*fsspec"
    ):
        ShardDataset.open("s3://clips/a/train", make_config(tmp_path, proxy, storage_options=anonymous))
    assert proxy.requests["manifest.json"] == 3


def test_pickling_keeps_the_credentials_and_printing_hides_them(proxy, tmp_path, local):
    config = make_config(tmp_path, proxy)
    assert "secret" not in repr(config)
    assert_same(pickle.loads(pickle.dumps(ShardDataset.open("s3://clips/a/train", config))), local)
