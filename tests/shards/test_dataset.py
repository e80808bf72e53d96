import gc
import json
import multiprocessing
import os
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shards.codecs.filmstrip import decode_strip
from shards.dataset import ShardDataset
from shards.errors import UserError
from shards.format.index import rebuild_index
from shards.storage import store as shard_store
from tools.trials.ready_samples import write_samples

CLASSES = ("clap", "jump", "wave")


@pytest.fixture(scope="session")
def dataset(tiny_dataset):
    return ShardDataset.open(tiny_dataset)


@pytest.fixture
def copy(tiny_dataset, tmp_path):
    return shutil.copytree(tiny_dataset, tmp_path / "copy")


def test_fields_are_those_of_the_written_samples(dataset, synthetic_sample):
    assert len(dataset) == 12
    assert dataset.labels.tolist() == [0, 1, 2] * 4
    assert dataset.frame_counts.tolist() == [20, 21, 22, 9, 24, 25, 26, 75, 28, 29, 30, 31]
    assert dataset.frame_sizes.tolist() == [[48, 71], [48, 64], [48, 85]] * 4
    assert dataset.shard_starts.tolist() == [0, 5, 10, 12]
    assert dataset.has_masks
    assert dataset.has_scenes
    assert dataset.mask_sizes(0).tolist() == [24, 35]
    assert dataset.mask_sizes(5).tolist() == [0, 0]
    for i in range(12):
        sample = synthetic_sample(i, dataset.frame_counts[i].item(), width=(71, 64, 85)[i % 3], masks=i != 5)
        assert dataset.info(i) == sample.info
        assert np.array_equal(dataset.scenes[i], sample.scene)


@given(st.data())
@settings(deadline=None)
def test_any_frames_of_any_clip_are_those_of_the_written_sample(dataset, synthetic_sample, data):
    i = data.draw(st.integers(0, 11))
    frame_count = dataset.frame_counts[i].item()
    indices = np.array(data.draw(st.lists(st.integers(0, frame_count - 1), min_size=1, max_size=32)))
    sample = synthetic_sample(i, frame_count, width=(71, 64, 85)[i % 3], masks=i != 5)
    whole = np.concatenate([decode_strip(strip, 48) for strip in sample.parts])

    clip = dataset.read_clip(i, indices)
    assert np.array_equal(dataset.decode(i, clip), whole[indices])
    if sample.masks is None:
        assert clip.masks is None
    else:
        assert np.array_equal(clip.masks, sample.masks[indices])


def test_only_wanted_bytes_are_read(dataset, monkeypatch):
    sizes = []
    pread = os.pread

    def counting_pread(descriptor, size, offset):
        sizes.append(size)
        return pread(descriptor, size, offset)

    monkeypatch.setattr(os, "pread", counting_pread)
    clip = dataset.read_clip(7, np.array([30, 31]))
    assert len(sizes) == 3  # header, frames, masks
    assert sum(sizes) < len(clip.parts[0].data) + clip.masks.nbytes + 200


def test_frames_outside_are_refused(dataset):
    with pytest.raises(ValueError, match=r"range\(9\)"):
        dataset.read_clip(3, np.array([9]))


CODECS = ("h264", "hevc", "vp9")


@pytest.fixture(scope="module")
def video_directories(tmp_path_factory, synthetic_sample):
    """By codec, a data set of four clips of 5 to 44 frames in segments of 8."""
    directories = {codec: tmp_path_factory.mktemp("video") / codec for codec in CODECS}
    for codec, directory in directories.items():
        samples = (
            synthetic_sample(number, 5 + 13 * number, width=64, codec=codec, frames_per_part=8) for number in range(4)
        )
        write_samples(directory, samples, CLASSES, samples_per_shard=3)
    return directories


@pytest.mark.parametrize("codec", CODECS)
def test_any_frames_of_a_clip_of_video_are_those_of_its_segments(video_directories, codec):
    dataset = ShardDataset.open(video_directories[codec])
    assert dataset.codec == codec
    assert list(dataset.verify()) == []
    random = np.random.default_rng(0)
    for i, count in enumerate(dataset.frame_counts.tolist()):
        whole = dataset.decode(i, dataset.read_clip(i, np.arange(count)))
        all_masks = dataset.read_clip(i, np.arange(count)).masks
        assert whole.shape == (count, 48, 64, 3)
        for _ in range(5):
            indices = random.integers(0, count, random.integers(1, 20))
            clip = dataset.read_clip(i, indices)
            assert np.array_equal(dataset.decode(i, clip), whole[indices])
            assert np.array_equal(clip.masks, all_masks[indices])


