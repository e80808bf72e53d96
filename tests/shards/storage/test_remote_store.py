"""Remote data sets over HTTP and S3, from servers on loopback that spoil some of their answers."""

import gc
import multiprocessing
import pickle
import random
import shutil
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import fsspec
import numpy as np
import pytest

from shards.dataset import ShardDataset
from shards.errors import UserError
from shards.storage.cache_config import CacheConfig
from tools.trials.faulty_server import RETRIED, FaultyServer, folder
from tools.trials.ready_samples import write_samples

pytest.importorskip("aiohttp", reason="http:// needs aiohttp")

CLIPS, CLIPS_PER_SHARD, SHARDS = 20, 2, 10


@pytest.fixture(scope="module")
def directory(tmp_path_factory, synthetic_sample):
    """20 clips in 10 shards of the same size."""
    directory = tmp_path_factory.mktemp("remote") / "d"
    samples = (synthetic_sample(number, 20) for number in range(CLIPS))
    write_samples(directory, samples, ("clap", "jump", "wave"), samples_per_shard=CLIPS_PER_SHARD)
    return directory


@pytest.fixture(scope="module")
def local(directory):
    return ShardDataset.open(directory)


@pytest.fixture(scope="module")
def shard_bytes(local):
    (size,) = {shard.bytes for shard in local.manifest.shards}
    return size


@pytest.fixture
def server(directory):
    with FaultyServer(folder(directory.parent)) as server:
        yield server


@pytest.fixture
def config(tmp_path):
    """Room for everything."""
    return make_config(tmp_path / "cache")


def make_config(cache, **changes):
    return CacheConfig(
        **{
            "directory": cache,
            "budget_bytes": 1 << 30,
            "downloads": 2,
            "download_retries": 2,
            "download_timeout_s": 30.0,
            "backoff_s": 0.01,
            **changes,
        }
    )


def clip(dataset, i):
    stored = dataset.read_clip(i, np.arange(dataset.frame_counts[i]))
    return [part.data for part in stored.parts], stored.masks.tobytes()


def assert_same(remote, local, order=range(CLIPS)):
    for i in order:
        assert clip(remote, i) == clip(local, i)


def cached(cache):
    return [path for path in (cache / "shards").iterdir() if path.name != "lock"]


def cached_bytes(cache):
    while True:
        try:
            return sum(path.stat().st_size for path in cached(cache))
        except FileNotFoundError:
            continue  # a download that ended between the list and the look at it has another name now


def shard_requests(server):
    return Counter({name: count for name, count in server.requests.items() if name.endswith(".tar")})


def test_every_byte_is_that_of_the_local_data_set_and_fetched_once(server, config, local):
    remote = ShardDataset.open(f"{server.url}/d/", config)
    assert not shard_requests(server)
    assert_same(remote, local)
    assert np.array_equal(remote.labels, local.labels)
    assert np.array_equal(remote.scenes, local.scenes)
    assert remote.location == f"{server.url}/d/"
    assert_same(remote, local)
    assert set(shard_requests(server).values()) == {1}
    assert len(shard_requests(server)) == SHARDS
    again = ShardDataset.open(f"{server.url}/d", config)
    assert_same(again, local)
    assert {name: count for name, count in server.requests.items() if count > 1} == {"manifest.json": 2}
    assert list(again.verify()) == []


@pytest.mark.parametrize("fault", RETRIED)
def test_a_spoilt_answer_is_asked_for_again(server, config, local, fault):
    name = local.manifest.shards[1].name
    server.faults[name].extend([fault, fault])
    if fault != "flip":  # indexes have no checksum
        server.faults["strips.npy"].append(fault)
    remote = ShardDataset.open(f"{server.url}/d", replace(config, download_timeout_s=1.0))
    assert_same(remote, local, range(2 * CLIPS_PER_SHARD))
    assert shard_requests(server)[name] == 3
    assert len(cached(config.directory)) == 2


CAUSES = {
    "stall": "no byte has come for 0.5 s",
    "503": "503",
    "flip": "its SHA-256 is not the manifest's",
}


@pytest.mark.parametrize("fault", CAUSES)
def test_the_budget_of_attempts_ends_in_one_clear_error(server, config, local, fault):
    name = local.manifest.shards[0].name
    server.faults[name].extend([fault] * 3)
    remote = ShardDataset.open(
        f"{server.url}/d", replace(config, download_timeout_s=0.5) if fault == "stall" else config
    )
    refusal = rf"{server.url}/d/{name} cannot be fetched: 3 attempts .*{CAUSES[fault]}"
    with pytest.raises(UserError, match=rf"{refusal}.*--download-retries or --download-timeout-s"):
        remote.read_clip(0, np.arange(4))
    assert server.requests[name] == 3
    assert not cached(config.directory)
    assert_same(ShardDataset.open(f"{server.url}/d", config), local)  # the server is well again


