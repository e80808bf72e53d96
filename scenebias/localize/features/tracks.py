"""A video as a detector of segments sees it: one feature vector every few frames.

Shape suffixes: C channels of a feature, T features of a video, N segments.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from scenebias.detection.instances import AMBIGUOUS, Segments
from shards.dataset import ShardDataset


@dataclass(frozen=True, eq=False, kw_only=True)
class FeatureTimes:
    """When the features of a video are, evenly spaced."""

    first_s: float
    """When the first one is, in seconds: the middle of its window."""
    step_s: float
    """From one to the next."""
    duration_s: float
    """Of the video."""

    def __post_init__(self) -> None:
        if not (self.step_s > 0 and self.duration_s > 0):
            raise ValueError(f"step_s and duration_s must be above 0, got {self.step_s} and {self.duration_s}")

    def positions(self, time_s_N: Tensor) -> Tensor:
        """Times in steps from the first feature, in which the detector computes."""
        return (time_s_N - self.first_s) / self.step_s

    def times_s(self, position_N: Tensor) -> Tensor:
        """The times of such positions, none before or after the video."""
        return (position_N * self.step_s + self.first_s).clamp(0, self.duration_s)


@dataclass(frozen=True, eq=False, kw_only=True)
class FeatureTrack(FeatureTimes):
    """The features of one video."""

    feature_CT: Tensor
    """float32, at least one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.feature_CT.ndim != 2 or not self.feature_CT.numel():
            raise ValueError(f"feature_CT must hold one or more features, got {tuple(self.feature_CT.shape)}")

    def __len__(self) -> int:
        return self.feature_CT.shape[1]


def true_segments(dataset: ShardDataset, sample: int) -> Segments:
    """What happens in a video of a data set; none where nobody looked."""
    segments = dataset.truth(sample).segments or ()
    return Segments(
        start_s_N=torch.tensor([segment.start_s for segment in segments], dtype=torch.float64),
        end_s_N=torch.tensor([segment.end_s for segment in segments], dtype=torch.float64),
        label_N=torch.tensor(
            [AMBIGUOUS if segment.label is None else segment.label for segment in segments], dtype=torch.int64
        ),
    )


@dataclass(frozen=True, eq=False)
class Take:
    """A video to learn from."""

    track: FeatureTrack
    truth: Segments
    """Those that are `AMBIGUOUS` are not learned."""

    @property
    def segment_N2(self) -> Tensor:
        """Start and end of what is learned, in positions of the track."""
        return self.track.positions(self.truth.clear.box_N4[:, 0::2]).float()

    @property
    def label_N(self) -> Tensor:
        """The classes of these."""
        return self.truth.clear.label_N
