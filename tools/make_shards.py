"""Pack videos, human masks and scene labels into a data set of shards."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table

from scenebias.annotators import SceneFile, open_mask_source
from scenebias.commands import run_command
from scenebias.progress import ProgressDisplay
from shards.pack_report import PackReport
from shards.packing import REPORT_NAME, PackConfig, pack
from shards.sources import CsvSource, FolderSource, JhmdbSource

NONE = Path("none")


@dataclass(frozen=True, kw_only=True)
class MakeShards:
    """Pack videos, human masks and scene labels into a data set of shards."""

    source: (
        Annotated[JhmdbSource, tyro.conf.subcommand("jhmdb")]
        | Annotated[FolderSource, tyro.conf.subcommand("folder")]
        | Annotated[CsvSource, tyro.conf.subcommand("csv")]
    )
    out: Path
    """Folder of the new data set. It appears when it is complete; a second identical run returns at once."""
    masks: Path = NONE
    """Folder of human masks: JHMDB's <class>/<clip>.mat, or <class>/<clip>.npz with an array 'masks' (frames, height,
    width), or <class>/<clip>.npy; as many and as large as the video's frames. none: pack without."""
    mask_fps: float | None = None
    """Frame rate at which the masks were drawn, for videos that repeat frames to reach a higher one. Masks are then
    matched by time, right to one frame. By default a clip must have one mask a frame; JHMDB's .mat files: 25."""
    scenes: Path = NONE
    """Soft scene labels: an .npz file with 'clips' (<class>/<clip>) and 'probs' (n, 365). none: pack without."""
    pack: PackConfig = field(default_factory=PackConfig)
    strict: bool = False
    """Fail if any clip is missing or broken, or without a mask file where --masks is given, instead of reporting it."""
    overwrite: bool = False
    """Replace the data set that is in --out. Folders that hold anything else are never touched."""

    def __post_init__(self) -> None:
        if self.mask_fps is not None and not self.mask_fps > 0:
            raise ValueError(f"mask_fps must be above 0, got {self.mask_fps}")


def main(config: MakeShards) -> None:
    """Pack videos, human masks and scene labels into a data set of shards."""
    console = Console(soft_wrap=True, highlight=False, markup=False, emoji=False)
    listing = config.source.listing()
    masks = open_mask_source(config.masks, listing.clips, config.mask_fps) if config.masks != NONE else None
    scenes = SceneFile(config.scenes) if config.scenes != NONE else None
    started = time.monotonic()
    with ProgressDisplay("packing", len(listing.clips), "clips") as progress:
        report = pack(
            listing,
            config.out,
            config.pack,
            mask_source=masks,
            scene_source=scenes,
            strict=config.strict,
            overwrite=config.overwrite,
            progress=progress.advance,
        )
    if report is None:
        console.print(f"{config.out} already holds this data set, complete; nothing to do")
        return
    print_report(console, report)
    seconds = time.monotonic() - started
    rate = report.packed_count / seconds
    console.print(
        f"{report.packed_count} clips in {seconds:.0f} s ({rate:.1f} clips/s) -> {config.out}; "
        f"details in {config.out / REPORT_NAME}",
    )


def print_report(console: Console, report: PackReport) -> None:
    """Print what became of the clips of every class; a class without any clip is red."""
    table = Table("class", title=f"{report.listing.dataset}, split {report.listing.split}, {report.listing.subset}")
    for column in ("wanted", "packed", "missing", "broken"):
        table.add_column(column, justify="right")
    for name, counts in report.counts().items():
        table.add_row(
            name,
            *(str(count) for count in (counts.wanted, counts.packed, counts.missing, counts.broken)),
            style=None if counts.packed else "red",
        )
    total = (len(report.listing.clips) + len(report.listing.missing), report.packed_count)
    table.add_section()
    table.add_row("all", *(str(n) for n in (*total, len(report.listing.missing), len(report.broken))))
    console.print(table)
    for name, reason in report.broken.items():
        console.print(f"broken: {name}: {reason}", style="yellow")
    if report.without_masks:
        count = len(report.without_masks)
        console.print(f"{count} clip{' has' if count == 1 else 's have'} no mask file", style="yellow")


if __name__ == "__main__":
    run_command(main, Annotated[MakeShards, tyro.conf.CascadeSubcommandArgs, tyro.conf.OmitSubcommandPrefixes])
