"""The random numbers of augmentation: functions of (seed, epoch, sample) alone, the same on any rank and in any batch.

Shape suffixes: P clips, any of a batch.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dali_pipelines.rectangles import Rectangles, draw_rectangles
from shards.randomness import randint, uniform

# Keep these draws apart from each other and from others that share seed, epoch and sample.
JITTER_STREAM = 0xA0600000
BRIGHTNESS_STREAM = 0xA0600001
CONTRAST_STREAM = 0xA0600002
SATURATION_STREAM = 0xA0600003
HUE_STREAM = 0xA0600004
GREY_STREAM = 0xA0600005
ERASING_STREAM = 0xA0600006
REGION_STREAM = 0xA0600007
OPERATION_STREAM = 0xA0600008
SIGN_STREAM = 0xA0600009


@dataclass(frozen=True)
class Draws:
    """What is drawn for clips of one epoch."""

    seed: int
    """Of the training."""
    epoch: int
    """In which they are shown."""
    sample_P: NDArray[np.int64]
    """Their numbers in the data set, or other ones where they are shown once more (`ClipBatch.showing_B`)."""

    def __getitem__(self, place_P: NDArray[np.int64]) -> "Draws":
        """The draws of some of these clips."""
        return Draws(self.seed, self.epoch, self.sample_P[place_P])

    def chosen(self, probability: float, stream: int) -> NDArray[np.int64]:
        """The places of the clips that are chosen, each with this probability."""
        return np.flatnonzero(uniform(self.seed, self.epoch, self.sample_P, stream) < probability)

    def between(self, least: float, most: float, stream: int) -> NDArray[np.float64]:
        """A number for each clip, uniform in [``least``, ``most``)."""
        return least + (most - least) * uniform(self.seed, self.epoch, self.sample_P, stream)

    def factor(self, strength: float, stream: int) -> NDArray[np.float64]:
        """A factor for each clip around 1, as ``torchvision.transforms.v2.ColorJitter`` draws it."""
        return self.between(max(0.0, 1 - strength), 1 + strength, stream)

    def one_of(self, count: int, *stream: int) -> NDArray[np.int64]:
        """A number in [0, ``count``) for each clip."""
        return randint(count, self.seed, self.epoch, self.sample_P, *stream)

    def rectangle(self, area: tuple[float, float], aspect: tuple[float, float], rows: int, columns: int) -> Rectangles:
        """A rectangle for each clip in frames of so many rows and columns."""
        size_P2 = np.tile(np.array([rows, columns]), (len(self.sample_P), 1))
        return draw_rectangles(area, aspect, size_P2, self.seed, self.epoch, self.sample_P, REGION_STREAM)
