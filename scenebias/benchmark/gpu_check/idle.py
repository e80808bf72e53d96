"""How long the GPU idles in the steps of a real run, and why."""

import json
import tempfile
from pathlib import Path
from typing import Any

from scenebias.benchmark.gpu_check.check import NO_GPU, Outcome
from scenebias.benchmark.gpu_check.idle_gaps import IdleTime, find_idle_time
from scenebias.benchmark.gpu_check.options import GpuCheck, device_here, loader_here
from scenebias.benchmark.training.stand_ins import SomeSteps, StepTimes
from scenebias.benchmark.training.steps import OBJECTIVES
from scenebias.benchmark.training.trainer_run import run_trainer
from scenebias.run_folder.profiling import FIRST_STEPS, StepProfiler
from scenebias.training.computing.arithmetic import ArithmeticConfig

SHOWN = 3
"""Gaps that the table names."""


def check_idle(options: GpuCheck) -> Outcome:
    """Trace steps of the trainer with its loader, and find the time in which the GPU has nothing to do."""
    times, events = traced_run(options)
    idle = find_idle_time(events)
    rate = f"{times.clips_per_s:.1f} clips/s, {times.data_wait_share:.1%} of the time waiting for data"
    values: dict[str, Any] = {"clips_per_s": times.clips_per_s, "data_wait_share": times.data_wait_share}
    if idle is None:
        return Outcome(found=rate, values=values, skipped=(f"the GPU's idle time: {NO_GPU}",))
    values |= vars(idle)
    problems = []
    if idle.idle_share > options.longest_idle_share:
        problems.append(
            f"the GPU idles {idle.idle_share:.0%} of the time, more than {options.longest_idle_share:.0%}:"
            f" {largest_gaps(idle)}"
        )
    found = f"the GPU idles {idle.idle_share:.1%} of {idle.traced_s:.1f} s ({largest_gaps(idle)}); {rate}"
    return Outcome(found=found, values=values, problems=tuple(problems))


def largest_gaps(idle: IdleTime) -> str:
    """The gaps that take the most of the time, as a clause."""
    shown = list(idle.gap_s.items())[:SHOWN]
    return ", ".join(f"{name} {seconds / idle.traced_s:.1%}" for name, seconds in shown)


def traced_run(options: GpuCheck) -> tuple[StepTimes, list[dict[str, Any]]]:
    """The times of some steps of training with its loader, and the events of their trace."""
    device = device_here()
    loader = loader_here(options, device)
    steps = SomeSteps(loader, FIRST_STEPS + options.steps)
    with tempfile.TemporaryDirectory(prefix="gpu_check_") as folder:
        trace = Path(folder) / "trace.json"
        profiler = StepProfiler(trace, options.steps)
        times = run_trainer(
            steps, options.backbone, OBJECTIVES["debias"], ArithmeticConfig(), device, profiler=profiler
        )
        return times, json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
