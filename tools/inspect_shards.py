"""Say what is in a packed data set, check every byte of it, or make a page to look at it."""

from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console
from rich.table import Table

from scenebias.commands import run_command, write_output
from scenebias.inspection import Summary, render_page, scene_name, summarize
from shards.dataset import ShardDataset
from shards.errors import UserError
from shards.index import rebuild_index
from shards.manifest import Manifest
from shards.sample import SCENE_COUNT

SCENES_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class InspectShards:
    """Say what is in a packed data set, check every byte of it, or make a page to look at it."""

    directory: tyro.conf.Positional[Path]
    """Folder that tools/make_shards.py made."""
    verify: bool = False
    """First read everything: compare every checksum and decode every frame. Exit status 1 if anything is wrong."""
    html: Path | None = None
    """Write one self-contained page with frames, masks and scenes of some clips of every class."""
    samples_per_class: int = 2
    """Clips of every class on the page."""
    scene_names: Path | None = None
    """Names of the 365 scene categories: categories_places365.txt of Places365."""
    rebuild_index: bool = False
    """First make every index again from the tar files alone."""

    def __post_init__(self) -> None:
        if self.samples_per_class < 1:
            raise ValueError(f"samples_per_class must be at least 1, got {self.samples_per_class}")


def main(config: InspectShards) -> int:
    """Say what is in a packed data set, check every byte of it, or make a page to look at it."""
    console = Console(soft_wrap=True, highlight=False, markup=False, emoji=False)
    scene_names = read_scene_names(config.scene_names) if config.scene_names else None
    if config.rebuild_index:
        rebuild_index(config.directory)
    dataset = ShardDataset.open(config.directory)
    if config.verify and print_problems(console, dataset):
        return 1  # a damaged data set may have no summary
    print_summary(console, dataset.manifest, summarize(dataset), scene_names)
    if config.html:
        write_output(config.html, render_page(dataset, config.samples_per_class, scene_names))
        console.print(f"wrote {config.html}")
    return 0


def print_problems(console: Console, dataset: ShardDataset) -> int:
    """Read everything, print every problem as it is found, and return how many there are."""
    problem_count = 0
    for problem in dataset.verify():
        problem_count += 1
        console.print(problem, style="red")
    console.print(f"verified {len(dataset)} clips: {problem_count or 'no'} problem{'s' * (problem_count != 1)}")
    return problem_count


def print_summary(console: Console, manifest: Manifest, summary: Summary, scene_names: tuple[str, ...] | None) -> None:
    """Print the numbers of a data set; a class without any clip is red."""
    table = Table("class", title=f"{manifest.dataset}, split {manifest.split}, {manifest.subset}")
    table.add_column("clips", justify="right")
    for name, count in zip(manifest.classes, manifest.class_counts, strict=True):
        table.add_row(name, str(count), style=None if count else "red")
    console.print(table)
    facts = Table.grid(padding=(0, 2))
    facts.add_row("clips", f"{summary.clip_count} in {len(manifest.shards)} shards")
    facts.add_row("absent", f"{len(manifest.missing)} missing, {len(manifest.broken)} broken when packed")
    facts.add_row("frames", f"{summary.frame_count}, {summary.bytes_per_frame:.0f} bytes each")
    lengths = ", ".join(f"{low}-{high}: {count}" for low, high, count in summary.frame_histogram)
    facts.add_row("clip lengths", lengths)
    facts.add_row("stored as", f"{manifest.codec}, {manifest.frame_height} rows, quality {manifest.quality}")
    share = "" if summary.person_share is None else f", a person in {summary.person_share:.1%} of their frames"
    facts.add_row("masks", f"{summary.masked_count} clips{share}")
    top = ", ".join(f"{scene_name(category, scene_names)}: {n}" for category, n in summary.scene_counts[:SCENES_SHOWN])
    facts.add_row("top scenes", f"{len(summary.scene_counts)} categories; {top}" if top else "no scene labels")
    facts.add_row("digest", manifest.digest)
    console.print(facts)


def read_scene_names(path: Path) -> tuple[str, ...]:
    """Read names of scene categories; Places365 writes lines like ``/a/airfield 0``."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--scene-names {path}: cannot be read ({error}); give categories_places365.txt") from error
    names = tuple(line.split()[0].removeprefix(f"/{line[1:2]}/") for line in lines if line.strip())
    if len(names) != SCENE_COUNT:
        raise UserError(
            f"--scene-names {path}: {len(names)} names instead of {SCENE_COUNT}; give categories_places365.txt"
        )
    return names


if __name__ == "__main__":
    run_command(main, InspectShards)
