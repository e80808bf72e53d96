"""Tell how many clips a second are read, not decoded, of the same clips packed into few and into many shards.

The order is a shuffle of all clips, so that almost every clip comes from another shard than the one before. The shards
stay in the page cache.
"""

import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from statistics import median

PROJECT_ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PROJECT_ROOT))

import numpy as np  # noqa: E402

from scenebias.commands import Command  # noqa: E402
from shards.checks import require_at_least  # noqa: E402
from shards.dataset import ShardDataset  # noqa: E402
from shards.format.sample import Sample  # noqa: E402
from shards.order import EpochOrder  # noqa: E402
from tools.trials.ready_samples import sample_from_frames, write_samples  # noqa: E402

HEIGHT, WIDTH, FRAMES = 128, 170, 24
WINDOW_FRAMES = 16
SHARD_COUNTS = (1, 10, 100, 200, 500, 2000)
REPEATS = 7
LEAST_SHARE = 0.5


@dataclass(frozen=True, kw_only=True)
class ManyShards:
    """How many clips there are."""

    clips: int = 2_000
    """Clips that are packed, and read once in an epoch."""

    def __post_init__(self) -> None:
        require_at_least(1, clips=self.clips)


def main(config: ManyShards) -> int:
    """Tell how many clips a second are read, not decoded, of the same clips packed into few and into many shards.

    Exit status 1 where the most shards give less than half of the clips a second of the fewest.
    """
    clip_count = config.clips
    with tempfile.TemporaryDirectory() as temporary:
        datasets = {
            shard_count: pack(Path(temporary) / str(shard_count), clip_count, shard_count)
            for shard_count in SHARD_COUNTS
            if shard_count <= clip_count
        }
        clips_per_s: dict[int, list[float]] = {shard_count: [] for shard_count in datasets}
        for epoch in range(REPEATS):
            for shard_count, dataset in datasets.items():
                clips_per_s[shard_count].append(read_epoch(dataset, epoch))
    medians = []
    for shard_count, measured in clips_per_s.items():
        medians.append(median(measured))
        print(
            f"{shard_count} shards: {medians[-1]:.0f} clips/s"
            f" ({min(measured):.0f} to {max(measured):.0f} in {REPEATS} epochs)"
        )
    return 0 if medians[-1] >= LEAST_SHARE * medians[0] else 1


def pack(directory: Path, clip_count: int, shard_count: int) -> ShardDataset:
    """Pack clips of soft noise; every sixteenth is the same."""
    clips = [make_clip(seed) for seed in range(min(16, clip_count))]
    samples = islice(cycle(clips), clip_count)
    write_samples(directory, samples, ("noise",), samples_per_shard=-(-clip_count // shard_count))
    return ShardDataset.open(directory)


def make_clip(seed: int) -> Sample:
    spots = np.random.default_rng(seed).integers(0, 256, (FRAMES, HEIGHT // 8, -(-WIDTH // 8), 3), dtype=np.uint8)
    frames_NHWC = spots.repeat(8, axis=1).repeat(8, axis=2)[:, :, :WIDTH]
    return sample_from_frames(frames_NHWC, name=f"noise/{seed}")


def read_epoch(dataset: ShardDataset, epoch: int) -> float:
    """Clips a second."""
    order = EpochOrder(sample_count=len(dataset), global_batch_size=len(dataset)).global_batch(epoch, 0)
    window = np.arange(4, 4 + WINDOW_FRAMES)
    started_s = time.perf_counter()
    for sample in order.tolist():
        dataset.read_clip(sample, window)
    return len(order) / (time.perf_counter() - started_s)


COMMAND = Command(
    main=main,
    options=ManyShards,
    example="python tools/trials/many_shards.py --clips 2000",
)

if __name__ == "__main__":
    COMMAND.run()
