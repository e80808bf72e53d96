"""The command tools/make_shards.py: who is in the data set, who annotates it, and what became of every clip."""

import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table

from scenebias.annotators import BOX_SCORE, open_mask_source, open_scene_source
from scenebias.annotators.networks.options import (
    MASK_NETWORKS,
    SCENE_NETWORKS,
    MaskNetworkConfig,
    MaskNetworkName,
    SceneNetworkConfig,
    SceneNetworkName,
)
from scenebias.commands import Command
from scenebias.reports.progress import ProgressDisplay
from shards.checks import require_frame_rate
from shards.dataset import ShardDataset
from shards.errors import UserError
from shards.packing.clip_preparation import PackConfig
from shards.packing.pack import ALONE, REPORT_NAME, Share, pack
from shards.packing.report import PackReport, refuse_shared
from shards.packing.request import Annotators
from shards.shared_clips import names_in_others
from shards.sources import (
    ActivityNetSource,
    CsvSource,
    Diving48Source,
    FolderSource,
    Hmdb51Source,
    JhmdbSource,
    Kinetics400Source,
    MiniKinetics200Source,
    Thumos14Source,
    Ucf101Source,
    Ucf10124Source,
)
from shards.sources.listing import ClipEntry, utf8_name
from shards.sources.texts import some

NONE = "none"
_URL = re.compile(r"[a-z][a-z0-9+.-]+:/", re.IGNORECASE)  # a path has one slash less than its URL
BROKEN_SHOWN = 20


@dataclass(frozen=True, kw_only=True)
class MakeShards:
    """Pack videos, human masks and scene labels into a data set of shards."""

    source: (
        Annotated[Ucf101Source, tyro.conf.subcommand("ucf101")]
        | Annotated[Hmdb51Source, tyro.conf.subcommand("hmdb51")]
        | Annotated[Diving48Source, tyro.conf.subcommand("diving48")]
        | Annotated[Kinetics400Source, tyro.conf.subcommand("kinetics400")]
        | Annotated[MiniKinetics200Source, tyro.conf.subcommand("mini_kinetics")]
        | Annotated[JhmdbSource, tyro.conf.subcommand("jhmdb")]
        | Annotated[Thumos14Source, tyro.conf.subcommand("thumos14")]
        | Annotated[ActivityNetSource, tyro.conf.subcommand("activitynet")]
        | Annotated[Ucf10124Source, tyro.conf.subcommand("ucf101_24")]
        | Annotated[FolderSource, tyro.conf.subcommand("folder")]
        | Annotated[CsvSource, tyro.conf.subcommand("csv")]
    )
    out: Path
    """Folder of the new data set. It appears when it is complete. The same command goes on after an interruption, and
    returns at once where all is done."""
    masks: str = NONE
    """Human masks: a folder that has them, or a network that finds them. Folder: JHMDB's <class>/<clip>.mat;
    <class>/<clip>.npz with an array 'masks' (frames, height, width), or <class>/<clip>.npy; <class>/<clip>/*.png;
    <class>/<clip>.json with boxes; a data set that was packed from the same videos, with masks. Network:
    maskrcnn_resnet50_fpn, maskrcnn_resnet50_fpn_v2, lraspp_mobilenet_v3_large, deeplabv3_mobilenet_v3_large,
    deeplabv3_resnet50, deeplabv3_resnet101. none: without."""
    mask_fps: float | None = None
    """Frame rate at which ready-made masks were drawn, for videos that repeat frames to reach a higher one. Masks are
    then matched by time, right to one frame. By default a clip must have one mask a frame; JHMDB's .mat files: 25."""
    box_score: float = BOX_SCORE
    """Boxes with a lower score are no human."""
    mask_network: MaskNetworkConfig = field(default_factory=MaskNetworkConfig)
    scenes: str = NONE
    """Scene labels: files that have them, or a network that gives them. Files: an .npz with 'clips' (<class>/<clip>)
    and 'probs' (n, 365); a folder of one .npy dictionary a class; a .json of hard labels. Network:
    resnet18_places365, resnet50_places365. none: without."""
    scene_categories: Path | None = None
    """categories_places365.txt of Places365: the order of ready-made labels is compared with it, and hard labels may be
    names."""
    scene_network: SceneNetworkConfig = field(default_factory=SceneNetworkConfig)
    pack: PackConfig = field(default_factory=PackConfig)
    apart_from: tuple[str, ...] = ()
    """Packed data sets that should have no clip of this one, such as the training set of a test set: folders, or their
    URLs. Clips of the same frames of the same videos, whatever they are called, are told and listed in report.json."""
    strict: bool = False
    """Fail if any clip is missing or broken, or has no mask or scene label where they are asked for, or a segment or
    box does not fit its video, or any clip is in a data
    set of --apart-from, or a class has no clip, or a video below --root is not read, instead of reporting it."""
    overwrite: bool = False
    """Replace the data set that is in --out, or drop an unfinished one. Folders that hold anything else are never
    touched."""

    def __post_init__(self) -> None:
        require_frame_rate(mask_fps=self.mask_fps)
        for option, path in (("out", self.out), ("root", self.source.root)):
            if path is not None and _URL.match(str(path)):
                raise ValueError(f"{option} must be a folder on this machine or mounted there, not the URL {path}")
        if not 0 <= self.box_score <= 1:
            raise ValueError(f"box_score must be 0 to 1, got {self.box_score}")
        if self.mask_network.mask_weights and not self.mask_network_name:
            raise ValueError(f"mask_weights goes with a network, but masks is {self.masks!r}")
        if self.scene_network.scene_weights and not self.scene_network_name:
            raise ValueError(f"scene_weights goes with a network, but scenes is {self.scenes!r}")

    @property
    def mask_network_name(self) -> MaskNetworkName | None:
        """The network that ``masks`` names, if it is one."""
        return next((name for name in MASK_NETWORKS if name == self.masks), None)

    @property
    def scene_network_name(self) -> SceneNetworkName | None:
        """The network that ``scenes`` names, if it is one."""
        return next((name for name in SCENE_NETWORKS if name == self.scenes), None)


