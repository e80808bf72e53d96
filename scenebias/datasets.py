"""What commands ask of packed data sets before they work on them."""

from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

import numpy as np

from shards.dataset import ShardDataset
from shards.errors import UserError


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


def open_pair(train_directory: Path, val_directory: Path) -> tuple[ShardDataset, ShardDataset]:
    """The training and validation data; UserError where their classes differ or where they are the same clips."""
    train, val = ShardDataset.open(train_directory), ShardDataset.open(val_directory)
    require_same_classes(
        val.manifest.classes,
        train.manifest.classes,
        f"--val {val_directory} has other classes than --train {train_directory}",
        "pack both with the same list of classes (tools/make_shards.py --classes)",
    )
    if train.manifest.digest == val.manifest.digest:
        raise UserError(f"--val {val_directory} holds the very clips of --train {train_directory}: give the test clips")
    return train, val


def require_scenes(dataset: ShardDataset) -> np.ndarray:
    """The scene vectors, float16 (N, 365); UserError where a clip of ``dataset`` was packed without one."""
    if dataset.scenes is None or dataset.scene_count < len(dataset):
        raise UserError(
            f"{dataset.directory} has scene labels for {dataset.scene_count} of its {len(dataset)} clips, and all are"
            " needed: pack it again with tools/make_shards.py --scenes"
        )
    return np.asarray(dataset.scenes)
