"""Which clips of a data set are of the same material as others: what must not be in both training and test."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shards.dataset import ShardDataset
from shards.errors import UserError
from shards.material import Material

NAMES_SHOWN = 3


@dataclass(frozen=True, eq=False)
class SharedClips:
    """The clips of a data set that share frames of a video with others."""

    dataset: ShardDataset
    """Whose clips they are."""
    sample_K: NDArray[np.int64]
    """Their numbers."""

    @classmethod
    def find(cls, dataset: ShardDataset, other: Material) -> "SharedClips":
        """Those of ``dataset`` that share frames with ``other``."""
        return cls(dataset, np.flatnonzero(dataset.material.shared_with(other)))

    def __len__(self) -> int:
        return len(self.sample_K)

    def names(self) -> list[str]:
        """What they are called, read from their shards; errors as of `ShardDataset.info`."""
        return [self.dataset.info(i).name for i in self.sample_K.tolist()]

    def __str__(self) -> str:
        """How many of how many, and the names of the first."""
        first = SharedClips(self.dataset, self.sample_K[:NAMES_SHOWN]).names()
        more = f" and {len(self) - NAMES_SHOWN} more" if len(self) > NAMES_SHOWN else ""
        return f"{len(self)} of its {len(self.dataset)} clips ({', '.join(first)}{more})"


def require_known_videos(datasets: Sequence[ShardDataset]) -> None:
    """Raise a UserError where a data set does not say of which videos its clips are."""
    for dataset in datasets:
        if not dataset.material.is_known:
            raise UserError(
                f"{dataset.location} does not say of which videos its clips are, so it cannot be compared: pack it"
                " again with this version"
            )


def names_in_others(dataset: ShardDataset, others: Sequence[ShardDataset]) -> dict[str, list[str]]:
    """The names of the clips that ``dataset`` shares with each of ``others``, by its location."""
    return {str(other.location): SharedClips.find(dataset, other.material).names() for other in others}
