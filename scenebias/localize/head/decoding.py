"""From what the points of the pyramid say to scored segments.

Shape suffixes: B videos, P points, A actions, N segments.
"""

from dataclasses import dataclass

import torch

from scenebias.detection.instances import Segments
from scenebias.evaluation.accuracy import evaluating
from scenebias.localize.features.tracks import FeatureTrack
from scenebias.localize.head.points import Points, segment_boxes
from scenebias.localize.head.pyramid import Pyramid
from shards.checks import require_at_least


@dataclass(frozen=True, kw_only=True)
class DecodingConfig:
    """Which segments are told of a video."""

    min_score: float = 0.001
    """The least probability of a segment's class, 0 to below 1."""
    candidate_segments: int = 2000
    """Segments before suppression, the most probable ones."""
    max_overlap: float = 0.5
    """Of two segments of a class that overlap by a higher IoU the more probable one is told."""
    most_segments: int = 200
    """Segments that are told of a video."""

    def __post_init__(self) -> None:
        require_at_least(1, candidate_segments=self.candidate_segments, most_segments=self.most_segments)
        if not 0 <= self.min_score < 1:
            raise ValueError(f"min_score must be from 0 to below 1, got {self.min_score}")
        if not 0 <= self.max_overlap <= 1:
            raise ValueError(f"max_overlap must be from 0 to 1, got {self.max_overlap}")


DEFAULT_DECODING = DecodingConfig()


def find_segments(pyramid: Pyramid, track: FeatureTrack, config: DecodingConfig = DEFAULT_DECODING) -> Segments:
    """What the detector finds in one video, on the CPU, the most probable first; scores are probabilities."""
    device = pyramid.mean_C1.device
    with evaluating(pyramid), torch.inference_mode():
        outputs = pyramid(track.feature_CT[None].to(device), torch.tensor([len(track)], device=device))
    points = Points.of(len(track), pyramid.config.levels)
    box_P4 = segment_boxes(points, outputs.distance_BP2.cpu())[0]
    probability_PA = outputs.logits_BPA[0].cpu().sigmoid()
    score_M, flat_M = probability_PA.flatten().sort(descending=True, stable=True)
    score_M = score_M[: config.candidate_segments]
    score_N = score_M[score_M >= config.min_score]
    flat_N = flat_M[: len(score_N)]
    box_N4 = box_P4[flat_N // pyramid.class_count]
    start_s_N, end_s_N = track.times_s(box_N4[:, 0]), track.times_s(box_N4[:, 2])
    found = Segments(start_s_N=start_s_N, end_s_N=end_s_N, label_N=flat_N % pyramid.class_count, score_N=score_N)
    return found[end_s_N > start_s_N].suppressed(config.max_overlap, config.most_segments)
