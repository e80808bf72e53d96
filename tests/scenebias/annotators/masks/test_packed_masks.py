"""Masks of a packed data set are those that were packed, and serve a further pack of the same videos."""

import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scenebias.annotators import NumpyMasks, open_mask_source
from shards.dataset import ShardDataset
from shards.errors import UserError
from shards.packing.clip_preparation import PackConfig
from shards.packing.pack import pack
from shards.packing.request import Annotators
from shards.sources import FolderSource, Listing
from tests.conftest import focused_copy
from tests.shards.conftest import write_test_video

FRAMES, HEIGHT, WIDTH = 5, 64, 96
CONFIG = PackConfig(height=32, workers=1, samples_per_shard=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips in "videos", the masks of the first in "masks", both in "packed", masks at half the size of 32 rows."""
    folder = tmp_path_factory.mktemp("packed-masks")
    random = np.random.default_rng(0)
    for name in ("a/one", "a/two"):
        frames_NHWC = random.integers(0, 256, (FRAMES, 8, 12, 3), dtype=np.uint8).repeat(8, axis=1).repeat(8, axis=2)
        write_test_video(folder / "videos" / f"{name}.mp4", frames_NHWC)
    (folder / "masks" / "a").mkdir(parents=True)
    np.savez(folder / "masks" / "a" / "one.npz", masks=walker())
    listing = listing_of(folder)
    masks = open_mask_source(folder / "masks", listing.clips)
    pack(listing, folder / "packed", CONFIG, annotators=Annotators(mask_source=masks))
    return folder


def walker() -> np.ndarray:
    """In whole pixels of the stored masks, so that nothing is lost."""
    mask_NHW = np.zeros((FRAMES, HEIGHT, WIDTH), bool)
    for frame, mask_HW in enumerate(mask_NHW):
        mask_HW[16:32, 4 * frame + 40 : 4 * frame + 48] = True
    return mask_NHW


def listing_of(folder: Path) -> Listing:
    return FolderSource(root=folder / "videos").listing()


def test_they_come_back_as_they_were_packed(folder: Path) -> None:
    listing = listing_of(folder)
    source = pickle.loads(pickle.dumps(open_mask_source(folder / "packed", listing.clips)))
    one, two = sorted(listing.clips, key=lambda entry: entry.name)
    np.testing.assert_array_equal(source.load(one, FRAMES, HEIGHT, WIDTH, 25.0), walker())
    assert source.load(two, FRAMES, HEIGHT, WIDTH, 25.0) is None
    (shard,) = source.files(one)
    assert shard.is_file()
    assert source.files(two) == ()
    assert source.files(replace(one, name="a/three")) == ()
    assert source.settings()["digest"] == ShardDataset.open(folder / "packed").manifest.digest


def test_a_pack_with_them_stores_what_the_files_would_give(folder: Path, tmp_path: Path) -> None:
    listing = listing_of(folder)
    config = PackConfig(height=48, workers=2, focus="person", mask_scale=1)
    for name in ("masks", "packed"):
        source = open_mask_source(folder / name, listing.clips)
        report = pack(listing, tmp_path / name, config, annotators=Annotators(mask_source=source))
        assert report is not None
        assert report.without_person == ("a/two",)
    first, second = (ShardDataset.open(tmp_path / name) for name in ("masks", "packed"))
    assert [shard.sha256 for shard in first.manifest.shards] == [shard.sha256 for shard in second.manifest.shards]


def test_masks_of_another_video_or_view_or_damaged_ones_are_refused(folder: Path, tmp_path: Path) -> None:
    listing = listing_of(folder)
    (one,) = (entry for entry in listing.clips if entry.name == "a/one")
    source = open_mask_source(folder / "packed", listing.clips)
    with pytest.raises(UserError, match="a/one has 5 frames there and 4 here; give masks of this very video"):
        source.load(one, 4, HEIGHT, WIDTH, 25.0)
    with pytest.raises(UserError, match=r"shows squares around people .*; give masks of whole frames"):
        open_mask_source(focused_copy(folder / "packed", tmp_path / "focused"), listing.clips)
    with pytest.raises(UserError, match="no masks for any of the 1 clips, such as b/other"):
        open_mask_source(folder / "packed", [replace(one, name="b/other")])
    copy = shutil.copytree(folder / "packed", tmp_path / "damaged")
    dataset = ShardDataset.open(copy)
    number = next(i for i in range(2) if dataset.info(i).name == "a/one")
    path = copy / dataset.manifest.shards[number].name
    data = bytearray(path.read_bytes())
    data[int(dataset.places(number)["masks.npy"]["offset"]) + 140] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match="the checksum of its masks is wrong"):
        open_mask_source(copy, listing.clips).load(one, FRAMES, HEIGHT, WIDTH, 25.0)


def test_other_folders_are_read_as_before(folder: Path) -> None:
    assert isinstance(open_mask_source(folder / "masks", listing_of(folder).clips), NumpyMasks)
