import io
import shutil
import subprocess
import sys
import tarfile
import tracemalloc

import numpy as np
import pytest

from shards.codecs.masks import npy_bytes
from shards.dataset import ShardDataset
from shards.errors import UserError
from shards.format.index import find_shards, merge_indexes, read_shard, rebuild_index
from shards.format.sample import SCENE_COUNT


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


def test_the_merged_index_is_the_shards_indexes_one_after_another(tiny_dataset):
    shards = find_shards(tiny_dataset)
    indexes = [dict(np.load(shard.with_suffix(".index.npz"))) for shard in shards]
    first_strip = 0
    for number, index in enumerate(indexes):
        index["samples"]["shard"] = number
        index["samples"]["first_strip"] += first_strip
        first_strip += len(index["strips"])
    for field in ("samples", "strips", "scenes"):
        whole = np.concatenate([index[field] for index in indexes])
        assert (tiny_dataset / f"{field}.npy").read_bytes() == npy_bytes(whole)


def test_merging_takes_no_more_memory_for_more_shards(tiny_dataset, tmp_path):
    peaks = []
    for count in (20, 100):
        directory = tmp_path / str(count)
        directory.mkdir()
        for number in range(count):
            for suffix in (".tar", ".index.npz"):
                source = (tiny_dataset / "shard-000000").with_suffix(suffix)
                (directory / f"shard-{number:06d}").with_suffix(suffix).hardlink_to(source)
        tracemalloc.start()
        merge_indexes(directory, find_shards(directory))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert np.load(directory / "scenes.npy", mmap_mode="r").shape == (5 * count, SCENE_COUNT)
    scenes_bytes = 5 * (100 - 20) * SCENE_COUNT * 2
    assert peaks[1] - peaks[0] < scenes_bytes / 2


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


@pytest.mark.parametrize("kind", ["outside", "absolute", "link", "device", "folder"])
def test_a_member_that_is_no_component_is_refused_and_nothing_is_written_outside(tiny_dataset, tmp_path, kind):
    copy = tmp_path / "d"
    shutil.copytree(tiny_dataset, copy)
    (copy / "manifest.json").unlink()
    shard = copy / "shard-000000.tar"
    names = {"outside": "../../evil.cls", "absolute": "/tmp/evil.cls"}
    types = {"link": tarfile.SYMTYPE, "device": tarfile.CHRTYPE, "folder": tarfile.DIRTYPE}
    entry = tarfile.TarInfo(names.get(kind, "000000099.cls"))
    entry.type = types.get(kind, tarfile.REGTYPE)
    entry.linkname = "/etc/passwd" if kind == "link" else ""
    with tarfile.open(shard, "a:") as tar:
        tar.addfile(entry, io.BytesIO())
    with pytest.raises(UserError, match=rf"shard-000000\.tar cannot be read \(its member '.*{entry.name[-8:]}' is no"):
        rebuild_index(copy)
    assert {path.name for path in tmp_path.iterdir()} == {"d"}


@pytest.mark.parametrize("name", ["samples.npy", "strips.npy", "shard-000001.idx", "shard-000001.index.npz"])
def test_verify_notices_any_index_that_is_not_of_its_shards(copy, name):
    data = bytearray((copy / name).read_bytes())
    data[-20] ^= 1
    (copy / name).write_bytes(data)
    problems = list(ShardDataset.open(copy).verify())
    assert len(problems) == 1
    assert problems[0].startswith(f"{copy / name} is not the index of these shards; run ")
    rebuild_index(copy)
    assert list(ShardDataset.open(copy).verify()) == []
