"""How fast a CPU can decode our clips: libjpeg-turbo alone, in C, beside DALI's decoder and our loader.

All decode the same film strips, cut to the same bands, in one thread, in turns; medians of their CPU time. What faster
settings of the decoder would give is told in pixels too. Compiles `decoding_floor.c`: needs a C compiler and the
headers of libjpeg-turbo (libjpeg-dev).

- coefficients: the entropy coding undone, and nothing else; no decoder of these bytes can be faster;
- planes: the colours neither interpolated nor converted, all columns;
- exact: what we want, of the blocks that hold the crop's columns; its time is the floor;
- fast IDCT, plain colours, both: the settings that give other pixels;
- DALI, with either inverse transform: its decoder alone; its CPU backend interpolates colours whatever it is told;
- simplejpeg: libjpeg-turbo through a library of PyPI, all columns, as it takes no others;
- decode_only: DALI decoding whole frames, as the benchmark measures it; loader: all of ours.
"""

import ctypes
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from nvidia.dali.pipeline import Pipeline
from rich.console import Console

from dali_pipelines import ClipConfig, graph
from dali_pipelines.faults import FaultConfig, Faults
from dali_pipelines.graph import JPEG_PIXELS, build_clip_pipeline, graph_inputs
from dali_pipelines.requests import Draw, Request, RequestReader
from scenebias.benchmark.loading.ours import open_decode_only, train_loader, training_batches
from scenebias.benchmark.loading.setting import Setting
from scenebias.benchmark.loading.windows import describe_windows, plan_windows
from scenebias.commands import Command
from scenebias.reports.terminal import number_table
from shards.checks import require_at_least
from shards.codecs.registry import FILMSTRIP
from shards.dataset import ShardDataset
from shards.errors import UserError

SOURCE = Path(__file__).with_name("decoding_floor.c")
FLOOR = "exact"
SETTINGS = {FLOOR: (0, 1), "fast IDCT": (1, 1), "plain colours": (0, 0), "both": (1, 0)}
"""Whether the inverse transform is the fast one, and whether colours are interpolated."""


@dataclass(frozen=True, kw_only=True)
class DecodingFloor:
    """How fast a CPU can decode our clips."""

    shards: Path
    """Folder of a packed data set of film strips."""
    batches: int = 8
    """Batches of 32 clips in a turn."""
    repeats: int = 9
    """Turns, after one that is not measured."""

    def __post_init__(self) -> None:
        require_at_least(1, batches=self.batches, repeats=self.repeats)


@dataclass(frozen=True)
class Strip:
    """A JPEG of a window's frames, and what of it is wanted."""

    data: bytes
    rows: int
    first: int
    columns: int
    all_columns: int


class Turbo:
    """libjpeg-turbo, compiled for this."""

    def __init__(self, folder: Path, strips: Sequence[Strip]) -> None:
        library = folder / "floor.so"
        command = ["cc", "-O2", "-shared", "-fPIC", str(SOURCE), "-o", str(library), "-ljpeg"]
        try:
            finished = subprocess.run(command, capture_output=True, encoding="utf-8")
        except OSError as error:
            raise UserError(f"cc cannot be started ({error.strerror}): install a C compiler") from error
        if finished.returncode:
            raise UserError(f"{SOURCE.name} cannot be compiled (libjpeg-dev is needed): {finished.stderr.strip()}")
        self._library = ctypes.CDLL(str(library))
        self._scratch = np.empty(max(64 * (strip.all_columns + 64) * 3 for strip in strips), np.uint8)

    def pixels(self, strip: Strip, settings: tuple[int, int], out: NDArray[np.uint8]) -> int:
        """Decode the blocks that hold the wanted columns into ``out``; returns how many values these are."""
        size, columns = ctypes.c_ulong(len(strip.data)), (strip.first, strip.columns)
        width = self._library.decode(strip.data, size, *columns, *settings, ctypes.c_void_p(out.ctypes.data))
        assert strip.columns <= width <= strip.all_columns
        return int(strip.rows * width * 3)

    def planes(self, strip: Strip) -> None:
        scratch = ctypes.c_void_p(self._scratch.ctypes.data)
        assert not self._library.decode_planes(strip.data, ctypes.c_ulong(len(strip.data)), scratch)

    def coefficients(self, strip: Strip) -> None:
        assert not self._library.decode_coefficients(strip.data, ctypes.c_ulong(len(strip.data)))


def main(config: DecodingFloor) -> None:
    """Measure libjpeg-turbo alone beside DALI's decoder and our loader."""
    dataset, clip = ShardDataset.open(config.shards), ClipConfig()
    if dataset.codec != FILMSTRIP:
        raise UserError(f"--shards {config.shards}: stored as {dataset.codec}; pack film strips")
    requests = read_requests(dataset, clip, config.batches)
    strips = [strip for request in requests for strip in strips_of(request)]
    with tempfile.TemporaryDirectory(prefix="decoding_floor_") as folder:
        turbo = Turbo(Path(folder), strips)
        runs = (
            turbo_runs(turbo, strips) | dali_runs(dataset, clip, requests) | loader_runs(dataset, clip, config.batches)
        )
        taken = take_turns(runs, config.repeats, len(strips))
        show_times(taken)
        show_pixels(turbo, strips)


def read_requests(dataset: ShardDataset, clip: ClipConfig, count: int) -> list[Request]:
    """The last batches of an epoch, as our loader reads them on a CPU."""
    reader = RequestReader(dataset, clip, Faults(FaultConfig(), len(dataset)), cut_columns=True, check_crc=False)
    return [reader.read(Draw(windows)) for windows in plan_windows(dataset, clip, 32, count)]


