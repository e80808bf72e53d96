"""Published results of the method, to set beside our own."""

from dataclasses import dataclass

from scenebias.debiasing.objective import ObjectiveName
from scenebias.detection.comparing import THUMOS_THRESHOLDS

SOURCE = "Choi et al., NeurIPS 2019"
CLASSES, TEST_VIDEOS = 20, 213
"""Of THUMOS 2014: classes, and test videos in which something happens."""
LEAST_SHARE = 0.9
"""Of the test videos, as some may be missing."""


@dataclass(frozen=True)
class PublishedMaps:
    """mAP at the temporal IoUs of `THUMOS_THRESHOLDS`, 0 to 1; pretrained on Mini-Kinetics-200."""

    objective: ObjectiveName
    """How the backbone was pretrained."""
    maps: tuple[float, ...]

    @property
    def summary(self) -> dict[str, float]:
        """By the names of measures."""
        each = {f"map@{threshold}": value for threshold, value in zip(THUMOS_THRESHOLDS, self.maps, strict=True)}
        return each | {
            "map@0.1:0.7": sum(self.maps) / len(self.maps),
            "map@0.3:0.7": sum(self.maps[2:]) / len(self.maps[2:]),
        }


PUBLISHED = (
    PublishedMaps("baseline", (0.486, 0.486, 0.456, 0.408, 0.325, 0.255, 0.155)),
    PublishedMaps("debias", (0.502, 0.505, 0.479, 0.423, 0.334, 0.263, 0.168)),
)


def published_maps(target: str, class_count: int, video_count: int) -> tuple[PublishedMaps, ...]:
    """What was published of a target, if it has the classes and nearly all test videos of the data set of that name."""
    is_whole = class_count == CLASSES and video_count >= LEAST_SHARE * TEST_VIDEOS
    return PUBLISHED if target == "thumos14" and is_whole else ()
