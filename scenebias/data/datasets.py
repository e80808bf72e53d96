"""What commands ask of packed data sets before they work on them."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import numpy as np

from shards.dataset import ShardDataset
from shards.errors import UserError
from shards.shared_clips import SharedClips
from shards.storage.cache_config import DEFAULT_CACHE, CacheConfig


def require_same_classes(found: Sequence[str], expected: Sequence[str], what: str, remedy: str) -> None:
    """Raise UserError where ``found`` is not ``expected``, in the same order; ``what`` says whose classes they are."""
    if tuple(found) == tuple(expected):
        return
    lacks = [name for name in expected if name not in found]
    adds = [name for name in found if name not in expected]
    if lacks or adds:
        parts = [f"{verb} {', '.join(names[:5])}" for verb, names in (("lacks", lacks), ("adds", adds)) if names]
        difference = " and ".join(parts)
    else:
        number = next(n for n, (a, b) in enumerate(zip_longest(found, expected)) if a != b)
        difference = f"has another order from class {number} on"
    raise UserError(f"{what}: it {difference}; {remedy}")


@dataclass(frozen=True, kw_only=True)
class RemoteConfig:
    """Where copies of data sets are kept whose place is a URL (s3://, gs://, https://)."""

    cache: Path = DEFAULT_CACHE.directory
    """Folder on a disk of this machine, shared by all processes."""
    cache_gb: float = DEFAULT_CACHE.budget_bytes / 10**9
    """Gigabytes (10^9 bytes) of shards to keep there; the least recently used go first."""
    download_retries: int = DEFAULT_CACHE.download_retries
    """How often a failed download is begun again."""
    download_timeout_s: float = DEFAULT_CACHE.download_timeout_s
    """Seconds without any byte after which a download has failed."""

    def __post_init__(self) -> None:
        if not self.cache_gb > 0:
            raise ValueError(f"cache_gb must be above 0, got {self.cache_gb}")
        self.cache_config()  # which checks the others

    def cache_config(self) -> CacheConfig:
        """The cache that these options ask for."""
        return CacheConfig(
            directory=self.cache,
            budget_bytes=max(1, round(self.cache_gb * 10**9)),
            download_retries=self.download_retries,
            download_timeout_s=self.download_timeout_s,
        )

    def open(self, location: str | Path) -> ShardDataset:
        """Open a packed data set, in a local folder or at a URL; errors as of `ShardDataset.open`."""
        return ShardDataset.open(location, self.cache_config())


def open_pair(
    train_location: str | Path, val_location: str | Path, remote: RemoteConfig
) -> tuple[ShardDataset, ShardDataset]:
    """The training and validation data; UserError where their classes or views differ, or they are the same clips."""
    train, val = remote.open(train_location), remote.open(val_location)
    require_same_classes(
        val.manifest.classes,
        train.manifest.classes,
        f"--val {val_location} has other classes than --train {train_location}",
        "pack both with the same list of classes (tools/make_shards.py --classes)",
    )
    if train.manifest.digest == val.manifest.digest:
        raise UserError(f"--val {val_location} holds the very clips of --train {train_location}: give the test clips")
    if train.manifest.focus != val.manifest.focus:
        raise UserError(
            f"--val {val_location} shows {val.manifest.focus}, but --train {train_location} shows"
            f" {train.manifest.focus}: pack both alike"
        )
    return train, val


def shared_clips_note(train: ShardDataset, val: ShardDataset) -> str | None:
    """A sentence on the clips of ``val`` that share frames with clips of ``train``; None where there are none."""
    shared = SharedClips.find(val, train.material)
    if len(shared):
        return (
            f"--val {val.location} shares {shared} with --train {train.location}: what is measured on them flatters the"
            " model"
        )
    unknown = [str(dataset.location) for dataset in (train, val) if not dataset.material.is_known]
    if unknown:
        return (
            f"whether --train and --val share clips cannot be told: {' and '.join(unknown)} do not say of which videos"
        )
    return None


def require_scenes(dataset: ShardDataset) -> np.ndarray:
    """The scene vectors, float16 (N, 365); UserError where a clip of ``dataset`` was packed without one."""
    if dataset.scenes is None or dataset.scene_count < len(dataset):
        raise UserError(
            f"{dataset.location} has scene labels for {dataset.scene_count} of its {len(dataset)} clips, and all are"
            " needed: pack it again with tools/make_shards.py --scenes"
        )
    return np.asarray(dataset.scenes)


def count_combinations(label_N: np.ndarray, scene_N: np.ndarray, actions: int, scenes: int) -> np.ndarray:
    """Clips of each action in each scene, int64 (A, S)."""
    return np.bincount(label_N * scenes + scene_N, minlength=actions * scenes).reshape(actions, scenes)
