"""The pipeline of the webdataset library gives what the data set itself gives."""

import os
import random
import shutil

import numpy as np
import pytest
import webdataset
from torch.utils.data import DataLoader

from shards.dataset import ShardDataset
from shards.errors import DamagedClipError, UserError
from shards.storage.cache_config import CacheConfig
from shards.webdataset_pipeline import open_webdataset
from tests.forked import FORKED
from tests.shards.test_clips import assert_equal
from tools.trials.faulty_server import FaultyServer, folder
from tools.trials.ready_samples import write_samples


@pytest.fixture(scope="module", params=["filmstrip", "h264", "vp9"])
def dataset(request, tmp_path_factory, synthetic_sample):
    """Seven clips in three shards: with and without masks and scenes, of one part and of several."""
    samples = (
        synthetic_sample(
            number,
            5 + 4 * number,
            width=64,
            masks=number % 2 == 0,
            scene=number != 3,
            codec=request.param,
            frames_per_part=8,
        )
        for number in range(7)
    )
    directory = tmp_path_factory.mktemp("webdataset") / request.param
    write_samples(directory, samples, ("clap", "jump", "wave"), samples_per_shard=3)
    return ShardDataset.open(directory)


def assert_all(clips, dataset, order=None):
    """Every clip once; in this order, if any."""
    numbers = {clip.name: i for i, clip in enumerate(dataset)}
    found = [numbers[clip.name] for clip in clips]
    assert sorted(found) == list(range(len(dataset)))
    if order is not None:
        assert found == order
    for number, clip in zip(found, clips, strict=True):
        assert_equal(clip, dataset[number])


def test_in_order_the_clips_are_those_of_the_data_set(dataset):
    pipeline = open_webdataset(dataset.directory)
    for _ in range(2):
        assert_all(list(pipeline), dataset, order=list(range(7)))


@pytest.mark.parametrize("seed", [0, 1])
def test_shards_are_shuffled_by_the_library_and_clips_may_be_as_well(dataset, seed):
    urls = [{"url": number} for number in (0, 1, 2)]
    shuffled = [shard["url"] for shard in webdataset.filters._shuffle(iter(urls), 3, rng=random.Random(seed))]
    order = [i for shard in shuffled for i in range(3 * shard, min(3 * shard + 3, 7))]
    assert_all(list(open_webdataset(dataset.directory, shardshuffle=3, seed=seed)), dataset, order=order)
    both = open_webdataset(dataset.directory, shardshuffle=3).shuffle(4)
    assert_all(list(both), dataset)


@pytest.mark.parametrize("context", ["fork", FORKED], ids=["inherited", "pickled"])
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_workers_share_the_shards(dataset, context):
    pipeline = open_webdataset(dataset.directory, shardshuffle=3, seed=0)
    loader = DataLoader(pipeline, batch_size=None, num_workers=2, multiprocessing_context=context)
    clips = [type(clip)(*(np.asarray(v) if hasattr(v, "numpy") else v for v in clip)) for clip in loader]
    assert_all(clips, dataset)


def test_nodes_share_the_shards_as_they_are_told(dataset, monkeypatch):
    monkeypatch.setattr(webdataset.utils, "pytorch_worker_info", lambda group=None: (1, 2, 0, 1))
    own = list(open_webdataset(dataset.directory, nodesplitter=webdataset.split_by_node))
    assert [clip.name for clip in own] == [dataset[i].name for i in (3, 4, 5)]
    with pytest.raises(ValueError, match="nodesplitter"):
        list(open_webdataset(dataset.directory))


def test_a_remote_data_set_is_read_through_the_cache(dataset, tmp_path):
    pytest.importorskip("aiohttp", reason="http:// needs aiohttp")
    config = CacheConfig(directory=tmp_path / "cache", backoff_s=0.01)
    name = dataset.manifest.shards[1].name
    with FaultyServer(folder(dataset.directory.parent)) as server:
        server.faults[name].append("flip")
        pipeline = open_webdataset(f"{server.url}/{dataset.directory.name}", config)
        for _ in range(2):
            assert_all(list(pipeline), dataset, order=list(range(7)))
        assert server.requests[name] == 2


def test_one_flipped_bit_is_an_error_that_names_shard_and_key(dataset, tmp_path):
    copied = shutil.copytree(dataset.directory, tmp_path / "copy")
    place = np.load(copied / "strips.npy")[np.load(copied / "samples.npy")["first_strip"][4]]
    shard = copied / "shard-000001.tar"
    data = bytearray(shard.read_bytes())
    data[int(place["offset"]) + int(place["bytes"]) - 9] ^= 1
    shard.write_bytes(data)
    clips = iter(open_webdataset(copied))
    for i in range(4):
        assert_equal(next(clips), dataset[i])
    with pytest.raises(
        DamagedClipError, match=r"shard-000001\.tar, key 000000004: the checksum of .* is wrong.*--verify"
    ):
        next(clips)


def test_a_shard_that_is_no_tar_file_any_more_is_named(dataset, tmp_path):
    copied = shutil.copytree(dataset.directory, tmp_path / "copy")
    shard = copied / "shard-000002.tar"
    pipeline = open_webdataset(copied)
    os.truncate(shard, 1000)
    with pytest.raises(UserError, match=r"shard-000002\.tar cannot be read .*pack the data set again"):
        list(pipeline)
