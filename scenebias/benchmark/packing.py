"""Measure how fast film strips are packed, beside ffmpeg on the same videos.

Ours is the whole of packing: checksum, decode, scale, encode, mixed order, tar shards, index and report. ffmpeg writes
one Motion JPEG file a video, scaled to the same height. It is measured with its own choice of threads and with one
thread, and the faster of the two counts. Since a process a video costs ffmpeg its start each time, it is measured also
with many videos in one process, which is more than anybody asks of it in practice. All use as many processes at a time
as packing has workers. Passes are interleaved, so that whatever else the machine does disturbs all alike; medians are
reported.
"""

import os
import platform
import re
import resource
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import av
import PIL
from rich.console import Console
from rich.table import Table

from scenebias.commands import Command, write_output
from scenebias.reports.progress import ProgressDisplay
from scenebias.reports.terminal import number_table
from scenebias.run_folder.record import plain
from shards.checks import require_at_least
from shards.errors import UserError
from shards.packing.clip_preparation import PackConfig
from shards.packing.pack import pack
from shards.sources.files.video_files import read_video_tree
from shards.sources.listing import ClipEntry, Listing, utf8_name
from shards.system.checksums import sha256_of

OURS = "this project's packing"
_CLASS = "video"
FFMPEG = "ffmpeg, a process a video"
FFMPEG_ONE_THREAD = "ffmpeg, a process a video, -threads 1"
FFMPEG_ONE_PROCESS = "ffmpeg, many videos a process"
FFMPEG_ONE_PROCESS_ONE_THREAD = "ffmpeg, many videos a process, -threads 1"

VIDEOS_PER_PROCESS = 32

CommandLine = list[str | Path]


@dataclass(frozen=True, kw_only=True)
class BenchPack:
    """Measure how fast film strips are packed, beside ffmpeg on the same videos."""

    videos: Path
    """Folder of videos; those in the folders below it count too."""
    workers: int = 2
    """Processes at a time, of ours and of ffmpeg."""
    repeats: int = 3
    """Measured passes of each."""
    limit: int | None = None
    """Take so many videos, spread evenly; by default all."""
    json: Path | None = None
    """File for the results."""

    def __post_init__(self) -> None:
        require_at_least(1, workers=self.workers, repeats=self.repeats, limit=self.limit)


@dataclass(frozen=True)
class Measurement:
    """One pass over all videos."""

    seconds: float
    numbers: dict[str, float]
    """Whatever else was measured, by name with its unit."""


def main(config: BenchPack) -> None:
    """Measure how fast film strips are packed, beside ffmpeg on the same videos."""
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        raise UserError("there is no ffmpeg to compare with: install it, so that it is found on PATH")
    listing = list_videos(config.videos, config.limit)
    pack_config = PackConfig(workers=config.workers)
    passes: dict[str, Callable[[Path], Measurement]] = {OURS: partial(pack_once, listing, pack_config)}
    for name, group, threads in (
        (FFMPEG, 1, ()),
        (FFMPEG_ONE_THREAD, 1, ("-threads", "1")),
        (FFMPEG_ONE_PROCESS, VIDEOS_PER_PROCESS, ()),
        (FFMPEG_ONE_PROCESS_ONE_THREAD, VIDEOS_PER_PROCESS, ("-threads", "1")),
    ):
        make_command = partial(ffmpeg_command, ffmpeg, pack_config.height, threads)
        passes[name] = partial(convert_once, listing, make_command, group, config.workers)
    report = summarise(measure(passes, config.repeats, listing), len(listing.clips))
    Console().print(results_table(report))
    print(f"ratio_to_ffmpeg: {report['ratio_to_ffmpeg']:.2f}")
    print(f"ratio_to_ffmpeg_one_process: {report['ratio_to_ffmpeg_one_process']:.2f}")
    if config.json is not None:
        write_output(config.json, {"options": plain(config), "machine": describe_machine(ffmpeg), **report})


