"""Published results of the method, to set beside our own."""

from collections.abc import Mapping
from dataclasses import dataclass

from scenebias.debiasing.objective import ObjectiveName

SOURCE = "Choi et al., NeurIPS 2019, a 2-D VGG"
CLASSES, TEST_VIDEOS = 21, 268
"""Of JHMDB: classes, and test videos of its smallest split."""
LEAST_SHARE = 0.9
"""Of the test videos, as some may be missing."""


@dataclass(frozen=True)
class PublishedMap:
    """Frame-mAP on JHMDB, its backbone pretrained with and without debiasing."""

    objective: ObjectiveName
    summary: Mapping[str, float]
    """By the names of measures, 0 to 1."""


PUBLISHED = (
    PublishedMap("baseline", {"frame_map_50": 0.325}),
    PublishedMap("debias", {"frame_map_50": 0.345}),
)


def published_maps(target: str, class_count: int, video_count: int) -> tuple[PublishedMap, ...]:
    """What was published of a target, if it has the classes and nearly all test videos of the data set of that name."""
    is_whole = class_count == CLASSES and video_count >= LEAST_SHARE * TEST_VIDEOS
    return PUBLISHED if target == "jhmdb" and is_whole else ()
