"""Long videos as data sets: grey noise, in which a square of the colour of its class moves from time to time.

Shape suffixes: N frames, H rows, W columns, C colours.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from dali_pipelines.windows import ClipConfig
from shards.format.sample import Sample
from shards.format.truth import Segment, Truth
from tools.trials.ready_samples import sample_from_frames, write_samples

CLASSES = ("blue", "green", "red")
COLOURS = ((20, 20, 230), (20, 230, 20), (230, 20, 20))
FPS, FRAMES, SIDE = 25.0, 160, 32
CLIP = ClipConfig(frames=8, size=32)


def take(number: int) -> Sample:
    """A video of `FRAMES` frames with two or three segments, of which a function of its number says all."""
    random = np.random.default_rng(number)
    frames_NHWC = random.integers(90, 150, (FRAMES, SIDE, SIDE, 3), dtype=np.uint8)
    segments = []
    for start in (8, 60, 112)[: int(random.integers(2, 4))]:
        label, first, length = int(random.integers(3)), start + int(random.integers(8)), int(random.integers(16, 36))
        for frame in range(first, first + length):
            column = (frame - first) % 16
            frames_NHWC[frame, 8:24, column : column + 16] = COLOURS[label]
        segments.append(Segment(first / FPS, (first + length) / FPS, label))
    sample = sample_from_frames(frames_NHWC, name=f"takes/{number}", fps=FPS, source_sha256=f"{number:064x}")
    return replace(sample, truth=Truth(segments=tuple(segments)))


def pack_takes(folder: Path, numbers: range, *, subset: str, split: str = "1", dataset: str = "takes") -> str:
    write_samples(folder, map(take, numbers), CLASSES, dataset=dataset, split=split, subset=subset, samples_per_shard=4)
    return str(folder)
