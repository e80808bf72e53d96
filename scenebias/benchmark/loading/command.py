"""The command tools/bench_data.py."""

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console

from dali_pipelines.decoding_config import DecodingConfig
from dali_pipelines.windows import ClipConfig
from scenebias.benchmark.loading.ours import open_crop_only, open_decode_only, open_ours
from scenebias.benchmark.loading.peers.original_videos import find_videos
from scenebias.benchmark.loading.peers.registry import ALL, choose_peers, open_peers
from scenebias.benchmark.loading.results import (
    LIMIT,
    OURS,
    OURS_CROP,
    PLOT_FORMATS,
    results_table,
    save_plot,
    summarise,
)
from scenebias.benchmark.loading.setting import Setting, counted
from scenebias.benchmark.loading.stages import measure_stages, stages_table
from scenebias.benchmark.loading.step_profile import profile_steps, profile_table
from scenebias.benchmark.loading.sweep import measure_sweep, sweep_as_json, sweep_table
from scenebias.benchmark.loading.windows import describe_windows, plan_windows
from scenebias.benchmark.machine import describe_machine
from scenebias.benchmark.measuring import CountedPass, Rates, measure
from scenebias.commands import Command, write_output
from scenebias.models.backbones import BackboneName
from scenebias.run_folder.record import plain
from shards.checks import require_at_least
from shards.codecs.registry import FILMSTRIP
from shards.dataset import ShardDataset
from shards.errors import UserError

NOTES = {
    OURS: "film strips, DALI, multi-scale crop",
    OURS_CROP: "the same, crop without scaling",
    LIMIT: "whole frames of the strips from memory, DALI's decoder alone",
}


@dataclass(frozen=True, kw_only=True)
class BenchData:
    """Measure how fast training data comes, beside other ways to feed the same clips."""

    shards: Path
    """Folder of a packed data set of film strips."""
    videos: Path | None = None
    """Folder of the videos it was packed from, <class>/<clip>.<extension>, for the loaders that read those."""
    peers: str = ALL
    """Other loaders to measure: all (of which those are left out that cannot be measured here), none, or names,
    separated by commas."""
    device: Literal["cpu", "gpu"] = "cpu"
    """Where the batches go, and where our loader decodes."""
    batch_size: int = 32
    """Clips in a batch."""
    steps: int = 20
    """Batches in a pass, the last of an epoch; at most an epoch's."""
    repeats: int = 5
    """Measured passes of every loader, after one that is not measured."""
    least_pass_s: float = 2.0
    """A pass that is shorter is run again until so many seconds have gone by, and counts as one."""
    workers: int = 2
    """Threads of our loader, and processes or threads of the others."""
    prefetch: int = 2
    """Batches made ahead; of the other loaders, by every process."""
    json: Path | None = None
    """File for the results."""
    plot: Path | None = None
    """File for a bar chart: .png, .svg or .pdf."""
    sweep: bool = False
    """Also measure our loader with one option after another changed: threads, batches ahead and, on a GPU, how its
    decoder is set."""
    profile_step: bool = False
    """Also measure how long the steps of real training runs wait for data."""
    profile_networks: tuple[BackboneName, ...] = ("r3d_18", "small3d")
    """Networks to train for that."""
    profile_steps: int | None = None
    """Steps of those runs, after one that is not measured; None: as many as take --profile-s, at least two."""
    profile_s: float = 10.0
    """Seconds for which the loader alone and the model alone are measured beside them."""
    clip: ClipConfig = field(default_factory=ClipConfig)
    decoding: DecodingConfig = field(default_factory=DecodingConfig)

    def __post_init__(self) -> None:
        require_at_least(
            1,
            batch_size=self.batch_size,
            steps=self.steps,
            repeats=self.repeats,
            workers=self.workers,
            prefetch=self.prefetch,
            profile_steps=self.profile_steps,
        )
        require_at_least(0, least_pass_s=self.least_pass_s, profile_s=self.profile_s)
        if self.plot is not None and self.plot.suffix not in PLOT_FORMATS:
            raise ValueError(f"plot must end in one of {', '.join(PLOT_FORMATS)}, got {self.plot}")
        choose_peers(self.peers)


