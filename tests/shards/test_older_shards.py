"""Shards that an earlier version (27e480e) wrote still load: `data/CODEC`, and what that version read from it."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from shards.dataset import ShardDataset
from shards.format.index import rebuild_index
from shards.order import EpochOrder

DATA = Path(__file__).parent / "data"
PIXEL_TOLERANCE = {"filmstrip": 1, "h264": 3}
"""Levels of 255: decoders of other versions may round otherwise."""


@pytest.fixture(params=PIXEL_TOLERANCE)
def codec(request) -> str:
    return request.param


@pytest.fixture
def dataset(codec) -> ShardDataset:
    return ShardDataset.open(DATA / codec)


@pytest.fixture
def recorded(codec) -> dict[str, np.ndarray]:
    """Names, labels and digest; of clip i, ``frames``i (first and last), ``masks``i and ``scene``i."""
    with np.load(DATA / f"{codec}.npz") as file:
        return dict(file)


def test_they_open_and_are_verified(dataset, recorded):
    assert dataset.manifest.digest == str(recorded["digest"])
    assert list(dataset.verify()) == []
    assert (len(dataset), dataset.mask_count, dataset.scene_count) == (2, 1, 1)


def test_every_clip_is_what_it_was(dataset, codec, recorded):
    for i, clip in enumerate(dataset):
        first_and_last = clip.frames[[0, -1]].astype(int)
        assert first_and_last.shape == recorded[f"frames{i}"].shape
        assert np.abs(first_and_last - recorded[f"frames{i}"]).max() <= PIXEL_TOLERANCE[codec]
        assert np.array_equal(clip.masks, recorded[f"masks{i}"])
        assert np.array_equal(clip.scene, recorded[f"scene{i}"])
        assert (clip.label, clip.name) == (recorded["labels"][i], recorded["names"][i])
        assert len(clip.frames) == len(clip.masks) == (6, 4)[i]


def test_an_evaluation_reads_them_in_order(dataset, recorded):
    order = EpochOrder(sample_count=len(dataset), global_batch_size=1, shuffle=False)
    batches = [order.global_batch(0, step) for step in range(order.steps_per_epoch)]
    names = [dataset.info(int(i)).name for batch in dataset.reading_ahead(batches) for i in batch]
    assert names == recorded["names"].tolist()
    for i, count in enumerate(dataset.frame_counts.tolist()):
        across_parts = np.array([count - 1, 0, count - 1])
        window = dataset.decode(i, dataset.read_clip(i, across_parts))
        assert np.array_equal(window, dataset[i].frames[across_parts])


def test_their_indexes_are_made_anew_to_the_byte(dataset, codec, tmp_path):
    copied = shutil.copytree(DATA / codec, tmp_path / codec)
    indexes = [path for path in copied.iterdir() if path.suffix not in (".tar", ".json")]
    for path in indexes:
        path.unlink()
    rebuild_index(copied)
    for path in indexes:
        assert path.read_bytes() == (DATA / codec / path.name).read_bytes()