def list_videos(root: Path, limit: int | None) -> Listing:
    """Every video below ``root``, or ``limit`` of them, spread evenly, all of one class."""
    tree = read_video_tree(root, "the folder of videos")
    videos = tuple(video for video in tree.videos if video not in tree.members)  # which ffmpeg reads too
    if not videos:
        raise UserError(f"--videos {root}: no video in it or below")
    if limit is not None and limit < len(videos):
        videos = tuple(videos[number * len(videos) // limit] for number in range(limit))
    entries = tuple(ClipEntry(utf8_name(video), tree.path_of(video), _CLASS) for video in videos)
    return Listing("benchmark", "1", "all", (_CLASS,), entries)


def pack_once(listing: Listing, config: PackConfig, folder: Path) -> Measurement:
    """Pack with no annotator, in a process of its own, whose memory and time tell what the parent of packing needs."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        return executor.submit(pack_here, listing, config, folder / "packed").result()


def pack_here(listing: Listing, config: PackConfig, out: Path) -> Measurement:
    """Pack, and look at what this process needed for it."""
    cpu_s, start_s = _cpu_seconds(), time.perf_counter()
    report = pack(listing, out, config)
    seconds = time.perf_counter() - start_s
    numbers = {"parent_cpu_s": _cpu_seconds() - cpu_s, "parent_peak_rss_mib": _peak_rss_mib()}
    assert report is not None
    if report.broken:
        name, reason = next(iter(report.broken.items()))
        raise UserError(f"--videos: {len(report.broken)} cannot be packed, for example {name} ({reason}); remove them")
    return Measurement(seconds, numbers)


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _peak_rss_mib() -> float:
    """Of this program alone: getrusage counts the one that started it, too."""
    match = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"))
    assert match is not None
    return int(match[1]) / 1024


def ffmpeg_command(
    ffmpeg: str, height: int, threads: Sequence[str], videos: Sequence[Path], folder: Path
) -> CommandLine:
    """Convert each of ``videos`` into a file of its own in ``folder``; ``threads`` are for decoders and encoders."""
    command: CommandLine = [ffmpeg, "-nostdin", "-v", "error"]
    for video in videos:
        command += [*threads, "-i", f"file:{video}"]
    for number in range(len(videos)):
        options = ["-map", f"{number}:v:0", "-vf", f"scale=-2:{height}", "-q:v", "3", *threads]
        command += [*options, folder / f"{number}.mjpeg"]
    return command


def convert_once(
    listing: Listing,
    make_command: Callable[[Sequence[Path], Path], CommandLine],
    group: int,
    processes: int,
    folder: Path,
) -> Measurement:
    """Convert all videos, ``group`` of them in each process."""
    paths = [entry.path for entry in listing.clips]
    groups = [paths[start : start + group] for start in range(0, len(paths), group)]
    folders = [folder / str(number) for number in range(len(groups))]
    for group_folder in folders:
        group_folder.mkdir()

    def convert(videos: Sequence[Path], group_folder: Path) -> None:
        finished = subprocess.run(
            make_command(videos, group_folder), capture_output=True, encoding="utf-8", errors="replace"
        )
        if finished.returncode:
            *_, reason = finished.stderr.splitlines() or [f"exit status {finished.returncode}"]
            raise UserError(f"--videos: ffmpeg cannot convert {videos[0]} ({reason}); remove it")

    start_s = time.perf_counter()
    with ThreadPoolExecutor(processes) as executor:
        for _ in executor.map(convert, groups, folders):
            pass
    return Measurement(time.perf_counter() - start_s, {})


def measure(
    passes: dict[str, Callable[[Path], Measurement]], repeats: int, listing: Listing
) -> dict[str, list[Measurement]]:
    """Run every pass ``repeats`` times, in turns, each into an empty folder."""
    for entry in listing.clips:
        sha256_of(entry.path)  # so that the first pass does not wait for the disk alone
    measurements: dict[str, list[Measurement]] = {name: [] for name in passes}
    with ProgressDisplay("measuring", repeats * len(passes), "passes") as progress:
        for _ in range(repeats):
            for name, run in passes.items():
                with tempfile.TemporaryDirectory(prefix="bench_pack_") as folder:
                    measurements[name].append(run(Path(folder)))
                progress.advance()
    return measurements


def summarise(measurements: dict[str, list[Measurement]], clip_count: int) -> dict[str, Any]:
    """Median rates, and how fast ours is as a multiple of ffmpeg at its best."""
    results: dict[str, dict[str, Any]] = {}
    for name, repeats in measurements.items():
        rates = [clip_count / repeat.seconds for repeat in repeats]
        results[name] = {"clips_per_s": statistics.median(rates), "clips_per_s_of_repeats": rates}
        for key in repeats[0].numbers:
            results[name][key] = statistics.median(repeat.numbers[key] for repeat in repeats)

    def ratio(*peers: str) -> float:
        return results[OURS]["clips_per_s"] / max(results[peer]["clips_per_s"] for peer in peers)

    return {
        "clips": clip_count,
        "ratio_to_ffmpeg": ratio(FFMPEG, FFMPEG_ONE_THREAD),
        "ratio_to_ffmpeg_one_process": ratio(FFMPEG_ONE_PROCESS, FFMPEG_ONE_PROCESS_ONE_THREAD),
        "results": results,
    }


def results_table(report: dict[str, Any]) -> Table:
    """One line for every way."""
    ours, rows = report["results"][OURS], []
    for name, result in report["results"].items():
        rates = result["clips_per_s_of_repeats"]
        numbers = (f"{number:.1f}" for number in (result["clips_per_s"], min(rates), max(rates)))
        rows.append((name, *numbers, f"{ours['clips_per_s'] / result['clips_per_s']:.2f} x"))
    return number_table(
        f"{report['clips']} videos: clips a second",
        ("way", "median", "lowest", "highest", "ours is faster by"),
        rows,
        caption=f"The parent of our workers used {ours['parent_cpu_s']:.1f} s of CPU and"
        f" {ours['parent_peak_rss_mib']:.0f} MiB of memory at most.",
    )


def describe_machine(ffmpeg: str) -> dict[str, Any]:
    """What the numbers depend on."""
    version = subprocess.run([ffmpeg, "-version"], check=True, capture_output=True, encoding="utf-8").stdout
    return {
        "cpus": len(os.sched_getaffinity(0)),
        "processor": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "versions": {"av": av.__version__, "pillow": PIL.__version__, "ffmpeg": version.splitlines()[0]},
    }


COMMAND = Command(
    main=main,
    options=BenchPack,
    writes=("json",),
    example="python tools/bench_pack.py --videos $DATA/jhmdb/videos --limit 160 --json data/bench_pack.json",
)
