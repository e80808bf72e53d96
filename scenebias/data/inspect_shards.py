"""The command tools/inspect_shards.py: say what is in a packed data set, check every byte of it, or make a page."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from scenebias.annotators import read_scene_categories, scene_categories
from scenebias.commands import Command, write_output
from scenebias.data.datasets import RemoteConfig
from scenebias.data.duplicates import Duplicates, HashedDataset
from scenebias.data.inspection import Summary, render_page, summarize
from scenebias.data.truth_counts import TruthCounts
from shards.checks import require_at_least
from shards.codecs.registry import FILMSTRIP
from shards.dataset import ShardDataset
from shards.errors import UserError, system_fault
from shards.format.focus import WHOLE_FRAMES
from shards.format.index import rebuild_index
from shards.format.manifest import Manifest
from shards.storage.downloads import local_path

SCENES_SHOWN = 5
SIZES_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class InspectShards:
    """Say what is in a packed data set, check every byte of it, or make a page to look at it."""

    location: tyro.conf.Positional[str]
    """Folder that tools/make_shards.py made, or its URL (s3://, gs://, https://)."""
    verify: bool = False
    """First read everything: compare every checksum and decode every frame. Exit status 1 if anything is wrong."""
    html: Path | None = None
    """Write one self-contained page with frames, masks and scenes of some clips of every class."""
    samples_per_class: int = 2
    """Clips of every class on the page."""
    scene_names: Path | None = None
    """Names of the scene categories, for labels in another order than Places365's: 365 lines '<name> <number>'."""
    duplicates: tuple[str, ...] = ()
    """Other packed data sets: tell which clips are of the same videos here and there, and which look alike, even
    re-encoded, scaled, mirrored or trimmed; on the page they stand side by side. This data set itself is compared with
    itself."""
    duplicates_json: Path | None = None
    """Write all pairs that look alike to this file."""
    rebuild_index: bool = False
    """First make every index again from the tar files alone."""
    remote: RemoteConfig = field(default_factory=RemoteConfig)

    def __post_init__(self) -> None:
        require_at_least(1, samples_per_class=self.samples_per_class)
        if self.duplicates_json is not None and not self.duplicates:
            raise ValueError("duplicates_json needs duplicates: name the data sets to compare with")


def main(config: InspectShards) -> int:
    """Say what is in a packed data set, check every byte of it, or make a page to look at it."""
    console = Console(soft_wrap=True, highlight=False, markup=False, emoji=False)
    named = config.scene_names
    scene_names = read_scene_categories(named, "--scene-names") if named else scene_categories()
    if config.rebuild_index:
        directory = local_path(config.location)
        if directory is None:
            raise UserError(f"--rebuild-index cannot write to {config.location}: run it where the shards lie")
        try:
            rebuild_index(directory)
        except OSError as error:
            if (fault := system_fault(error)) is None:
                raise
            raise UserError(f"{error.filename or directory}: {fault}; mend that") from error
    dataset, *others = map(config.remote.open, (config.location, *config.duplicates))
    if config.verify and print_problems(console, dataset):
        return 1  # a damaged data set may have no summary
    dataset.check_index()
    print_summary(console, dataset.manifest, summarize(dataset), TruthCounts.of(dataset), scene_names)
    found = print_duplicates(console, dataset, others)
    if config.duplicates_json:
        content = {str(one.theirs.dataset.location): one.values() for one in found}
        write_output(config.duplicates_json, content)
        console.print(f"wrote {config.duplicates_json}")
    if config.html:
        more = [one.section() for one in found]
        write_output(config.html, render_page(dataset, config.samples_per_class, scene_names, more))
        console.print(f"wrote {config.html}")
    return 0


def print_duplicates(console: Console, dataset: ShardDataset, others: Sequence[ShardDataset]) -> list[Duplicates]:
    """Compare a data set with others, and print what they have in common."""
    if not others:
        return []
    ours, found = HashedDataset.of(dataset), []
    for other in others:
        is_same = other.manifest.digest == dataset.manifest.digest
        found.append(Duplicates.find(ours, ours if is_same else HashedDataset.of(other)))
        found[-1].report(console)
    return found


def print_problems(console: Console, dataset: ShardDataset) -> int:
    """Read everything, print every problem as it is found, and return how many there are."""
    problem_count = 0
    for problem in dataset.verify():
        problem_count += 1
        console.print(problem, style="red")
    console.print(f"verified {len(dataset)} clips: {problem_count or 'no'} problem{'s' * (problem_count != 1)}")
    return problem_count


def print_summary(
    console: Console, manifest: Manifest, summary: Summary, truth: TruthCounts | None, scene_names: tuple[str, ...]
) -> None:
    """Print the numbers of a data set; a class without any clip is red."""
    console.print(_table_of_classes(manifest, summary, truth, scene_names))
    facts = Table.grid(padding=(0, 2))
    facts.add_row("clips", f"{summary.clip_count} in {len(manifest.shards)} shards")
    facts.add_row("absent", f"{len(manifest.missing)} missing, {len(manifest.broken)} broken when packed")
    facts.add_row("frames", f"{summary.frame_count}, {summary.bytes_per_frame:.0f} bytes each")
    lengths = ", ".join(f"{low}-{high}: {count}" for low, high, count in summary.frame_histogram)
    facts.add_row("clip lengths", lengths)
    sizes = ", ".join(f"{width}x{height}: {count}" for width, height, count in summary.frame_sizes[:SIZES_SHOWN])
    facts.add_row("frame sizes", sizes + (", ..." if len(summary.frame_sizes) > SIZES_SHOWN else ""))
    scale = "quality" if manifest.codec == FILMSTRIP else "constant rate factor"
    facts.add_row("stored as", f"{manifest.codec}, {manifest.frame_height} rows, {scale} {manifest.quality}")
    people = "" if summary.person_share is None else f", a person in {summary.person_share:.1%} of their frames"
    if manifest.focus != WHOLE_FRAMES:
        centred = f"; {summary.centred_count} without people show the centre" if summary.centred_count else ""
        facts.add_row("shown", f"{manifest.focus}{centred}")
    facts.add_row("masks", f"{summary.masked_count} clips{people}")
    for name, fact in (truth.facts() if truth else {}).items():
        facts.add_row(name, fact)
    top = ", ".join(f"{scene_names[category]}: {n}" for category, n in summary.scene_counts[:SCENES_SHOWN])
    facts.add_row("top scenes", f"{len(summary.scene_counts)} categories; {top}" if top else "no scene labels")
    facts.add_row("digest", manifest.digest)
    console.print(facts)


def _table_of_classes(
    manifest: Manifest, summary: Summary, truth: TruthCounts | None, scene_names: tuple[str, ...]
) -> Table:
    counts = {"clips": np.array(manifest.class_counts)}
    if truth is not None:
        counted = {"segments": truth.segments_C, "boxes": truth.boxes_C, "tubes": truth.tubes_C}
        counts |= {name: count_C for name, count_C in counted.items() if count_C.any()}
    table = Table("class", title=f"{manifest.dataset}, split {manifest.split}, {manifest.subset}")
    for name in (*counts, "frames with people"):
        table.add_column(name, justify="right")
    table.add_column("scenes, on average")
    shares, all_scenes = summary.class_person_shares, summary.class_scenes
    for name, *numbers, share, scenes in zip(manifest.classes, *counts.values(), shares, all_scenes, strict=True):
        top = ", ".join(f"{scene_names[category]} {probability:.0%}" for category, probability in scenes)
        people = "" if share is None else f"{share:.0%}"
        table.add_row(name, *map(str, numbers), people, top, style=None if any(numbers) else "red")
    return table


COMMAND = Command(
    main=main,
    options=InspectShards,
    writes=("html", "duplicates_json"),
    example="python tools/inspect_shards.py data/jhmdb/train --verify --html data/jhmdb/train.html",
)
