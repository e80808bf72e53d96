"""Published results of the method, to set beside our own.

They are of 3D ResNets of 18 layers, pretrained on Mini-Kinetics-200 with and without debiasing, tuned on the target.
"""

from dataclasses import dataclass

from scenebias.debiasing.objective import ObjectiveName


@dataclass(frozen=True)
class PublishedResult:
    """Top-1 accuracy on the test clips of a target, 0 to 1."""

    source: str
    target: str
    """Name of the data set, as tools/make_shards.py gives it."""
    objective: ObjectiveName
    """How the backbone was pretrained."""
    top1: float


CLASS_COUNTS = {"ucf101": 101, "hmdb51": 51, "diving48": 48}
TEST_CLIP_COUNTS = {"ucf101": 3696, "hmdb51": 1530, "diving48": 1970}
"""Actions, and test clips of the smallest split, of whole data sets: results on a part of one are not comparable."""
LEAST_SHARE = 0.9
"""Of the test clips, as some may be missing."""

PAPER = "Choi et al., NeurIPS 2019"
REPRODUCTION = "reproduction with R3D-18"

PUBLISHED = (
    PublishedResult(PAPER, "ucf101", "baseline", 0.835),
    PublishedResult(PAPER, "ucf101", "debias", 0.845),
    PublishedResult(PAPER, "hmdb51", "baseline", 0.536),
    PublishedResult(PAPER, "hmdb51", "debias", 0.567),
    PublishedResult(PAPER, "diving48", "baseline", 0.182),
    PublishedResult(PAPER, "diving48", "debias", 0.205),
    PublishedResult(REPRODUCTION, "ucf101", "baseline", 0.3417),
    PublishedResult(REPRODUCTION, "ucf101", "debias", 0.3443),
    PublishedResult(REPRODUCTION, "hmdb51", "baseline", 0.2138),
    PublishedResult(REPRODUCTION, "hmdb51", "debias", 0.2236),
    PublishedResult(REPRODUCTION, "diving48", "baseline", 0.1282),
    PublishedResult(REPRODUCTION, "diving48", "debias", 0.1421),
)


def published_results(target: str, class_count: int, clip_count: int) -> list[PublishedResult]:
    """What was published of a target, if it has the actions and nearly all test clips of the data set of that name.

    ``clip_count`` is of its smallest split.
    """
    if class_count != CLASS_COUNTS.get(target) or clip_count < LEAST_SHARE * TEST_CLIP_COUNTS[target]:
        return []
    return [result for result in PUBLISHED if result.target == target]
