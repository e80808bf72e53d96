"""What tests of packing share: the listing of the small videos, a progress that stops a pack, processes as threads."""

import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np

from scenebias.annotators import SceneFile, open_mask_source
from shards.format.sample import SCENE_COUNT
from shards.packing.clip_preparation import PackConfig
from shards.packing.pack import pack
from shards.packing.request import Annotators
from shards.sources import FolderSource, JhmdbSource, Listing

CONFIG = PackConfig(height=32, samples_per_shard=3, workers=1)
CONFIG_16 = PackConfig(height=32, samples_per_shard=100, workers=1)


def listing_of(videos: Path) -> Listing:
    """With a third class; that it is without any clip is no mistake."""
    return replace(FolderSource(root=videos).listing(), classes=("jump", "none", "run"), may_lack_classes=True)


def mask_files(folder: Path, listing: Listing) -> Annotators:
    return Annotators(mask_source=open_mask_source(folder, listing.clips))


class StopHereError(Exception):
    pass


class Progress:
    """Notes how many clips were done, and stops the pack after so many groups of it."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.calls: list[int] = []
        self._stop_after = stop_after

    def begin(self, done: int, total: int) -> None:
        assert done <= total
        self.calls.append(done)

    def update(self, done: int) -> None:
        self.calls.append(done)
        if len(self.calls) - 1 == self._stop_after:
            raise StopHereError


def content(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def assert_nothing_left(tmp_path: Path) -> None:
    assert [path.name for path in tmp_path.iterdir() if path.name != "masks"] == []


def write_scenes(path: Path, names: list[str]) -> SceneFile:
    np.savez(path, clips=np.array(names), probs=np.full((len(names), SCENE_COUNT), 1 / SCENE_COUNT))
    return SceneFile(path)


@dataclass(frozen=True)
class ThreadShare:
    """The part of one thread among several."""

    rank: int
    world_size: int
    wait_for_all: Callable[[], object] = lambda: None
    from_main: Callable[[int], int] = lambda value: value
    local_world_size: int = 1


def pack_as_processes(world_size: int, *arguments, **options) -> list:
    """Pack in ``world_size`` threads, which stand for processes; returns what each of them gave."""
    barrier = threading.Barrier(world_size)
    values: list[int] = []

    def from_main(value: int) -> int:
        values.append(value)
        barrier.wait()
        return any(values)

    shares = [ThreadShare(rank, world_size, barrier.wait, from_main) for rank in range(world_size)]
    with ThreadPoolExecutor(world_size) as threads:
        return list(threads.map(lambda share: pack(*arguments, share=share, **options), shares))


class BatchMean:
    """A network whose answers depend on all frames of a batch, as rounding makes them depend on it in real ones."""

    every = 2

    def settings(self) -> dict:
        return {"network": "batch mean"}

    def masks(self, frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        frames = iter(frames)
        while batch := list(islice(frames, 16)):
            threshold = np.mean([frame.mean() for frame in batch])
            yield from (frame[..., 0] > threshold for frame in batch)

    def probabilities(self, frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        for frame in frames:
            yield np.eye(SCENE_COUNT, dtype=np.float32)[int(frame.mean())]


def real_listing(root: Path, labels: Path, every: int = 22) -> Listing:
    """Every ``every``-th test clip of JHMDB in ``root``."""
    whole = JhmdbSource(root=root, labels=labels / "hmdb51", subset="test").listing()
    return Listing(whole.dataset, whole.split, whole.subset, whole.classes, whole.clips[::every])
