"""The scene vectors of a packed data set."""

import numpy as np

from shards.dataset import ShardDataset
from shards.errors import UserError


def require_scenes(dataset: ShardDataset) -> np.ndarray:
    """The scene vectors, float16 (N, 365); UserError where a clip of ``dataset`` was packed without one."""
    if dataset.scenes is None or dataset.scene_count < len(dataset):
        raise UserError(
            f"{dataset.directory} has scene labels for {dataset.scene_count} of its {len(dataset)} clips, and all are"
            " needed: pack it again with tools/make_shards.py --scenes"
        )
    return np.asarray(dataset.scenes)
