"""The random numbers of composing: functions of (seed, epoch, sample) alone, the same on any rank and in any batch.

Shape suffixes: P clips, any of a batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from shards.randomness import randint, uniform

# Keep these draws apart from each other and from others that share seed, epoch and sample.
CHOICE_STREAM = 0xC0305E00
WEIGHT_STREAM = 0xC0305E01
FRAME_STREAM = 0xC0305E02
BOX_ROW_STREAM = 0xC0305E03
BOX_COLUMN_STREAM = 0xC0305E04


@dataclass(frozen=True)
class Draws:
    """What is drawn for clips of one epoch."""

    seed: int
    """Of the training."""
    epoch: int
    """In which they are shown."""
    sample_P: NDArray[np.int64]
    """Their numbers in the data set, or other ones where they are shown once more (`ClipBatch.showing_B`)."""

    def choice(self, probabilities: Sequence[float]) -> NDArray[np.int64]:
        """A place in ``probabilities`` for each clip, each as often as it says; -1 with what is left of 1."""
        drawn_P = uniform(self.seed, self.epoch, self.sample_P, CHOICE_STREAM)
        place_P = np.searchsorted(np.cumsum(probabilities), drawn_P, side="right")
        return np.where(place_P < len(probabilities), place_P, -1)

    def weight(self, highest: float = 1.0) -> NDArray[np.float64]:
        """A number for each clip, uniform in [0, ``highest``)."""
        return highest * uniform(self.seed, self.epoch, self.sample_P, WEIGHT_STREAM)

    def beta(self, alpha: float) -> NDArray[np.float64]:
        """A number for each clip, of the distribution Beta(``alpha``, ``alpha``)."""
        return betaincinv(alpha, alpha, self.weight())

    def frame(self, count: int) -> NDArray[np.int64]:
        """One of ``count`` frames for each clip."""
        return randint(count, self.seed, self.epoch, self.sample_P, FRAME_STREAM)

    def pixel(self, rows: int, columns: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The row and the column of a pixel for each clip."""
        return (
            randint(rows, self.seed, self.epoch, self.sample_P, BOX_ROW_STREAM),
            randint(columns, self.seed, self.epoch, self.sample_P, BOX_COLUMN_STREAM),
        )
