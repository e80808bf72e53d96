"""``scenebias splice``: clips of packed data sets, joined to long videos in which actions can be looked for.

Real clips are cut around their action; joined, they make videos in which it is known when an action happens. But every
junction is a cut: who finds the cuts knows where actions begin and end. So the cuts come with the videos, and what they
alone are worth is to be told beside every result (``scenebias localize --cuts``).

<out>/videos/splice_<number>.mp4
<out>/segments.csv     when the targets are shown
<out>/classes.txt      the classes of the targets
<out>/cuts.json        the times of the junctions, in seconds, by the name of the video
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scenebias.commands import Command
from scenebias.data.datasets import RemoteConfig
from scenebias.data.video_writer import write_video
from scenebias.reports.progress import ProgressDisplay
from shards.checks import require_at_least
from shards.dataset import ShardDataset
from shards.errors import UserError
from shards.packing.output_folder import new_folder
from shards.system.atomic import write_json

CUTS_NAME = "cuts.json"
COLUMNS = ("video", "start_s", "end_s", "label")


@dataclass(frozen=True, kw_only=True)
class SpliceConfig:
    """What to join, and where to put it."""

    targets: str
    """Packed data set: a folder, or its URL. Its clips are what is to be found, each shown once."""
    distractors: str
    """Packed data set of other classes, one of whose clips stands before, between and after the targets."""
    out: Path
    """Folder to create."""
    least_targets: int = 3
    """Targets of a video, at least (the last one may have fewer)."""
    most_targets: int = 6
    """Targets of a video, at most."""
    seed: int = 0
    """Of the order of the targets, and of which distractors stand between them."""
    remote: RemoteConfig = field(default_factory=RemoteConfig)

    def __post_init__(self) -> None:
        require_at_least(1, least_targets=self.least_targets)
        if self.most_targets < self.least_targets:
            raise ValueError(
                f"most_targets must be at least least_targets ({self.least_targets}), got {self.most_targets}"
            )
        require_at_least(0, seed=self.seed)


@dataclass(frozen=True)
class Piece:
    """A clip of a splice."""

    sample: int
    """Its number in its data set."""
    is_target: bool


def plan_splices(config: SpliceConfig, targets: int, distractors: int) -> list[list[Piece]]:
    """Which clips make up each video: a distractor at both ends and between any two targets, each target once."""
    random = np.random.default_rng(config.seed)
    left = random.permutation(targets).tolist()
    splices = []
    while left:
        count = int(random.integers(config.least_targets, config.most_targets + 1))
        shown, left = left[:count], left[count:]
        between = random.integers(distractors, size=len(shown) + 1).tolist()
        pieces = [Piece(between[0], is_target=False)]
        for target, distractor in zip(shown, between[1:], strict=True):
            pieces += [Piece(target, is_target=True), Piece(distractor, is_target=False)]
        splices.append(pieces)
    return splices


def main(config: SpliceConfig) -> None:
    """Join clips of packed data sets to long videos, to localise actions in real ones.

    Leaves videos, segments.csv for `scenebias pack folder --segments`, and cuts.json for `scenebias localize --cuts`.
    """
    targets, distractors = config.remote.open(config.targets), config.remote.open(config.distractors)
    fps = _require_alike(targets, distractors)
    splices = plan_splices(config, len(targets), len(distractors))
    cuts: dict[str, list[float]] = {}
    with (
        new_folder(config.out) as folder,
        (folder / "segments.csv").open("w", encoding="utf-8", newline="") as file,
        ProgressDisplay("splicing", len(splices), "videos") as progress,
    ):
        (folder / "videos").mkdir()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for number, pieces in enumerate(splices):
            name, frames, times = f"splice_{number:05d}", [], [0.0]
            for piece in pieces:
                dataset = targets if piece.is_target else distractors
                frames.append(_frames(dataset, piece.sample))
                times.append(sum(map(len, frames)) / fps)
                if piece.is_target:
                    writer.writerow([name, times[-2], times[-1], dataset.info(piece.sample).class_name])
            write_video(folder / "videos" / f"{name}.mp4", np.concatenate(frames), fps)
            cuts[name] = times[1:-1]
            progress.advance()
        (folder / "classes.txt").write_text("".join(f"{name}\n" for name in targets.classes), encoding="utf-8")
        write_json(folder / CUTS_NAME, cuts)
    print(f"{config.out}: {len(targets)} clips of {len(targets.classes)} classes in {len(splices)} videos")


def _frames(dataset: ShardDataset, sample: int) -> NDArray[np.uint8]:
    frames_NHWC = dataset.decode(sample, dataset.read_clip(sample, np.arange(dataset.frame_counts[sample])))
    return frames_NHWC[:, :, : frames_NHWC.shape[2] // 2 * 2]  # H.264 wants an even width


def _require_alike(targets: ShardDataset, distractors: ShardDataset) -> float:
    """The frame rate of all clips. UserError where they differ in it or in size, or share a class."""
    shared = sorted({*targets.classes} & {*distractors.classes})
    if shared:
        raise UserError(
            f"--distractors {distractors.location} has classes of --targets, such as {shared[0]}: give other ones"
        )
    kinds = sorted({kind for dataset in (targets, distractors) for kind in _kinds(dataset)})
    if len(kinds) > 1:
        raise UserError(
            f"--targets and --distractors have clips of {len(kinds)} sizes and frame rates, such as {kinds[0]} and"
            f" {kinds[1]} (height, width, frames a second): pack clips of one shape alone"
        )
    return kinds[0][2]


def _kinds(dataset: ShardDataset) -> Iterator[tuple[int, int, float]]:
    for sample in range(len(dataset)):
        height, width = dataset.frame_sizes[sample].tolist()
        yield height, width, dataset.info(sample).fps


COMMAND = Command(
    main=main,
    options=SpliceConfig,
    example="python -m scenebias.data.splice --targets data/jhmdb-9/test --distractors data/jhmdb-12/test "
    "--out data/splices/test",
)

if __name__ == "__main__":
    COMMAND.run()
