import gc
import hashlib
import warnings

import numpy as np
import webdataset
from nvidia.dali import fn, pipeline_def

from shards.codecs.filmstrip import decode_strip
from shards.dataset import ShardDataset
from shards.format.growing_shard import GrowingShard
from shards.format.manifest import Manifest
from shards.format.sample import Sample
from tools.trials.ready_samples import write_samples

CLASSES = ("clap", "jump", "wave")


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def content(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_the_record_of_a_shard_is_that_of_its_file_and_of_what_it_holds(tmp_path, synthetic_sample):
    samples = [synthetic_sample(number, 5, masks=number % 2 == 0, scene=number < 2) for number in range(5)]
    with GrowingShard(tmp_path / "growing") as shard:
        for number, sample in enumerate(samples):
            shard.append(number, sample.components())
        record = shard.finish(tmp_path / "shard-000000.tar")
    data = (tmp_path / "shard-000000.tar").read_bytes()
    assert (record.bytes, record.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert (record.name, record.samples, record.masks, record.scenes) == ("shard-000000.tar", 5, 3, 2)
    assert names(tmp_path) == ["shard-000000.idx", "shard-000000.index.npz", "shard-000000.tar"]


def test_same_samples_give_the_same_bytes(tmp_path, synthetic_sample):
    samples = [synthetic_sample(number, 5, masks=number % 2 == 0) for number in range(4)]
    for name in ("a", "b"):
        write_samples(tmp_path / name, samples, CLASSES, samples_per_shard=2)
    assert content(tmp_path / "a") == content(tmp_path / "b")


def test_shards_of_any_number_of_samples_make_one_data_set(tmp_path, synthetic_sample):
    samples = [synthetic_sample(number, 5, masks=number % 2 == 0, scene=number < 2) for number in range(7)]
    manifest = write_samples(tmp_path, samples, CLASSES, samples_per_shard=3)
    assert [(shard.samples, shard.masks, shard.scenes) for shard in manifest.shards] == [
        (3, 2, 2),
        (3, 1, 0),
        (1, 1, 0),
    ]
    assert Manifest.load(tmp_path) == manifest
    dataset = ShardDataset.open(tmp_path)
    assert (len(dataset), dataset.mask_count, dataset.scene_count) == (7, 4, 2)


def test_scenes_file_exists_only_when_there_are_scenes(tmp_path, synthetic_sample):
    write_samples(tmp_path / "without", [synthetic_sample(0, 5, scene=False)], CLASSES)
    assert "scenes.npy" not in names(tmp_path / "without")
    write_samples(tmp_path / "some", [synthetic_sample(0, 5, scene=False), synthetic_sample(1, 5)], CLASSES)
    assert np.load(tmp_path / "some" / "scenes.npy").any(axis=1).tolist() == [False, True]


def test_a_shard_that_is_left_stays_as_it_was_and_one_that_is_given_up_leaves_nothing(tmp_path, synthetic_sample):
    path = tmp_path / "growing"
    with GrowingShard(path) as shard:
        shard.append(0, synthetic_sample(0, 5).components())
        size, _ = shard.sync()
    assert names(tmp_path) == ["growing"]
    with GrowingShard(path, size) as shard:
        assert shard.samples == 1
        shard.discard()
    assert names(tmp_path) == []


def test_the_webdataset_package_reads_the_shards(tiny_dataset):
    dataset = ShardDataset.open(tiny_dataset)
    shards = [str(tiny_dataset / shard.name) for shard in dataset.manifest.shards]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # the package leaves its files for the collector to close
        samples = list(webdataset.WebDataset(shards, shardshuffle=False, empty_check=False))
        gc.collect()
    assert [sample["__key__"] for sample in samples] == [f"{i:09d}" for i in range(12)]
    for i, sample in enumerate(samples):
        stored = Sample.from_components({name: data for name, data in sample.items() if not name.startswith("__")})
        assert stored.info == dataset.info(i)
        assert stored.label == dataset.labels[i]
        whole = np.concatenate([decode_strip(strip, 48) for strip in stored.parts])
        clip = dataset.read_clip(i, np.arange(dataset.frame_counts[i]))
        assert np.array_equal(dataset.decode(i, clip), whole)
        assert np.array_equal(clip.masks, stored.masks) if stored.masks is not None else clip.masks is None


def test_dalis_webdataset_reader_reads_the_shards_by_their_own_index(tmp_path, synthetic_sample):
    samples = (synthetic_sample(number, 6 + number) for number in range(5))
    write_samples(tmp_path, samples, CLASSES, samples_per_shard=3)
    dataset = ShardDataset.open(tmp_path)

    @pipeline_def(batch_size=5, num_threads=1, device_id=None)
    def pipeline():
        jpeg, masks, label = fn.readers.webdataset(
            paths=[str(path) for path in sorted(tmp_path.glob("*.tar"))],
            index_paths=[str(path) for path in sorted(tmp_path.glob("*.idx"))],
            ext=["frames.jpg", "masks.npy", "cls"],
            missing_component_behavior="error",
        )
        return fn.decoders.image(jpeg, device="cpu"), masks, label

    pipe = pipeline()
    pipe.build()
    images, masks, labels = pipe.run()
    for i in range(5):
        clip = dataset.read_clip(i, np.arange(dataset.frame_counts[i]))
        assert np.array_equal(np.asarray(images[i]).reshape(-1, 48, 71, 3), dataset.decode(i, clip))
        assert np.asarray(masks[i]).tobytes().endswith(clip.masks.tobytes())
        assert int(np.asarray(labels[i]).tobytes()) == dataset.labels[i]
