"""Pack very many simulated clips with tools/make_shards.py and tell the largest memory of its writing process.

The clips are ranges of frames of a few hundred small videos.
"""

import csv
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import combinations, islice
from math import comb
from pathlib import Path

import av
import numpy as np

from scenebias.commands import Command
from shards.checks import require_at_least
from shards.dataset import ShardDataset

PROJECT_ROOT = Path(__file__).resolve().parents[2]
VIDEO_COUNT = 400
FRAME_COUNT = 42
MOST_CLIPS = VIDEO_COUNT * comb(FRAME_COUNT, 2)
LIMIT_BYTES = 1e9


@dataclass(frozen=True, kw_only=True)
class PackMemory:
    """How many clips there are."""

    clips: int = 300_000
    """Clips that are packed."""

    def __post_init__(self) -> None:
        require_at_least(1, clips=self.clips)
        if self.clips > MOST_CLIPS:
            raise ValueError(f"clips must be at most {MOST_CLIPS}, got {self.clips}")


def main(config: PackMemory) -> int:
    """Pack very many simulated clips with tools/make_shards.py and tell the largest memory of its writing process.

    Exit status 1 where more than 1 GB was taken.
    """
    clip_count = config.clips
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_csv(folder, clip_count)
        command = [
            *(
                sys.executable,
                str(PROJECT_ROOT / "tools" / "make_shards.py"),
                "csv",
                "--file",
                str(folder / "clips.csv"),
            ),
            *("--out", str(folder / "out"), "--height", "16"),
        ]
        started_s = time.monotonic()
        process = subprocess.Popen(command, cwd=PROJECT_ROOT, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            raise SystemExit("packing failed")
        packed = len(ShardDataset.open(folder / "out"))
        assert packed == clip_count
        peak_bytes = usage.ru_maxrss * 1024
        print(f"{packed} clips in {time.monotonic() - started_s:.0f} s, at most {peak_bytes / 1e6:.0f} MB")
        return 1 if peak_bytes > LIMIT_BYTES else 0


def write_csv(folder: Path, clip_count: int) -> None:
    """Write small videos, each of a class of its own, and a list of ranges of their frames."""
    ranges_per_video = -(-clip_count // VIDEO_COUNT)
    ranges = list(islice(combinations(range(FRAME_COUNT), 2), ranges_per_video))
    assert len(ranges) == ranges_per_video, "as no more are accepted"
    with (folder / "clips.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "start", "end"])
        rows = ((f"{number}.mp4", f"class{number}", *span) for number in range(VIDEO_COUNT) for span in ranges)
        writer.writerows(islice(rows, clip_count))
    for number in range(VIDEO_COUNT):
        shade = np.full((32, 48, 3), number % 256, np.uint8)
        with av.open(str(folder / f"{number}.mp4"), "w") as container:
            stream = container.add_stream("mpeg4", rate=25)
            stream.height, stream.width, stream.pix_fmt = 32, 48, "yuv420p"
            for _ in range(FRAME_COUNT):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(shade, format="rgb24")))
            container.mux(stream.encode())


COMMAND = Command(
    main=main,
    options=PackMemory,
    example="python tools/trials/pack_memory.py --clips 300000",
)

if __name__ == "__main__":
    COMMAND.run()