def main(config: BenchData) -> None:
    """Measure how fast training data comes, beside other ways to feed the same clips.

    All loaders deliver the same windows of the same clips, cut alike, with human masks, scene labels and classes.
    """
    device = choose_device(config)
    dataset = ShardDataset.open(config.shards)
    if dataset.codec != FILMSTRIP:
        raise UserError(
            f"--shards {config.shards}: stored as {dataset.codec}, but film strips are compared; pack those"
        )
    console = Console()
    with tempfile.TemporaryDirectory(prefix="bench_data_") as folder:
        setting = make_setting(config, dataset, device, Path(folder))
        rates, left_out = measure_loaders(config, setting)
        stages = measure_stages(setting, config.repeats)
        sweep = measure_sweep(setting, repeats=config.repeats, least_pass_s=config.least_pass_s) if config.sweep else {}
        networks = config.profile_networks if config.profile_step else ()
        profiles = profile_steps(setting, networks, steps=config.profile_steps, alone_s=config.profile_s)
    for name, reason in left_out.items():
        console.print(f"left out: {name}: {reason}", markup=False)
    notes = NOTES | {peer.name: peer.note for peer in choose_peers(config.peers)}
    results = summarise(rates, notes)
    console.print(results_table(results))
    console.print(stages_table(stages))
    if sweep:
        console.print(sweep_table(sweep))
    if profiles:
        console.print(profile_table(profiles))
    report: dict[str, Any] = {
        "device": config.device,
        "machine": describe_machine(device),
        "options": plain(config),
        "results": results,
        "left_out": left_out,
        "stages": stages.as_json(),
        "sweep": sweep_as_json(sweep),
        "step_profile": [profile.as_json() for profile in profiles],
    }
    if config.json is not None:
        write_output(config.json, report)
    if config.plot is not None:
        save_plot(config.plot, results, f"Training clips of {config.clip.frames} frames, {config.workers} workers")


def choose_device(config: BenchData) -> torch.device:
    """The device that ``--device`` asks for; UserError where there is none."""
    if config.device == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise UserError("--device gpu needs a GPU that torch can use; take --device cpu")
    return torch.device("cuda", torch.cuda.current_device())


def make_setting(config: BenchData, dataset: ShardDataset, device: torch.device, folder: Path) -> Setting:
    """What is measured, the same for all loaders."""
    batches = plan_windows(dataset, config.clip, config.batch_size, config.steps)
    windows = describe_windows(dataset, config.clip, batches)
    return Setting(
        dataset=dataset,
        clip=config.clip,
        batches=batches,
        windows=windows,
        videos=None if config.videos is None else find_videos(config.videos, windows),
        folder=folder,
        device=device,
        batch_size=config.batch_size,
        workers=config.workers,
        prefetch=config.prefetch,
        decoding=config.decoding,
    )


def measure_loaders(config: BenchData, setting: Setting) -> tuple[dict[str, Rates], dict[str, str]]:
    """The rates of all loaders, and why some are left out."""
    others, left_out = open_peers(choose_peers(config.peers), setting, all_wanted=config.peers == ALL)
    passes: dict[str, CountedPass] = {
        OURS: counted(open_ours(setting), setting.device),
        OURS_CROP: counted(open_crop_only(setting), setting.device),
        LIMIT: open_decode_only(setting),
    }
    passes |= {name: counted(run, setting.device) for name, run in others.items()}
    rates = measure(
        passes,
        endless=(OURS, OURS_CROP),
        steps=len(setting.batches),
        repeats=config.repeats,
        least_pass_s=config.least_pass_s,
        device=setting.device,
    )
    return rates, left_out


COMMAND = Command(
    main=main,
    options=BenchData,
    writes=("json", "plot"),
    example="python tools/bench_data.py --shards data/jhmdb/train --videos $DATA/jhmdb/videos --plot data/bench.png",
)