OPTIONS = Annotated[MakeShards, tyro.conf.CascadeSubcommandArgs, tyro.conf.OmitSubcommandPrefixes]


def main(config: MakeShards) -> None:
    """Pack videos, human masks and scene labels into a data set of shards.

    Videos in .tar archives below --root are read where they are, as if the archives were unpacked.

    Under torchrun the processes share the work, on one machine or on several that share --out; networks share the GPUs.
    """
    others = [ShardDataset.open(location) for location in config.apart_from]
    with _session(config) as (share, device):
        is_main = share.rank == 0
        if isinstance(config.source, FolderSource) and config.out.resolve().is_relative_to(
            config.source.root.resolve()
        ):
            raise UserError(f"--out {config.out}: lies in --root, and would become a class of it; choose another place")
        listing = config.source.listing()
        annotators = open_annotators(config, listing.clips, device)
        started_s = time.monotonic()
        with ProgressDisplay("packing", len(listing.clips), "clips", visible=is_main) as progress:
            report = pack(
                listing,
                config.out,
                config.pack,
                annotators=annotators,
                share=share,
                apart_from=others,
                strict=config.strict,
                overwrite=config.overwrite,
                progress=progress,
            )
    if not is_main:
        return
    console = Console(soft_wrap=True, highlight=False, markup=False, emoji=False)
    if report is None:
        shared = names_in_others(ShardDataset.open(config.out), others)
        if config.strict:
            refuse_shared(shared)
        print_shared(console, shared)
        console.print(f"{config.out} already holds this data set, complete; nothing to do")
        return
    print_report(console, report)
    console.print(
        f"{report.packed_count} clips in {time.monotonic() - started_s:.0f} s -> {config.out}; "
        f"details in {config.out / REPORT_NAME}",
    )


@contextmanager
def _session(config: MakeShards) -> Iterator[tuple[Share, str]]:
    """The share of this process, and the device of its networks."""
    asks_network = config.mask_network_name or config.scene_network_name
    if "RANK" not in os.environ and not asks_network:
        yield ALONE, "cpu"
        return
    from scenebias.distributed.process_place import distributed_session  # PyTorch, which nothing else here needs

    # Packing takes more processes than there are GPUs, which are shared then.
    with distributed_session(long_waits=True, gpus="shared" if asks_network else "none") as place:
        yield place, str(place.device)


