"""Tell the time to read, and to read and decode, a window at several places of a long clip, in each of its codecs."""

import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

PROJECT_ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PROJECT_ROOT))

import numpy as np  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from PIL import Image  # noqa: E402

from scenebias.commands import Command  # noqa: E402
from shards.checks import require_at_least  # noqa: E402
from shards.codecs.registry import Codec  # noqa: E402
from shards.dataset import ShardDataset  # noqa: E402
from shards.packing.clip_preparation import PackConfig  # noqa: E402
from tools.trials.ready_samples import sample_from_frames, write_samples  # noqa: E402

CODECS: tuple[Codec, ...] = ("filmstrip", "h264")
HEIGHT, WIDTH, FPS = 128, 170, 30.0
WINDOW_FRAMES = 16
REPEATS = 300
LIMIT = 1.5


@dataclass(frozen=True, kw_only=True)
class LongClip:
    """How long the clip is."""

    frames: int = 3_000
    """Frames of the clip."""

    def __post_init__(self) -> None:
        require_at_least(WINDOW_FRAMES, frames=self.frames)


def main(config: LongClip) -> int:
    """Tell the time to read, and to read and decode, a window at several places of a long clip, in each of its codecs.

    Exit status 1 where reading at the end takes 1.5 times what it takes at the start, or more.
    """
    frame_count = config.frames
    within_limits = []
    with tempfile.TemporaryDirectory() as temporary:
        for codec in CODECS:
            dataset = pack(Path(temporary) / codec, codec, frame_count)
            # In steps of whole parts, so that a window lies in its part as the others do in theirs.
            part = frames_per_part(codec)
            last_part = (frame_count - WINDOW_FRAMES) // part
            starts = [number * part for number in (0, last_part // 2, last_part)]
            read_s = measure(dataset, starts, decode=False)
            decoded_s = measure(dataset, starts, decode=True)
            for start, read, decoded in zip(starts, read_s, decoded_s, strict=True):
                print(
                    f"{codec}, {frame_count} frames, window of {WINDOW_FRAMES} at {start}: read in {read * 1e6:.0f} us,"
                    f" read and decoded in {decoded * 1e3:.2f} ms"
                )
            within_limits.append(read_s[-1] < LIMIT * read_s[0])
    return 0 if all(within_limits) else 1


def pack(directory: Path, codec: Codec, frame_count: int) -> ShardDataset:
    """Pack one clip of smooth noise that moves, with masks."""
    frames = smooth_noise(frame_count)
    mask_NHW = frames[:, ::2, ::2, 0] > 128
    sample = sample_from_frames(
        frames,
        name="long/clip",
        mask_NHW=mask_NHW,
        fps=FPS,
        codec=codec,
        crf=23,
        frames_per_part=frames_per_part(codec),
    )
    write_samples(directory, [sample], ("long",), dataset="long")
    return ShardDataset.open(directory)


def frames_per_part(codec: Codec) -> int:
    """As packing has it by default."""
    config = PackConfig(codec=codec, height=HEIGHT)
    return config.encoder().frames_per_part


def smooth_noise(frame_count: int) -> NDArray[np.uint8]:
    """A picture of soft spots that drifts to the side: uint8 (N, H, W, 3)."""
    spots = np.random.default_rng(0).integers(0, 256, (16, 43, 3), dtype=np.uint8)
    picture = np.asarray(Image.fromarray(spots).resize((2 * WIDTH, HEIGHT), Image.Resampling.BICUBIC))
    return np.stack([np.roll(picture, 3 * frame, axis=1)[:, :WIDTH] for frame in range(frame_count)])


def measure(dataset: ShardDataset, starts: list[int], *, decode: bool) -> list[float]:
    """Median seconds of a window at each of ``starts``, measured in turn."""
    taken_s: list[list[float]] = [[] for _ in starts]
    for _ in range(REPEATS):
        for start, measured_s in zip(starts, taken_s, strict=True):
            started_s = time.perf_counter()
            clip = dataset.read_clip(0, np.arange(start, start + WINDOW_FRAMES))
            if decode:
                dataset.decode(0, clip)
            measured_s.append(time.perf_counter() - started_s)
    return [median(measured_s) for measured_s in taken_s]


COMMAND = Command(
    main=main,
    options=LongClip,
    example="python tools/trials/long_clip.py --frames 3000",
)

if __name__ == "__main__":
    COMMAND.run()
