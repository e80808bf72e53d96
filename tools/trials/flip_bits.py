"""Flip one bit of a shard, again and again, and see that it is found, and that the clip it belongs to is named.

A small data set of every codec is made; bits are drawn from all of a shard: frames, masks, labels, the names and sizes
that tar keeps of them, and its padding.
"""

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

PROJECT_ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PROJECT_ROOT))

import numpy as np  # noqa: E402

from scenebias.commands import Command  # noqa: E402
from shards.checks import require_at_least  # noqa: E402
from shards.codecs.registry import FILMSTRIP, Codec  # noqa: E402
from shards.dataset import DamagedClipError, ShardDataset  # noqa: E402
from shards.format.sample import SCENE_COUNT  # noqa: E402
from tools.trials.ready_samples import sample_from_frames, write_samples  # noqa: E402

CODECS: tuple[Codec, ...] = (FILMSTRIP, "h264", "hevc", "vp9")
READ_WITH_FRAMES = ("frames", "video", "masks")
"""What the names of the components hold that `ShardDataset.read_clip` reads."""
FRAMES, HEIGHT, WIDTH = 24, 96, 128
CLIPS, CLIPS_PER_SHARD = 6, 3


@dataclass(frozen=True, kw_only=True)
class FlipBits:
    """How often to try it."""

    flips: int = 1000
    """Bits to flip, one at a time; the codecs take turns."""
    seed: int = 0
    """Seed of the places."""

    def __post_init__(self) -> None:
        require_at_least(1, flips=self.flips)


def main(config: FlipBits) -> int:
    """Flip one bit of a shard, again and again, and see that it is found, and that the clip it belongs to is named.

    Exit status 1 where a bit was not found, or a clip was read that holds it.
    """
    random = np.random.default_rng(config.seed)
    in_clips = missed = 0
    with tempfile.TemporaryDirectory() as temporary:
        folders = {codec: write_dataset(Path(temporary) / codec, codec, random) for codec in CODECS}
        for flip in range(config.flips):
            folder = folders[CODECS[flip % len(CODECS)]]
            shard = sorted(folder.glob("*.tar"))[int(random.integers(CLIPS // CLIPS_PER_SHARD))]
            place = int(random.integers(shard.stat().st_size))
            held = component_at(ShardDataset.open(folder), shard.name, place)
            in_clips += held is not None
            flip_bit(shard, place, bit := int(random.integers(8)))
            problems = problems_of(ShardDataset.open(folder), shard.name, held)
            flip_bit(shard, place, bit)
            missed += bool(problems)
            for problem in problems:
                print(f"bit {bit} of byte {place} of {shard}: {problem}")
        left = [problem for folder in folders.values() for problem in ShardDataset.open(folder).verify()]
    print(f"{config.flips} bits flipped, {in_clips} of them in what is read of a clip: {missed} not found")
    return 1 if missed or left else 0


def write_dataset(folder: Path, codec: Codec, random: np.random.Generator) -> Path:
    """Pack clips of soft noise with masks and scene labels."""
    samples = []
    for number in range(CLIPS):
        spots = random.integers(0, 256, (FRAMES, HEIGHT // 8, WIDTH // 8, 3), dtype=np.uint8)
        samples.append(
            sample_from_frames(
                spots.repeat(8, axis=1).repeat(8, axis=2),
                name=f"noise/{number}",
                mask_NHW=random.random((FRAMES, HEIGHT // 2, WIDTH // 2)) < 0.5,
                scene=np.full(SCENE_COUNT, 1 / SCENE_COUNT, dtype=np.float16),
                codec=codec,
                frames_per_part=8,
            )
        )
    write_samples(folder, samples, ("noise",), samples_per_shard=CLIPS_PER_SHARD)
    return folder


def component_at(dataset: ShardDataset, shard: str, place: int) -> tuple[int, str] | None:
    """The clip and the component of it to which this byte belongs; None for what tar keeps around them."""
    for clip in range(len(dataset)):
        if shard in dataset.describe(clip):
            for name, found in dataset.places(clip).items():
                if 0 <= place - int(found["offset"]) < int(found["bytes"]):
                    return clip, name
    return None


def flip_bit(path: Path, place: int, bit: int) -> None:
    with path.open("r+b") as file:
        file.seek(place)
        (value,) = file.read(1)
        file.seek(place)
        file.write(bytes([value ^ 1 << bit]))


def problems_of(dataset: ShardDataset, shard: str, held: tuple[int, str] | None) -> list[str]:
    """What was not noticed of a wrong bit; ``held``: the clip and the component that it is in."""
    found = list(dataset.verify())
    problems = []
    if not any(f"{shard}: its SHA-256" in sentence for sentence in found):
        problems.append("the shard is not said to be damaged")
    if held is None:
        return problems
    clip, component = held
    if not any(sentence.startswith(dataset.describe(clip)) for sentence in found):
        problems.append(f"clip {clip} is not named, of which it is in {component}")
    if any(name in component for name in READ_WITH_FRAMES):
        try:
            dataset.read_clip(clip, np.arange(FRAMES), check_crc=True)
            problems.append(f"clip {clip} is read, of which it is in {component}")
        except DamagedClipError:
            pass
    return problems


COMMAND = Command(
    main=main,
    options=FlipBits,
    example="python tools/trials/flip_bits.py --flips 1000",
)

if __name__ == "__main__":
    COMMAND.run()
