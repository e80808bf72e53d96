"""Whole clips as the users of a data set know it: ``dataset[i]``, alone and through PyTorch's DataLoader."""

import shutil

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Subset

from shards.clip import Clip
from shards.codecs.filmstrip import MAX_STRIP_ROWS
from shards.codecs.masks import unpack_masks
from shards.dataset import ShardDataset
from shards.errors import DamagedClipError
from tests.forked import FORKED
from tools.trials.ready_samples import write_samples

CLASSES = ("clap", "jump", "wave")
CODECS = ("filmstrip", "h264")


@pytest.fixture(scope="module", params=CODECS)
def dataset(request, tmp_path_factory, synthetic_sample):
    """Clips with masks and a scene, without masks, without a scene, and without either; of one part and of several."""
    samples = [
        synthetic_sample(
            number,
            6 + 7 * number,
            width=64,
            masks=number % 2 == 0,
            scene=number < 2,
            codec=request.param,
            frames_per_part=8,
        )
        for number in range(4)
    ]
    directory = tmp_path_factory.mktemp("clips") / request.param
    write_samples(directory, samples, CLASSES, samples_per_shard=3)
    return ShardDataset.open(directory)


def assert_equal(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        assert type(one) is type(other)
        assert one.dtype == other.dtype if isinstance(one, np.ndarray) else True
        assert np.array_equal(one, other)


def test_a_clip_holds_all_that_is_stored_of_it(dataset, synthetic_sample):
    assert dataset.classes == CLASSES
    for i in range(len(dataset)):
        info = dataset.info(i)
        stored = dataset.read_clip(i, np.arange(info.frame_count))
        clip = dataset[i]
        assert clip.frames.dtype == np.uint8
        assert clip.frames.shape == (info.frame_count, 48, 64, 3)
        assert np.array_equal(clip.frames, dataset.decode(i, stored))
        assert (clip.label, clip.name) == (dataset.labels[i], info.name)
        assert dataset.classes[clip.label] == info.class_name
        assert clip.masks.dtype == np.bool_
        if stored.masks is None:
            assert clip.masks.shape == (info.frame_count, 0, 0)
        else:
            assert np.array_equal(clip.masks, unpack_masks(stored.masks, info.mask_width))
            assert clip.masks.any()
        assert clip.scene.dtype == np.float32
        assert np.array_equal(clip.scene, dataset.scenes[i] if i < 2 else [])
    assert [clip.masks.size > 0 for clip in dataset] == [True, False, True, False]


def test_clips_are_taken_as_from_any_sequence(dataset):
    assert_equal(dataset[-1], dataset[3])
    assert_equal(dataset[np.int64(1)], dataset[1])
    assert [clip.name for clip in dataset] == [dataset.info(i).name for i in range(4)]
    for beyond in (4, -5):
        with pytest.raises(IndexError, match=f"clip {beyond} of 4"):
            dataset[beyond]
    for other in (slice(2), 1.0, "clap/clip00"):
        with pytest.raises(TypeError, match="named by an integer"):
            dataset[other]
    assert [clip.name for clip in Subset(dataset, [2, 0])] == [dataset[2].name, dataset[0].name]


@pytest.mark.parametrize("context", ["fork", FORKED], ids=["inherited", "pickled"])
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_data_loader_with_workers_gives_the_same_clips(dataset, context):
    loader = DataLoader(dataset, num_workers=2, batch_size=None, multiprocessing_context=context)
    loaded = list(loader)
    assert len(loaded) == 4
    for i, clip in enumerate(loaded):
        assert isinstance(clip, Clip)
        assert torch.is_tensor(clip.frames)
        assert_equal([np.asarray(value) if torch.is_tensor(value) else value for value in clip], dataset[i])


def test_a_data_loader_without_any_option_takes_clips_of_every_kind(dataset):
    for i, batch in enumerate(DataLoader(dataset)):
        clip = dataset[i]
        assert isinstance(batch, Clip)
        for name in ("frames", "masks", "scene"):
            assert batch._asdict()[name].shape == (1, *clip._asdict()[name].shape)
        assert batch.label.tolist() == [clip.label]
        assert batch.name == (clip.name,)
    assert i == 3


def test_a_clip_may_be_longer_than_one_film_strip(tmp_path, synthetic_sample):
    frame_count = MAX_STRIP_ROWS // 48 + 50
    sample = synthetic_sample(0, frame_count, width=16, frames_per_part=frame_count - 100)
    write_samples(tmp_path, [sample], ("clap",))
    dataset = ShardDataset.open(tmp_path)
    clip = dataset[0]
    assert len(clip.frames) == len(clip.masks) == frame_count
    last = np.arange(frame_count - 3, frame_count)
    assert np.array_equal(clip.frames[-3:], dataset.decode(0, dataset.read_clip(0, last)))


@pytest.mark.parametrize("component", ["frames", "masks"])
def test_one_flipped_bit_is_an_error_that_names_the_clip(dataset, tmp_path, component):
    copied = shutil.copytree(dataset.directory, tmp_path / "copy")
    row = np.load(copied / "samples.npy")[2]
    place = np.load(copied / "strips.npy")[row["first_strip"] + 1] if component == "frames" else row[component]
    shard = copied / "shard-000000.tar"
    data = bytearray(shard.read_bytes())
    data[int(place["offset"]) + int(place["bytes"]) - 9] ^= 1
    shard.write_bytes(data)
    damaged = ShardDataset.open(copied)
    with pytest.raises(DamagedClipError, match=r"'wave/clip02' in .*shard-000000\.tar, sample 2, byte \d+: .*checksum"):
        damaged[2]
    assert_equal(damaged[1], dataset[1])
