"""Takes whose features tell the class of every moment, under noise."""

import torch

from scenebias.detection.comparing import match_segments
from scenebias.detection.instances import Segments
from scenebias.localize.features.tracks import FeatureTrack, Take
from scenebias.localize.head.decoding import find_segments
from scenebias.localize.head.pyramid import Pyramid

CLASSES = 3
CHANNELS = 16


def make_takes(count: int, *, shuffled: bool = False, seed: int = 0) -> list[Take]:
    """100 to 120 features, one every 0.2 s, with 4 segments of 1.2 to 4 s; ``shuffled``: their labels are by lot."""
    random = torch.Generator().manual_seed(seed)

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high, (1,), generator=random))

    pattern_AC = torch.randn(CLASSES, CHANNELS, generator=torch.Generator().manual_seed(99))
    takes = []
    for _ in range(count):
        feature_TC = 0.5 * torch.randn(draw(100, 120), CHANNELS, generator=random)
        place, starts, ends, labels = draw(2, 8), [], [], []
        for _ in range(4):
            length, label = draw(6, 20), draw(0, CLASSES)
            feature_TC[place : place + length] += 2 * pattern_AC[label]
            starts.append(0.2 * place + 0.5)
            ends.append(0.2 * (place + length - 1) + 0.5)
            labels.append(draw(0, CLASSES) if shuffled else label)
            place += length + draw(2, 6)
        track = FeatureTrack(
            feature_CT=feature_TC.T.contiguous(), first_s=0.5, step_s=0.2, duration_s=0.2 * len(feature_TC) + 1
        )
        truth = Segments(
            start_s_N=torch.tensor(starts), end_s_N=torch.tensor(ends), label_N=torch.tensor(labels, dtype=torch.int64)
        )
        takes.append(Take(track, truth))
    return takes


def map_at_half(pyramid: Pyramid, takes: list[Take]) -> float:
    found = [find_segments(pyramid, take.track) for take in takes]
    return match_segments(found, [take.truth for take in takes], CLASSES, (0.5,)).mean_average_precision