def test_only_the_segments_of_a_window_are_read(video_directories, monkeypatch):
    dataset = ShardDataset.open(video_directories["h264"])
    sizes = []
    pread = os.pread
    monkeypatch.setattr(
        os,
        "pread",
        lambda descriptor, size, offset: sizes.append(size) or pread(descriptor, size, offset),
    )
    clip = dataset.read_clip(3, np.arange(14, 20))
    assert [part.frames.tolist() for part in clip.parts] == [[6, 7], [0, 1, 2, 3]]
    assert sizes == [*(len(part.data) for part in clip.parts), clip.masks.nbytes]


def test_the_index_of_a_data_set_of_video_is_rebuilt_to_the_byte(video_directories, tmp_path):
    copied = shutil.copytree(video_directories["vp9"], tmp_path / "copy")
    for path in [*copied.glob("*.np*"), *copied.glob("*.idx")]:
        path.unlink()
    rebuild_index(copied)
    for path in copied.iterdir():
        assert path.read_bytes() == (video_directories["vp9"] / path.name).read_bytes()


@pytest.mark.parametrize("codec", CODECS)
def test_one_flipped_bit_of_a_segment_is_named_when_it_is_verified_and_when_it_is_read(
    video_directories, tmp_path, codec
):
    copied = shutil.copytree(video_directories[codec], tmp_path / "copy")
    part = np.load(copied / "strips.npy")[int(np.load(copied / "samples.npy")["first_strip"][2]) + 1]
    shard = copied / "shard-000000.tar"
    data = bytearray(shard.read_bytes())
    data[int(part["offset"]) + int(part["bytes"]) // 2] ^= 1
    shard.write_bytes(data)
    dataset = ShardDataset.open(copied)
    _, problem = dataset.verify()
    assert "sample 2: the checksum of 001.video.mp4 is wrong" in problem
    dataset.read_clip(2, np.arange(8))
    with pytest.raises(UserError, match=r"sample 2, byte \d+: damaged video segment: its checksum is wrong.*--verify"):
        dataset.read_clip(2, np.arange(9))


def test_a_segment_that_was_damaged_before_it_was_packed_is_named(tmp_path, synthetic_sample):
    """Its checksum is right."""
    sample = synthetic_sample(0, 8, width=64, codec="h264", frames_per_part=8)
    (part,) = sample.parts
    start = part.index(b"mdat") + 700
    damaged = part[:start] + bytes(200) + part[start + 200 :]
    write_samples(tmp_path / "d", [replace(sample, parts=(damaged,))], CLASSES)
    (problem,) = ShardDataset.open(tmp_path / "d").verify()
    assert "sample 0: " in problem
    assert "damaged" in problem


def test_an_unknown_codec_is_named(copy):
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps(manifest | {"codec": "av1"}))
    with pytest.raises(UserError, match=r"codec must be one of filmstrip.*got 'av1'.*make_shards"):
        ShardDataset.open(copy)


def read_everything(dataset):
    clips = (dataset.read_clip(i, np.arange(0, dataset.frame_counts[i], 2)) for i in range(len(dataset)))
    return [[part.data for part in clip.parts] for clip in clips]


def read_in_child(dataset, connection):
    connection.send(read_everything(dataset))


@pytest.mark.parametrize("open_files", [1, 256])
def test_threads_read_what_one_reader_reads(dataset, monkeypatch, open_files):
    monkeypatch.setattr(shard_store, "OPEN_FILES", open_files)
    shared = ShardDataset.open(dataset.directory)
    with ThreadPoolExecutor(8) as pool:
        for strips in pool.map(lambda _: read_everything(shared), range(16)):
            assert strips == read_everything(dataset)


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_other_processes_read_what_this_one_reads(dataset, method):
    expected = read_everything(dataset)
    context = multiprocessing.get_context(method)
    ours, theirs = context.Pipe()
    process = context.Process(target=read_in_child, args=(dataset, theirs))
    process.start()
    theirs.close()  # so that a child that dies ends the wait
    assert ours.recv() == expected
    process.join()
    assert process.exitcode == 0
    assert read_everything(dataset) == expected


def test_pickling_opens_the_directory_again(dataset):
    assert read_everything(pickle.loads(pickle.dumps(dataset))) == read_everything(dataset)


