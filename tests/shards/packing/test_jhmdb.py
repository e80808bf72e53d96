"""JHMDB as detection is measured on it: boxes of masks are the official ones, and its own split is another."""

import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scenebias.annotators import open_mask_source
from scenebias.models.seen_clips import SeenClips, identity_of, judge
from shards.dataset import ShardDataset
from shards.format.truth import box_corners
from shards.packing.clip_preparation import PackConfig
from shards.packing.pack import pack
from shards.packing.request import Annotators
from shards.packing.truth_fitting import with_boxes_of_masks
from shards.sources import JhmdbSource, Listing
from tests.shards.packing.packs import mask_files

HEIGHT, WIDTH, FPS = 240, 320, 25.0


def own_split(real_data: Path, **options) -> Listing:
    labels = real_data / "labels/jhmdb/groundtruths_split1_test.zip"
    return JhmdbSource(root=real_data / "jhmdb/videos", labels=labels, splits_of="jhmdb", **options).listing()


@pytest.fixture(scope="module")
def official(real_data) -> dict[str, dict[int, tuple[int, ...]]]:
    """Class (from 1) and box of every frame of the clips to test on, by clip, as the files say it."""
    found: dict[str, dict[int, tuple[int, ...]]] = {}
    with zipfile.ZipFile(real_data / "labels/jhmdb/groundtruths_split1_test.zip") as archive:
        for name in archive.namelist():
            if name.endswith(".txt"):
                clip, _, number = Path(name).stem.rpartition("_")
                found.setdefault(clip, {})[int(number) - 1] = tuple(map(int, archive.read(name).split()))
    return found


def overlap(ours_M4: np.ndarray, theirs_M4: np.ndarray) -> np.ndarray:
    """Intersection over union, (M,)."""
    low, high = np.maximum(ours_M4[:, :2], theirs_M4[:, :2]), np.minimum(ours_M4[:, 2:], theirs_M4[:, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=1)
    areas = [np.prod(box_M4[:, 2:] - box_M4[:, :2], axis=1) for box_M4 in (ours_M4, theirs_M4)]
    return shared / (sum(areas) - shared)


def compare(rows: np.ndarray, frames: dict[int, tuple[int, ...]]) -> np.ndarray:
    """How far boxes, one a frame, agree with the official ones, which count pixels from 1."""
    assert rows["frame"].tolist() == sorted(frames)
    theirs = np.array([frames[frame] for frame in rows["frame"].tolist()])
    assert (rows["label"] + 1 == theirs[:, 0]).all()
    return overlap(box_corners(rows), theirs[:, 1:] - [1, 1, 0, 0])


def test_boxes_of_masks_are_the_official_ones_of_split_1(real_data, official):
    listing = own_split(real_data, subset="test", boxes=True)
    source = open_mask_source(real_data / "jhmdb/masks", listing.clips)
    overlaps = []
    for entry in listing.clips:
        frames = official[entry.name.replace("/", "_", 1)]
        masks = source.load(entry, len(frames), HEIGHT, WIDTH, FPS)
        label = listing.classes.index(entry.class_name)
        overlaps.append(compare(with_boxes_of_masks(entry.truth, masks, label, 0).boxes.rows, frames))
    whole = np.concatenate(overlaps)
    assert len(whole) == 9126
    assert whole.mean() >= 0.97
    assert whole.min() >= 0.88


def test_packed_boxes_are_the_official_ones_and_without_the_option_there_are_none(real_data, official, tmp_path):
    for boxes in (True, False):
        listing = own_split(real_data, subset="test", boxes=boxes)
        listing = replace(listing, clips=listing.clips[::90])
        out = tmp_path / str(boxes)
        pack(
            listing,
            out,
            PackConfig(height=HEIGHT, workers=1),
            annotators=mask_files(real_data / "jhmdb/masks", listing),
        )
        dataset = ShardDataset.open(out)
        assert len(dataset) == 3
        assert (dataset.manifest.dataset, dataset.manifest.split) == ("jhmdb", "jhmdb-1")
        for i in range(len(dataset)):
            found = dataset.truth(i).boxes
            if boxes:
                assert compare(found, official[dataset.info(i).name.replace("/", "_", 1)]).min() >= 0.88
            else:
                assert found is None


def test_weights_of_hmdb51s_split_are_refused_on_jhmdbs_own(real_data, tmp_path):
    """By the clips themselves: what two packs call their splits and clips plays no part."""
    theirs = JhmdbSource(root=real_data / "jhmdb/videos", labels=real_data / "labels/hmdb51").listing()
    own = own_split(real_data, subset="test")
    seen = {entry.name for entry in theirs.clips}
    leaked = [entry for entry in own.clips if entry.name in seen]
    unseen = [entry for entry in own.clips if entry.name not in seen]
    assert (len(leaked), len(unseen)) == (198, 70)
    some = [entry for entry in theirs.clips if entry.name not in {one.name for one in own.clips}]
    config = PackConfig(height=32, workers=1)
    trained_on = [*leaked[:40:10], *some[:40:20]]
    packs = {
        "train": replace(theirs, clips=tuple(trained_on)),
        "test": replace(own, clips=(*leaked[:50:10], *unseen[:30:10])),
        "unseen": replace(own, clips=tuple(unseen[:30:10])),
    }
    for name, listing in packs.items():
        pack(listing, tmp_path / name, config, annotators=Annotators())
    train, test, clean = (ShardDataset.open(tmp_path / name) for name in packs)
    weights = SeenClips.after(None, train)
    verdict = judge([identity_of(train)], weights, test)
    assert verdict.doubt is None
    assert verdict.reason.startswith("the weights were trained on 4 of its 8 clips (")
    assert judge([identity_of(train)], weights, clean).reason is None
    assert judge([identity_of(train)], None, clean).reason == (
        "the weights were trained on jhmdb 1 train, which shares videos with jhmdb jhmdb-1 test"
    )
