"""Packed clips in which a coloured rectangle walks: what it does is its colour, and where it is are its pixels.

Shape suffixes: T frames, H rows, W columns.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from dali_pipelines.windows import ClipConfig
from scenebias.detect.detector import ActionDetector, DetectorConfig
from scenebias.detect.training import new_detector
from scenebias.models.action_model import ActionModel, ModelConfig
from shards.dataset import ShardDataset
from shards.format.sample import Sample
from shards.format.truth import BOX_DTYPE, Truth
from tests.conftest import make_synthetic_sample
from tools.trials.ready_samples import sample_from_frames, write_samples

CLASSES = ("red", "green", "blue")
FRAMES, HEIGHT, WIDTH = 12, 48, 64
ROWS, COLUMNS = 28, 20
"""Of a rectangle."""
CLIP = ClipConfig(frames=4, size=48)


def rectangle_sample(number: int, *, frame_count: int = FRAMES, empty_frames: int = 0) -> Sample:
    """A clip of dim noise; in its last frames a rectangle moves to the right, a pixel a frame."""
    random, label = np.random.default_rng(number), number % 3
    frames_THW3 = random.integers(0, 50, (frame_count, HEIGHT // 8, WIDTH // 8, 3), dtype=np.uint8)
    frames_THW3 = frames_THW3.repeat(8, axis=1).repeat(8, axis=2)
    left, top = (int(random.integers(0, room)) for room in (WIDTH - COLUMNS - frame_count, HEIGHT - ROWS))
    rows = []
    for frame in range(empty_frames, frame_count):
        box = (left + frame, top, left + frame + COLUMNS, top + ROWS)
        frames_THW3[frame, box[1] : box[3], box[0] : box[2], label] = 230
        rows.append((frame, 0, label, *box))
    sample = sample_from_frames(frames_THW3, name=f"{CLASSES[label]}/clip{number:02d}", label=label, quality=95)
    return replace(sample, truth=Truth(boxes=np.array(rows, BOX_DTYPE)))


def write_rectangles(folder: Path, count: int, *, first_number: int = 0) -> ShardDataset:
    """Clips with boxes, the one after them with two frames without, and one in the middle of which nobody looked."""
    samples = [rectangle_sample(first_number + number) for number in range(count)]
    samples.insert(count // 2, replace(make_synthetic_sample(0, height=HEIGHT, width=WIDTH, masks=False), label=0))
    samples.append(rectangle_sample(first_number + count, empty_frames=2))
    write_samples(folder, samples, CLASSES, samples_per_shard=4)
    return ShardDataset.open(folder)


def small_detector() -> ActionDetector:
    """A new one, always the same."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = ActionModel(ModelConfig(backbone="small3d"), 2)
    return new_detector(model, len(CLASSES), DetectorConfig(width=32), seed=0)
