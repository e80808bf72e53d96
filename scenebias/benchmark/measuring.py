"""Passes of several loaders in turns, so that whatever else the machine does disturbs all alike.

The CPU time that a clip takes is measured too: it hardly depends on what else the machine does.
"""

import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Collection, Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import torch

from scenebias.benchmark.gpu_load import load_reader, sampled_load
from scenebias.reports.progress import ProgressDisplay

WARM_UP_STEPS = 8

CountedPass = Callable[[], Iterator[int]]
"""Goes over all measured windows once and tells how many clips each batch has; they are on the idle device then."""


@dataclass(frozen=True)
class Rates:
    """How fast a loader was, in every measured pass."""

    clips_per_s: tuple[float, ...]
    cpu_ms_per_clip: tuple[float, ...]
    """Of all threads and worker processes."""
    engines: dict[str, float] = field(default_factory=dict)
    """How busy the GPU's engines were in the last pass; empty without a GPU."""

    @property
    def median(self) -> float:
        """Clips a second."""
        return statistics.median(self.clips_per_s)


def measure(
    passes: Mapping[str, CountedPass],
    *,
    endless: Collection[str] = (),
    steps: int,
    repeats: int,
    least_pass_s: float,
    device: torch.device,
) -> dict[str, Rates]:
    """Measure every loader ``repeats`` times, in turns, after a round that is not counted: it starts worker processes.

    A measured pass goes over the windows, ``steps`` batches, as often as it takes to last ``least_pass_s``. Of loaders
    that go on without end, as in training, the first batches do not count: as much is made ahead when the clock starts
    as when it stops. The others begin with nothing made ahead, and end so.
    """
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in passes}
    engines: dict[str, dict[str, float]] = {}
    read_load = load_reader(device)
    with ProgressDisplay("measuring", (repeats + 1) * len(passes), "passes") as progress:
        for repeat in range(repeats + 1):
            for name, run in passes.items():
                if repeat:
                    with sampled_load(read_load) as engines[name]:
                        measured[name].append(
                            _measure_once(run, steps, least_pass_s, device, WARM_UP_STEPS * (name in endless))
                        )
                else:
                    _measure_once(run, steps, 0.0, device)
                progress.advance()
    return {
        name: Rates(tuple(rate for rate, _ in values), tuple(cpu_ms for _, cpu_ms in values), engines[name])
        for name, values in measured.items()
    }


def _measure_once(
    run: CountedPass, steps: int, least_s: float, device: torch.device, warm_up_steps: int = 0
) -> tuple[float, float]:
    """Clips a second, and CPU milliseconds a clip."""
    clips, elapsed_s = 0, 0.0
    with closing(_without_end(run)) as sizes:
        for _ in islice(sizes, warm_up_steps):
            pass
        start_s, start_cpu_s = time.perf_counter(), _cpu_seconds()
        while not clips or elapsed_s < least_s:
            clips += sum(islice(sizes, steps))
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            elapsed_s = time.perf_counter() - start_s
        cpu_s = _cpu_seconds() - start_cpu_s
    return clips / elapsed_s, 1000 * cpu_s / clips


def _without_end(run: CountedPass) -> Generator[int, None, None]:
    while True:
        yield from run()


def _cpu_seconds() -> float:
    """Of this process and of those that it started with multiprocessing."""
    children = [child.pid for child in multiprocessing.active_children() if child.pid is not None]
    return sum(map(cpu_seconds_of, [os.getpid(), *children]))


def cpu_seconds_of(pid: int) -> float:
    """Of all threads of a process, as Linux tells."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    ticks = int(fields[11]) + int(fields[12])  # user and system, counted from the name's end
    return ticks / os.sysconf("SC_CLK_TCK")
