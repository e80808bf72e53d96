"""A video as a detector of segments sees it: one feature vector every few frames.

Shape suffixes: C channels of a feature, T features of a video, N segments.
"""

from dataclasses import dataclass

from torch import Tensor

from scenebias.detection.instances import AMBIGUOUS, Segments


@dataclass(frozen=True, eq=False, kw_only=True)
class FeatureTrack:
    """The features of one video, evenly spaced in time."""

    feature_CT: Tensor
    """float32, at least one."""
    first_s: float
    """When the first one is, in seconds: the middle of its window."""
    step_s: float
    """From one to the next."""
    duration_s: float
    """Of the video."""

    def __post_init__(self) -> None:
        if self.feature_CT.ndim != 2 or not self.feature_CT.numel():
            raise ValueError(f"feature_CT must hold one or more features, got {tuple(self.feature_CT.shape)}")
        if not (self.step_s > 0 and self.duration_s > 0):
            raise ValueError(f"step_s and duration_s must be above 0, got {self.step_s} and {self.duration_s}")

    def __len__(self) -> int:
        return self.feature_CT.shape[1]

    def positions(self, time_s_N: Tensor) -> Tensor:
        """Times in steps from the first feature, in which the detector computes."""
        return (time_s_N - self.first_s) / self.step_s

    def times_s(self, position_N: Tensor) -> Tensor:
        """The times of such positions, none before or after the video."""
        return (position_N * self.step_s + self.first_s).clamp(0, self.duration_s)


@dataclass(frozen=True, eq=False)
class Take:
    """A video to learn from."""

    track: FeatureTrack
    truth: Segments
    """Those that are `AMBIGUOUS` are not learned."""

    @property
    def segment_N2(self) -> Tensor:
        """Start and end of what is learned, in positions of the track."""
        clear = self.truth[self.truth.label_N != AMBIGUOUS]
        return self.track.positions(clear.box_N4[:, 0::2])

    @property
    def label_N(self) -> Tensor:
        """The classes of these."""
        return self.truth.label_N[self.truth.label_N != AMBIGUOUS]
