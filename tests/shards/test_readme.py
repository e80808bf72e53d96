"""The README's programs run, and what it says of the bytes is enough to read them.

Nothing of the package is used to read here, but to compare.
"""

import io
import json
import re
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shards.dataset import ShardDataset
from tests.project import ROOT
from tools.trials.ready_samples import write_samples

README = (ROOT / "shards" / "README.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
CLASSES = ("clap", "jump", "wave")


@pytest.fixture
def readme_folder(tmp_path, synthetic_sample, monkeypatch) -> Path:
    """A current folder with a data set at data/train, each clip one film strip with masks; nothing else."""
    samples = (synthetic_sample(number, 6 + number, frames_per_part=1000) for number in range(5))
    write_samples(tmp_path / "data" / "train", samples, CLASSES, samples_per_shard=3)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def program(word: str) -> dict:
    """The names that the README's only block with this word defines."""
    (block,) = [block for block in BLOCKS if word in block]
    names: dict = {"io": io, "json": json}
    exec(block, names)
    return names


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # webdataset leaves its files for the collector to close
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_every_program_of_the_readme_runs_one_after_another(readme_folder, capsys):
    assert len(BLOCKS) == 10
    names: dict = {}
    for block in BLOCKS:
        exec(block, names)
    assert "clap/clip00" in capsys.readouterr().out
    dataset = ShardDataset.open("data/train")
    assert np.array_equal(np.asarray(names["strips"][1]).reshape(-1, 48, 71, 3), dataset[1].frames)
    assert list(dataset.verify()) == []  # the indexes that the last one made


@pytest.mark.parametrize("location", ["tiny", "older"])
def test_a_shard_is_read_with_tarfile_and_pillow_alone(location, tiny_dataset):
    directory = tiny_dataset if location == "tiny" else ROOT / "tests" / "shards" / "data" / "filmstrip"
    read_shard = program("def read_shard")["read_shard"]
    clips = [clip for path in sorted(directory.glob("shard-*.tar")) for clip in read_shard(path)]
    expected = list(ShardDataset.open(directory))
    assert len(clips) == len(expected)
    for (frames, masks, label, scene, info), clip in zip(clips, expected, strict=True):
        assert np.array_equal(frames, clip.frames)
        assert np.array_equal(masks, clip.masks) if masks is not None else clip.masks.size == 0
        assert np.array_equal(scene, clip.scene) if scene is not None else clip.scene.size == 0
        assert (label, info["name"], info["frame_count"]) == (clip.label, clip.name, len(clip.frames))
        share = None if masks is None else masks.any(axis=(1, 2)).mean()
        assert info["person_share"] == (share if share is None else pytest.approx(share))


@pytest.mark.parametrize(("first", "end"), [(0, 1), (2, 5), (5, 9), (0, 9)])
def test_frames_are_cut_out_of_a_film_strip_by_copying_bytes(tiny_dataset, first, end):
    tables = read_tables(tiny_dataset)
    offset, size, *_ = tables.strips[tables.samples[3][4]]
    with (tiny_dataset / "shard-000000.tar").open("rb") as shard:
        shard.seek(offset)
        strip = shard.read(size)
    cut = program("def cut_frames")["cut_frames"](strip, first, end)
    frames = np.asarray(Image.open(io.BytesIO(cut))).reshape(end - first, 48, 71, 3)
    assert np.array_equal(frames, ShardDataset.open(tiny_dataset)[3].frames[first:end])
    assert strip[20:22] == b"\xff\xe9"
    assert strip[24:35] == bytes.fromhex("46 49 4C 4D 53 54 52 49 50 00 02")


def npy_rows(data: bytes, size: int) -> list[bytes]:
    """The rows of a .npy file of version 1.0."""
    assert data[:8] == b"\x93NUMPY\x01\x00"
    start = 10 + struct.unpack_from("<H", data, 8)[0]
    assert (len(data) - start) % size == 0
    return [data[place : place + size] for place in range(start, len(data), size)]


class Tables:
    """The rows of an index, read by the offsets that the README gives."""

    def __init__(self, samples: bytes, strips: bytes) -> None:
        self.samples = [struct.unpack("<qqqqQIIII QII QII QII QII", row) for row in npy_rows(samples, 120)]
        self.strips = [struct.unpack("<QIIII", row) for row in npy_rows(strips, 24)]


def read_tables(directory: Path) -> Tables:
    return Tables((directory / "samples.npy").read_bytes(), (directory / "strips.npy").read_bytes())


@pytest.fixture(params=["tiny", "filmstrip", "h264"])
def directory(request, tiny_dataset) -> Path:
    return tiny_dataset if request.param == "tiny" else ROOT / "tests" / "shards" / "data" / request.param


def test_the_tables_lead_to_every_byte_of_every_clip(directory):
    tables, manifest = read_tables(directory), json.loads((directory / "manifest.json").read_bytes())
    dataset = ShardDataset.open(directory)
    assert len(tables.samples) == len(dataset)
    part = 0
    for i, row in enumerate(tables.samples):
        label, frame_count, height, width, first, count, shard_number, mask_height, mask_width, *places = row
        data = (directory / manifest["shards"][shard_number]["name"]).read_bytes()
        members = {}
        for name, place in zip(("masks", "scene", "cls", "json"), range(0, 12, 3), strict=True):
            offset, size, crc32 = places[place : place + 3]
            members[name] = data[offset : offset + size]
            assert zlib.crc32(members[name]) == crc32
        info = json.loads(members["json"])
        clip = dataset[i]
        assert (label, info["name"]) == (int(members["cls"]), clip.name)
        assert (frame_count, height, width, 3) == clip.frames.shape
        assert (mask_height, mask_width) == clip.masks.shape[1:]
        assert first == part
        frames_of_parts = 0
        for offset, size, crc32, header_bytes, part_frames in tables.strips[first : first + count]:
            content = data[offset : offset + size]
            assert zlib.crc32(content) == crc32
            frames_of_parts += part_frames
            if manifest["codec"] == "filmstrip":
                check_strip(content, header_bytes, part_frames, width, height)
            else:
                assert header_bytes == 0
                assert content[4:8] == b"ftyp"
        part += count
        assert frames_of_parts == frame_count
        if mask_width:
            packed = np.frombuffer(members["masks"][-frame_count * mask_height * -(-mask_width // 8) :], np.uint8)
            bits = [[byte >> (7 - bit) & 1 for bit in range(8)] for byte in packed.tolist()]
            masks = np.array(bits, bool).reshape(frame_count, mask_height, -1)
            assert np.array_equal(masks[:, :, :mask_width], clip.masks)
            assert not masks[:, :, mask_width:].any()
        if members["scene"]:
            assert np.array_equal(np.frombuffer(members["scene"][-730:], "<f2"), clip.scene)
    assert part == len(tables.strips)


def check_strip(data: bytes, header_bytes: int, frame_count: int, width: int, height: int) -> None:
    """Compare a film strip with what the README says of its header and markers."""
    size, *tag = struct.unpack_from(">H11B", data, 22)
    assert size == 2 + 11 + 4 * (frame_count + 1)
    offsets = struct.unpack_from(f"<{frame_count + 1}I", data, 35)
    assert (offsets[0], header_bytes + offsets[-1]) == (0, len(data))
    sof, dri = data.index(b"\xff\xc0", 20 + 2 + size), data.index(b"\xff\xdd", 20 + 2 + size)
    assert struct.unpack_from(">HH", data, sof + 5) == (frame_count * height, width)
    assert data[sof + 11] == 0x21  # of luma: 2 samples across, 1 down
    assert struct.unpack_from(">H", data, dri + 4) == (-(-width // 16),)
    scan = data[header_bytes:]
    markers = [k for k in range(len(scan) - 1) if scan[k] == 0xFF and scan[k + 1] != 0]
    assert len(markers) == frame_count * height // 8
    assert [scan[k + 1] for k in markers[:-1]] == [0xD0 + number % 8 for number in range(len(markers) - 1)]
    assert scan[markers[-1] :] == b"\xff\xd9"
    assert list(offsets[1:]) == [markers[(k + 1) * height // 8 - 1] + 2 for k in range(frame_count)]
    assert bytes(tag) == b"FILMSTRIP\x00\x02"


def test_the_indexes_of_shards_are_those_of_the_data_set_in_parts(directory):
    whole, samples, strips = read_tables(directory), [], []
    for number, path in enumerate(sorted(directory.glob("shard-*.index.npz"))):
        with zipfile.ZipFile(path) as archive:
            assert all(entry.compress_type == zipfile.ZIP_STORED for entry in archive.infolist())
            assert sorted(archive.namelist()) == ["samples.npy", "scenes.npy", "strips.npy"]
            own = Tables(archive.read("samples.npy"), archive.read("strips.npy"))
        assert {row[6] for row in own.samples} == {0}
        samples += [(*row[:4], row[4] + len(strips), row[5], number, *row[7:]) for row in own.samples]
        strips += own.strips
        head, *lines = path.with_name(path.name.replace(".index.npz", ".idx")).read_text().splitlines()
        assert head == f"v1.2 {len(own.samples)}"
        places = [dict(zip(words[::4], words[1::4], strict=True)) for words in map(str.split, lines)]
        assert [int(place["cls"]) for place in places] == [row[15] for row in own.samples]
        for words, row in zip(map(str.split, lines), own.samples, strict=True):
            assert all(words[3::4][k].endswith(f".{name}") for k, name in enumerate(words[::4]))
            assert len(words[::4]) == row[5] + 2 + (row[9] > 0) + (row[12] > 0)
    assert (samples, strips) == (whole.samples, whole.strips)


def test_the_fields_of_the_manifest_are_those_of_the_readme(directory):
    manifest = json.loads((directory / "manifest.json").read_bytes())
    section = README.partition("### `manifest.json`")[2].partition("### ")[0]
    first_cells = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
    assert sorted(manifest) == sorted(name for cell in first_cells for name in re.findall(r"`(\w+)`", cell))


def test_every_file_of_the_package_is_in_the_reading_order():
    for path in (ROOT / "shards").rglob("*.py"):
        of_sources = path.is_relative_to(ROOT / "shards/sources")
        text = (ROOT / "shards/sources/README.md").read_text() if of_sources else README
        if path.name != "__init__.py":
            assert f"`{path.name}`" in text, path