def test_open_files_are_bounded_and_closed(dataset, monkeypatch):
    def open_shards():
        targets = [link.resolve() for link in Path("/proc/self/fd").iterdir()]
        return sum(target.parent == directory and target.suffix == ".tar" for target in targets)

    monkeypatch.setattr(shard_store, "OPEN_FILES", 2)
    directory = dataset.directory.resolve()
    gc.collect()
    before = open_shards()
    bounded = ShardDataset.open(directory)
    assert open_shards() == before
    read_everything(bounded)
    assert open_shards() == before + 2
    del bounded
    gc.collect()
    assert open_shards() == before


def test_a_whole_data_set_has_no_problems(dataset):
    assert list(dataset.verify()) == []


@pytest.mark.parametrize("component", ["frames", "masks", "scene", "cls", "json"])
def test_one_flipped_bit_is_found_and_the_sample_named(copy, component):
    row = np.load(copy / "samples.npy")[6]
    place = np.load(copy / "strips.npy")[row["first_strip"]] if component == "frames" else row[component]
    shard = copy / "shard-000001.tar"
    data = bytearray(shard.read_bytes())
    data[int(place["offset"]) + int(place["bytes"]) // 2] ^= 1
    shard.write_bytes(data)
    of_shard, problem = ShardDataset.open(copy).verify()
    assert "shard-000001.tar: its SHA-256" in of_shard
    assert "shard-000001.tar, sample 6" in problem
    assert "checksum" in problem
    assert component in problem


def test_a_shard_cut_short_is_refused_with_a_remedy(copy):
    shard = copy / "shard-000002.tar"
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"shard-000002\.tar has \d+ bytes, the manifest says \d+.*--overwrite"):
        ShardDataset.open(copy)


def test_a_shard_cut_short_while_open_is_named(copy):
    dataset = ShardDataset.open(copy)
    os.truncate(copy / "shard-000002.tar", 2000)
    with pytest.raises(UserError, match=r"shard-000002\.tar, sample 11.*the shard is cut short"):
        dataset.read_clip(11, np.arange(9))
    assert any("cut short" in problem for problem in dataset.verify())


def test_a_damaged_strip_is_named_as_it_is_read(copy):
    strip = np.load(copy / "strips.npy")[np.load(copy / "samples.npy")["first_strip"][2]]
    shard = copy / "shard-000000.tar"
    whole = shard.read_bytes()
    table = whole.index(b"FILMSTRIP", int(strip["offset"]))
    for position in (table, table + 13):  # its tag; the high byte of its first offset
        data = bytearray(whole)
        data[position] ^= 0x40
        shard.write_bytes(data)
        with pytest.raises(UserError, match=r"shard-000000\.tar, sample 2, byte \d+: .*film strip.*--verify"):
            ShardDataset.open(copy).read_clip(2, np.arange(4))


def test_missing_files_are_named_with_a_remedy(copy):
    (copy / "strips.npy").unlink()
    with pytest.raises(UserError, match=r"strips\.npy cannot be read.*--rebuild-index"):
        ShardDataset.open(copy)
    (copy / "shard-000000.tar").unlink()
    with pytest.raises(UserError, match=r"shard-000000\.tar is missing"):
        ShardDataset.open(copy)


@pytest.mark.parametrize("name", ["samples.npy", "strips.npy", "scenes.npy"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: np.save(path, np.load(path)[:-1]),
        lambda path: np.save(path, np.zeros(len(np.load(path)))),
    ],
    ids=["empty", "cut short", "of fewer clips", "of another type"],
)
def test_an_index_that_does_not_belong_is_refused(copy, name, damage):
    damage(copy / name)
    with pytest.raises(UserError, match=rf"{name} cannot be read .*--rebuild-index"):
        ShardDataset.open(copy)


def test_scene_labels_in_the_index_are_compared_with_the_shards(copy):
    scenes = np.load(copy / "scenes.npy")
    scenes[4] = scenes[5]
    np.save(copy / "scenes.npy", scenes)
    (problem,) = ShardDataset.open(copy).verify()
    assert f"{copy / 'scenes.npy'} is not the index of these shards" in problem


def test_information_that_cannot_be_read_is_named(copy):
    shard = copy / "shard-000001.tar"
    shard.write_bytes(bytes(shard.stat().st_size))
    with pytest.raises(UserError, match=r"shard-000001\.tar, sample 6, byte \d+: .*--verify"):
        ShardDataset.open(copy).info(6)


def test_bytes_of_a_shard_outside_every_component_are_verified_too(copy):
    shard = copy / "shard-000001.tar"
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    (problem,) = ShardDataset.open(copy).verify()
    assert problem.endswith("shard-000001.tar: its SHA-256 is not the manifest's")
