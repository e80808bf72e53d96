"""Small videos to pack, with masks."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shards.sources import ClipEntry, Listing
from tests.shards.packing.packs import listing_of


@pytest.fixture(scope="module")
def videos(tmp_path_factory, write_video) -> Path:
    """Six whole clips of two classes, and one broken clip."""
    root = tmp_path_factory.mktemp("videos")
    random = np.random.default_rng(0)
    for number in range(6):
        coarse = random.integers(0, 256, (4 + number, 6, 8, 3), dtype=np.uint8)
        frames_NHWC = coarse.repeat(8, axis=1).repeat(8, axis=2)
        write_video(root / ("run", "jump")[number % 2] / f"clip{number}.mp4", frames_NHWC)
    (root / "jump" / "bad.mp4").write_bytes(b"nothing")
    return root


@pytest.fixture
def masks(videos, tmp_path) -> Path:
    """Masks of all clips but one: the left half, and nobody in the first frame."""
    folder = tmp_path / "masks"
    for entry in listing_of(videos).clips:
        number = int(entry.path.stem.removeprefix("clip").replace("bad", "0"))
        mask_NHW = np.zeros((4 + number, 48, 64), bool)
        mask_NHW[1:, :, :32] = True
        if number != 5:
            (folder / entry.class_name).mkdir(parents=True, exist_ok=True)
            np.savez(folder / f"{entry.name}.npz", masks=mask_NHW)
    return folder


@pytest.fixture
def with_broken_ones(videos) -> Listing:
    """Six whole clips and six broken ones: in shards of one clip, half of them would be empty."""
    whole = [entry for entry in listing_of(videos).clips if entry.name != "jump/bad"]
    broken = [ClipEntry(f"jump/bad{k}", videos / "jump" / "bad.mp4", "jump") for k in range(6)]
    return Listing("d", "1", "all", ("jump", "run"), (*whole, *broken))


@pytest.fixture(scope="module")
def many_clips(videos) -> Listing:
    """70 ranges of frames of six videos, and a broken one: five groups in one shard of 50 and one of 21."""
    whole = [entry for entry in listing_of(videos).clips if entry.name != "jump/bad"]
    clips = [replace(whole[k % 6], name=f"{whole[k % 6].name}_{k}", start_frame=k % 4) for k in range(70)]
    bad = ClipEntry("jump/bad", videos / "jump" / "bad.mp4", "jump")
    return Listing("d", "1", "all", ("jump", "run"), (*clips, bad))