def test_a_server_that_is_gone_is_named(server, config):
    server.faults["manifest.json"].extend(["reset"] * 3)
    with pytest.raises(UserError, match=r"/d/manifest\.json cannot be fetched: 3 attempts have failed"):
        ShardDataset.open(f"{server.url}/d", config)


def test_what_no_attempt_can_mend_is_said_at_once(server, config, directory, local):
    with pytest.raises(UserError, match=r"/elsewhere/manifest\.json does not exist; check the address"):
        ShardDataset.open(f"{server.url}/elsewhere", config)
    server.faults["manifest.json"].append("403")
    with pytest.raises(
        UserError, match=r"manifest\.json may not be read .*check the credentials in the environment .*fsspec"
    ):
        ShardDataset.open(f"{server.url}/d", config)
    assert server.requests["manifest.json"] == 2
    with pytest.raises(UserError, match=r"nosuch://d cannot be reached \(Protocol not known: nosuch"):
        ShardDataset.open("nosuch://d", config)


def test_a_budget_smaller_than_a_shard_is_refused_and_one_of_a_shard_is_enough(server, config, local, shard_bytes):
    refusal = rf"may hold {shard_bytes - 1} bytes .*--cache-gb.*; allow at least {shard_bytes}"
    with pytest.raises(UserError, match=refusal):
        ShardDataset.open(f"{server.url}/d", make_config(config.directory, budget_bytes=shard_bytes - 1))
    remote = ShardDataset.open(f"{server.url}/d", make_config(config.directory, budget_bytes=shard_bytes))
    for batch in remote.reading_ahead(np.random.default_rng(0).permutation(CLIPS).reshape(4, 5)):
        assert_same(remote, local, batch.tolist())
    assert cached_bytes(config.directory) == shard_bytes


def test_an_index_of_another_data_set_is_refused_and_fetched_again_when_it_is_mended(server, config, directory, local):
    spoilt = shutil.copytree(directory, directory.parent / "spoilt")
    np.save(spoilt / "strips.npy", np.load(spoilt / "strips.npy")[:-1])
    with pytest.raises(UserError, match=rf"{server.url}/spoilt: .*strips.npy cannot be read"):
        ShardDataset.open(f"{server.url}/spoilt", config)
    shutil.copy(directory / "strips.npy", spoilt)
    assert_same(ShardDataset.open(f"{server.url}/spoilt", config), local)


def test_verify_names_shards_that_cannot_be_fetched(server, config, local):
    first, second = (shard.name for shard in local.manifest.shards[:2])
    remote = ShardDataset.open(f"{server.url}/d", config)
    server.faults[first].extend(["flip"] * 100)
    problems = list(remote.verify())
    assert f"{first} cannot be fetched: 3 attempts have failed" in problems[0]
    assert len(problems) == 1 + CLIPS_PER_SHARD
    assert not any(second in problem for problem in problems)


def test_shards_are_there_before_they_are_read_and_no_thread_is_left(server, config, local):
    remote = ShardDataset.open(f"{server.url}/d", config)
    threads = threading.active_count()
    with closing(remote.reading_ahead(iter(np.arange(CLIPS).reshape(CLIPS, 1)))) as batches:
        next(batches)
        deadline_s = time.monotonic() + 10
        while len(shard_requests(server)) < 4:
            assert time.monotonic() < deadline_s
            time.sleep(0.01)
        before = shard_requests(server)
        assert_same(remote, local, range(8))
        assert set(shard_requests(server).values()) == {1}
        assert sorted(before) == [shard.name for shard in local.manifest.shards[: len(before)]]  # in order
    assert threading.active_count() <= threads + 1  # that of fsspec
    assert_same(remote, local)


def test_reading_ahead_keeps_to_the_budget_and_fetches_nothing_twice_in_order(server, config, local, shard_bytes):
    remote = ShardDataset.open(f"{server.url}/d", make_config(config.directory, budget_bytes=3 * shard_bytes))
    most = 0
    for batch in remote.reading_ahead(np.arange(CLIPS).reshape(-1, 4)):
        assert_same(remote, local, batch.tolist())
        most = max(most, cached_bytes(config.directory))
        time.sleep(0.02)
    assert 2 * shard_bytes <= most <= 3 * shard_bytes
    assert set(shard_requests(server).values()) == {1}


