import shutil
import subprocess
import sys

import numpy as np
import pytest

from shards.dataset import ShardDataset
from shards.errors import UserError
from shards.index import find_shards, read_shard, rebuild_index


@pytest.fixture
def copy(tiny_dataset, tmp_path):
    return shutil.copytree(tiny_dataset, tmp_path / "copy")


def test_rebuilt_indexes_are_the_writers_to_the_byte(tiny_dataset, copy):
    for path in copy.iterdir():
        if path.suffix != ".tar" and path.name != "manifest.json":
            path.unlink()
    rebuild_index(copy)
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == {
        path.name: path.read_bytes() for path in tiny_dataset.iterdir()
    }


def test_dali_index_is_what_dalis_own_tool_writes(tiny_dataset, tmp_path):
    for shard in find_shards(tiny_dataset):
        expected = tmp_path / "expected.idx"
        subprocess.run([sys.executable, "-m", "wds2idx", shard, expected], check=True, capture_output=True)
        assert shard.with_suffix(".idx").read_bytes() == expected.read_bytes()


def test_indexed_bytes_are_the_components(tiny_dataset):
    samples, strips = np.load(tiny_dataset / "samples.npy"), np.load(tiny_dataset / "strips.npy")
    i = 0
    for number, shard in enumerate(find_shards(tiny_dataset)):
        data = shard.read_bytes()
        for _, members in read_shard(shard):
            row = samples[i]
            assert row["shard"] == number
            places = {name: row[name.partition(".")[0]] for name in ("masks.npy", "scene.npy", "cls", "json")}
            first = row["first_strip"]
            frames = strips[first : first + row["strip_count"]]
            for member in members:
                place = places.get(member.name)
                if place is None:
                    strip, _, rest = member.name.partition(".")
                    place = frames[int(strip) if rest == "frames.jpg" else 0]
                assert data[place["offset"] : place["offset"] + place["bytes"]] == member.data
            i += 1
    assert i == len(samples)


def test_a_shard_cut_short_is_named(copy):
    shard = find_shards(copy)[1]
    shard.write_bytes(shard.read_bytes()[:-20_000])
    with pytest.raises(UserError, match=r"shard-000001\.tar is damaged.*pack again"):
        rebuild_index(copy)
    (copy / "manifest.json").unlink()
    with pytest.raises(UserError, match=r"shard-000001\.tar.*pack the data set again"):
        rebuild_index(copy)


def test_damaged_bytes_are_never_indexed_anew(copy):
    before = {path.name: path.read_bytes() for path in copy.glob("*.np*")}
    shard = find_shards(copy)[1]
    data = bytearray(shard.read_bytes())
    data[4000] ^= 1
    shard.write_bytes(data)
    with pytest.raises(UserError, match=r"shard-000001\.tar is damaged: its SHA-256 is not the manifest's; copy"):
        rebuild_index(copy)
    assert {path.name: path.read_bytes() for path in copy.glob("*.np*")} == before


def test_shards_that_the_manifest_does_not_know_are_not_indexed(copy):
    shutil.copy(copy / "shard-000000.tar", copy / "shard-000009.tar")
    with pytest.raises(UserError, match="its 4 shards are not the 3 of its manifest"):
        rebuild_index(copy)


def test_a_shard_of_zeros_is_refused(tmp_path):
    (tmp_path / "shard-000000.tar").write_bytes(bytes(10240))
    with pytest.raises(UserError, match=r"shard-000000\.tar cannot be read \(it holds no sample\)"):
        rebuild_index(tmp_path)


def test_a_directory_without_shards_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"make_shards\.py"):
        rebuild_index(tmp_path)


def test_index_is_mapped_not_read(tiny_dataset):
    assert isinstance(ShardDataset.open(tiny_dataset).scenes.base, np.memmap)
    assert isinstance(np.load(tiny_dataset / "samples.npy", mmap_mode="r"), np.memmap)