def strips_of(request: Request) -> list[Strip]:
    """The JPEGs of a batch."""
    strips = []
    for piece in request.pieces:
        (top, first), (bottom, end) = request.decoded_B22[piece.window].tolist()
        rows = len(piece.coded.frames) * (bottom - top)
        header = bytes(piece.coded.data)
        strips.append(Strip(header, rows, first, end - first, _columns_of(header)))
    return strips


def _columns_of(jpeg: bytes) -> int:
    """Columns of a baseline JPEG, from its frame header."""
    place = jpeg.index(b"\xff\xc0")
    return int.from_bytes(jpeg[place + 7 : place + 9], "big")


def turbo_runs(turbo: Turbo, strips: Sequence[Strip]) -> dict[str, Callable[[], None]]:
    """What decodes all strips with libjpeg-turbo alone, into memory that is warm."""
    import simplejpeg

    out = memory_for(strips)

    def over_all(decode: Callable[[Strip], object]) -> Callable[[], None]:
        def run() -> None:
            for strip in strips:
                decode(strip)

        return run

    runs = {"coefficients": over_all(turbo.coefficients), "planes": over_all(turbo.planes)}
    for name, settings in SETTINGS.items():
        runs[name] = over_all(partial(turbo.pixels, settings=settings, out=out))
    runs["simplejpeg"] = over_all(lambda strip: simplejpeg.decode_jpeg(strip.data, buffer=out))
    return runs


def memory_for(strips: Sequence[Strip]) -> NDArray[np.uint8]:
    """Room for the pixels of any of them."""
    return np.empty(max(strip.rows * strip.all_columns * 3 for strip in strips), np.uint8)


def dali_runs(dataset: ShardDataset, clip: ClipConfig, requests: Sequence[Request]) -> dict[str, Callable[[], None]]:
    """DALI's decoder alone, on the same columns, in one thread."""
    inputs = [graph_inputs(request, dataset.codec, device="cpu", crop=False, masks=False) for request in requests]

    def run_of(fast: bool) -> Callable[[], None]:
        position = iter(inputs)
        before = dict(JPEG_PIXELS)
        graph.JPEG_PIXELS["use_fast_idct"] = fast  # no option of the loader, on purpose
        pipeline: Pipeline = build_clip_pipeline(
            clip,
            lambda: next(position),
            device="cpu",
            crop=False,
            masks=False,
            batch_size=32,
            threads=1,
            prefetch=2,
        )
        pipeline.build()
        graph.JPEG_PIXELS.update(before)

        def run() -> None:
            nonlocal position
            position = iter(inputs)
            pipeline.reset()
            for _ in inputs:
                pipeline.run()

        return run

    return {"DALI": run_of(False), "DALI, fast IDCT": run_of(True)}


def loader_runs(dataset: ShardDataset, clip: ClipConfig, count: int) -> dict[str, Callable[[], None]]:
    """DALI decoding whole frames, and our loader, with a thread each."""
    windows = plan_windows(dataset, clip, 32, count)
    setting = Setting(
        dataset=dataset,
        clip=clip,
        batches=windows,
        windows=describe_windows(dataset, clip, windows),
        videos=None,
        folder=Path(),
        device=torch.device("cpu"),
        batch_size=32,
        workers=1,
        prefetch=2,
    )
    loader, decode_only = train_loader(setting), open_decode_only(setting)

    def run_loader() -> None:
        for _ in training_batches(setting, loader):
            pass

    def run_decode_only() -> None:
        for _ in decode_only():
            pass

    return {"decode_only": run_decode_only, "loader": run_loader}


def take_turns(runs: dict[str, Callable[[], None]], repeats: int, clips: int) -> dict[str, list[float]]:
    """CPU milliseconds a clip, of all threads, turn by turn."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(repeats + 1):
        for name, run in runs.items():
            begun_s = time.process_time()
            run()
            if repeat:
                taken[name].append(1000 * (time.process_time() - begun_s) / clips)
    return taken


def show_times(taken: dict[str, list[float]]) -> None:
    """A line for each."""
    floor = taken[FLOOR]
    rows = [
        (
            name,
            f"{statistics.median(times):.3f}",
            f"{min(times):.3f}",
            f"{statistics.median(own / other for own, other in zip(times, floor, strict=True)):.2f}",
        )
        for name, times in taken.items()
    ]
    Console().print(number_table("CPU ms a clip", ("decoder", "median", "lowest", f"of {FLOOR}"), rows))


def show_pixels(turbo: Turbo, strips: Sequence[Strip]) -> None:
    """How far the pixels of faster settings are from the exact ones."""
    totals = {name: np.zeros(3) for name in SETTINGS}
    most = dict.fromkeys(SETTINGS, 0)
    exact, other = memory_for(strips), memory_for(strips)
    for strip in strips:
        size = turbo.pixels(strip, SETTINGS[FLOOR], exact)
        for name, settings in SETTINGS.items():
            turbo.pixels(strip, settings, other)
            difference = np.abs(exact[:size].astype(np.int16) - other[:size])
            totals[name] += difference.sum(), (difference > 0).sum(), difference.size
            most[name] = max(most[name], int(difference.max()))
    rows = [
        (name, f"{total / size:.3f}", f"{most[name]}", f"{differing / size:.1%}")
        for name, (total, differing, size) in totals.items()
    ]
    Console().print(number_table("pixels beside the exact ones", ("settings", "mean", "largest", "differing"), rows))


COMMAND = Command(
    main=main,
    options=DecodingFloor,
    example="python tools/trials/decoding_floor.py --shards data/jhmdb/train",
)

if __name__ == "__main__":
    COMMAND.run()
