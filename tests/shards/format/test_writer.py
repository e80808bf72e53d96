import gc
import hashlib
import warnings
from dataclasses import replace

import numpy as np
import pytest
import webdataset
from nvidia.dali import fn, pipeline_def

from shards.codecs.filmstrip import decode_strip
from shards.dataset import ShardDataset
from shards.errors import UserError
from shards.format.manifest import Manifest
from shards.format.sample import Sample
from shards.format.writer import ShardWriter

MANIFEST = Manifest(
    dataset="synthetic", split="1", subset="train", classes=("clap", "jump", "wave"), frame_height=48, quality=85
)


def write(directory, samples, **options):
    with ShardWriter(directory, **options) as writer:
        for sample in samples:
            writer.write(sample)
        return writer.close(MANIFEST)


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def content(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_shards_roll_over_and_the_manifest_describes_them(tmp_path, synthetic_sample):
    manifest = write(tmp_path / "out", [synthetic_sample(number, 5) for number in range(7)], samples_per_shard=3)
    assert [shard.samples for shard in manifest.shards] == [3, 3, 1]
    assert manifest.class_counts == (3, 2, 2)
    for shard in manifest.shards:
        data = (tmp_path / "out" / shard.name).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (shard.bytes, shard.sha256)
    assert Manifest.load(tmp_path / "out") == manifest


def test_the_manifest_counts_masks_and_scene_labels(tmp_path, synthetic_sample):
    samples = [synthetic_sample(number, 5, masks=number % 2 == 0, scene=number < 2) for number in range(5)]
    manifest = write(tmp_path / "out", samples, samples_per_shard=3)
    assert [(shard.masks, shard.scenes) for shard in manifest.shards] == [(2, 2), (1, 0)]
    dataset = ShardDataset.open(tmp_path / "out")
    assert (dataset.mask_count, dataset.scene_count) == (3, 2)


def test_same_samples_give_the_same_bytes(tmp_path, synthetic_sample):
    samples = [synthetic_sample(number, 5, masks=number % 2 == 0) for number in range(4)]
    write(tmp_path / "a", samples, samples_per_shard=2)
    write(tmp_path / "b", samples, samples_per_shard=2)
    assert content(tmp_path / "a") == content(tmp_path / "b")


def test_scenes_file_exists_only_when_there_are_scenes(tmp_path, synthetic_sample):
    write(tmp_path / "without", [synthetic_sample(0, 5, scene=False)])
    assert "scenes.npy" not in names(tmp_path / "without")
    write(tmp_path / "some", [synthetic_sample(0, 5, scene=False), synthetic_sample(1, 5)])
    assert np.load(tmp_path / "some" / "scenes.npy").any(axis=1).tolist() == [False, True]


@pytest.mark.parametrize("samples", [1, 4])
def test_failure_leaves_whole_shards_only_and_no_manifest(tmp_path, synthetic_sample, samples):
    def interrupted():
        for number in range(samples):
            yield synthetic_sample(number, 5)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "out", interrupted(), samples_per_shard=3)
    whole = ["shard-000000.idx", "shard-000000.index.npz", "shard-000000.tar"] if samples > 3 else []
    assert names(tmp_path / "out") == whole
    with pytest.raises(UserError, match="not a packed data set"):
        ShardDataset.open(tmp_path / "out")


def test_a_refused_sample_leaves_the_others_as_they_were(tmp_path, synthetic_sample):
    good = [synthetic_sample(number, 5) for number in range(2)]
    write(tmp_path / "good", good)
    with ShardWriter(tmp_path / "out") as writer:
        writer.write(good[0])
        with pytest.raises(UserError, match="wave/clip02"):
            writer.write(replace(synthetic_sample(2), label=-1))
        writer.write(good[1])
        writer.close(MANIFEST)
    assert content(tmp_path / "out") == content(tmp_path / "good")


def test_a_directory_in_use_is_refused_and_left_as_it_was(tmp_path, synthetic_sample):
    out = tmp_path / "out"
    write(out, [synthetic_sample(0, 5)])
    before = content(out)
    with pytest.raises(UserError, match="not an empty directory"):
        ShardWriter(out)
    assert content(out) == before


def test_wrong_use_is_refused(tmp_path, synthetic_sample):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="not an empty directory"):
        ShardWriter(tmp_path / "file")
    with pytest.raises(ValueError, match="samples_per_shard"):
        ShardWriter(tmp_path / "out", samples_per_shard=0)
    with pytest.raises(UserError, match="no clip"), ShardWriter(tmp_path / "out") as writer:
        writer.close(MANIFEST)
    with ShardWriter(tmp_path / "out") as writer:
        writer.write(replace(synthetic_sample(0, 5), label=1))
        with pytest.raises(ValueError, match="label 1 is not class 'clap'"):
            writer.close(MANIFEST)
    assert names(tmp_path / "out") == []


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
        assert np.array_equal(decode_strip(clip.strip, 48), whole)
        assert np.array_equal(clip.masks, stored.masks) if stored.masks is not None else clip.masks is None


def test_dalis_webdataset_reader_reads_the_shards_by_their_own_index(tmp_path, synthetic_sample):
    write(tmp_path, [synthetic_sample(number, 6 + number) for number in range(5)], samples_per_shard=3)
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
        assert np.array_equal(np.asarray(images[i]).reshape(-1, 48, 71, 3), decode_strip(clip.strip, 48))
        assert np.asarray(masks[i]).tobytes().endswith(clip.masks.tobytes())
        assert int(np.asarray(labels[i]).tobytes()) == dataset.labels[i]