def open_annotators(config: MakeShards, entries: Sequence[ClipEntry], device: str) -> Annotators:
    """Find out who gives masks and scene labels, and get them ready; networks go to ``device``."""
    if not entries:
        return Annotators()
    mask_source = mask_network = scene_source = scene_network = None
    if config.mask_network_name:
        from scenebias.annotators.networks.person_networks import open_mask_network

        mask_network = open_mask_network(config.mask_network_name, config.mask_network, device)
    elif config.masks != NONE:
        mask_source = open_mask_source(Path(config.masks), entries, config.mask_fps, config.box_score)
    if config.scene_network_name:
        from scenebias.annotators.networks.places365 import open_scene_network

        scene_network = open_scene_network(config.scene_network_name, config.scene_network, device)
    elif config.scenes != NONE:
        scene_source = open_scene_source(Path(config.scenes), entries, config.scene_categories)
    return Annotators(
        mask_source=mask_source, mask_network=mask_network, scene_source=scene_source, scene_network=scene_network
    )


def print_report(console: Console, report: PackReport) -> None:
    """Print what became of the clips of every class; a class without any clip is red."""
    listing = report.listing
    table = Table("class", title=f"{listing.dataset}, split {listing.split}, {listing.subset}")
    for column in ("wanted", "packed", "missing", "broken"):
        table.add_column(column, justify="right")
    for name, counts in report.counts().items():
        table.add_row(
            name or "(no list tells the class)",
            *(str(count) for count in (counts.wanted, counts.packed, counts.missing, counts.broken)),
            style=None if counts.packed else "red",
        )
    total = (len(listing.clips) + len(listing.missing), report.packed_count)
    table.add_section()
    table.add_row("all", *(str(n) for n in (*total, len(listing.missing), len(report.broken))))
    console.print(table)
    _print_some(
        console,
        [
            f"broken: {entry.name}: {report.broken[entry.name]} ({utf8_name(str(entry.path))})"
            for entry in report.broken_clips
        ],
    )
    _print_some(console, [f"not read: {path}" for path in listing.unlisted])
    for kind, items in report.remarks.items():
        console.print(f"{kind}: {some(items)}", style="yellow")
    for kind, sentences in report.truth_problems.items():
        console.print(f"{kind}: {some(sentences)}", style="yellow")
    for names, what in ((report.without_masks, "masks"), (report.without_scenes, "scene label")):
        if names:
            console.print(f"{len(names)} clip{' has' if len(names) == 1 else 's have'} no {what}", style="yellow")
    if count := len(report.without_person):
        console.print(
            f"{count} clip{' has' if count == 1 else 's have'} no mask with a person in it: the centre of the frame is"
            " stored",
            style="yellow",
        )
    print_shared(console, report.shared)
    if empty := report.empty_classes:
        console.print(
            f"{len(empty)} of {len(listing.classes)} classes without any clip: {some(empty, 10)}", style="red"
        )


def print_shared(console: Console, shared: Mapping[str, Sequence[str]]) -> None:
    """Print how many clips other data sets have too, and the first of them."""
    for location, names in shared.items():
        if count := len(names):
            also = "clip is" if count == 1 else "clips are"
            console.print(f"{count} {also} of video frames that {location} has too: {some(names)}", style="yellow")


def _print_some(console: Console, lines: Sequence[str]) -> None:
    for line in lines[:BROKEN_SHOWN]:
        console.print(line, style="yellow")
    if len(lines) > BROKEN_SHOWN:
        console.print(f"... and {len(lines) - BROKEN_SHOWN} more like this; {REPORT_NAME} has them all", style="yellow")


COMMAND = Command(
    main=main,
    options=OPTIONS,
    parallel=True,
    example="python tools/make_shards.py jhmdb --root $DATA/jhmdb/videos --labels $DATA/labels/hmdb51 --split 1 "
    "--subset test --masks $DATA/jhmdb/masks --scenes $DATA/jhmdb/scene_probs.npz --out data/jhmdb/test",
)