def test_batches_of_any_kind_come_unchanged_and_lazily(local, server, config):
    remote = ShardDataset.open(
        f"{server.url}/d", make_config(config.directory, budget_bytes=local.manifest.shards[0].bytes)
    )
    drawn = []

    def batches():
        for i in range(CLIPS):
            drawn.append(i)
            yield {"sample": i}

    for dataset in (local, remote):
        drawn.clear()
        for i, batch in enumerate(dataset.reading_ahead(batches(), lambda batch: np.array([batch["sample"]]))):
            assert batch == {"sample": i}
            assert len(drawn) <= i + 1 + CLIPS_PER_SHARD
        assert len(drawn) == CLIPS


def test_an_error_ahead_of_use_comes_where_the_shard_is_read(server, config, local):
    remote = ShardDataset.open(f"{server.url}/d", config)
    name = local.manifest.shards[3].name
    server.faults[name].extend(["503"] * 3)
    with closing(remote.reading_ahead(np.arange(CLIPS).reshape(-1, CLIPS_PER_SHARD))) as batches:
        for batch in batches:
            if 6 in batch:
                with pytest.raises(UserError, match=rf"{name} cannot be fetched: 3 attempts"):
                    remote.read_clip(6, np.arange(4))
                assert server.requests[name] == 3
                assert_same(remote, local, batch.tolist())  # tried again
            else:
                assert_same(remote, local, batch.tolist())


def test_closing_ends_a_download_that_stalls(server, config):
    remote = ShardDataset.open(f"{server.url}/d", config)
    for number in range(SHARDS):
        server.faults[f"shard-{number:06d}.tar"].append("stall")
    started_s = time.monotonic()
    with closing(remote.reading_ahead(np.arange(CLIPS).reshape(-1, 1))) as batches:
        next(batches)
        time.sleep(0.2)
    assert time.monotonic() - started_s < 5
    assert not cached(config.directory)


def test_threads_share_what_is_fetched(server, config, local, shard_bytes):
    remote = ShardDataset.open(f"{server.url}/d", make_config(config.directory, budget_bytes=4 * shard_bytes))
    with ThreadPoolExecutor(4) as pool:
        for _ in pool.map(
            lambda seed: assert_same(remote, local, random.Random(seed).sample(range(CLIPS), 10)), range(8)
        ):
            pass
    assert cached_bytes(config.directory) <= 4 * shard_bytes


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_other_processes_read_what_this_one_reads(server, config, local, method):
    remote = ShardDataset.open(f"{server.url}/d", config)
    assert_same(remote, local, range(4))
    context = multiprocessing.get_context(method)
    ours, theirs = context.Pipe()
    with closing(remote.reading_ahead(np.arange(CLIPS).reshape(-1, 2))) as batches:
        next(batches)
        process = context.Process(target=send_clips, args=(remote, theirs))
        process.start()
        theirs.close()  # so that a child that dies ends the wait
        assert ours.recv() == [clip(local, i) for i in range(CLIPS)]
        process.join()
    assert process.exitcode == 0
    assert_same(remote, local)


def send_clips(dataset, connection):
    clips = []
    for batch in dataset.reading_ahead(np.arange(CLIPS).reshape(-1, 2)):
        clips += [clip(dataset, i) for i in batch.tolist()]
    connection.send(clips)


def test_pickling_keeps_where_it_lies_and_how_it_is_cached(server, config, local):
    remote = pickle.loads(pickle.dumps(ShardDataset.open(f"{server.url}/d", config)))
    assert_same(remote, local)
    assert len(cached(config.directory)) == SHARDS


def test_open_files_are_closed_with_the_data_set(server, config, local):
    remote = ShardDataset.open(f"{server.url}/d", config)
    assert_same(remote, local)

    def open_shards():
        return sum(".tar" in str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink())

    gc.collect()
    before = open_shards()
    del remote
    gc.collect()
    assert open_shards() == before - SHARDS


def test_file_urls_are_local(directory, local):
    dataset = ShardDataset.open(f"file://{directory}")
    assert dataset.directory == directory
    assert_same(dataset, local)


def test_file_systems_that_are_not_asynchronous_will_do(directory, local, config):
    memory = fsspec.filesystem("memory")
    for path in directory.iterdir():
        memory.pipe_file(f"/somewhere/{path.name}", path.read_bytes())
    try:
        remote = ShardDataset.open("memory://somewhere", config)
        for batch in remote.reading_ahead(np.arange(CLIPS).reshape(-1, 4)):
            assert_same(remote, local, batch.tolist())
    finally:
        memory.rm("/somewhere", recursive=True)
