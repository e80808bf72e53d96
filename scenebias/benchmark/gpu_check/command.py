"""The command tools/gpu_check.sh."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text

from scenebias.benchmark.gpu_check.check import Check, Outcome, run_apart
from scenebias.benchmark.gpu_check.environment import check_environment
from scenebias.benchmark.gpu_check.idle import check_idle
from scenebias.benchmark.gpu_check.jpeg_backends import check_jpeg_backends
from scenebias.benchmark.gpu_check.loader_alone import check_loader
from scenebias.benchmark.gpu_check.options import GpuCheck
from scenebias.benchmark.gpu_check.pixels import check_pixels
from scenebias.benchmark.gpu_check.processes import check_processes
from scenebias.benchmark.gpu_check.training_steps import check_training_steps
from scenebias.benchmark.gpu_check.variants import check_variants
from scenebias.commands import Command, write_output
from scenebias.data.datasets import require_scenes
from scenebias.run_folder.record import plain
from shards.codecs.registry import FILMSTRIP
from shards.dataset import ShardDataset
from shards.errors import UserError

CHECKS = (
    Check(
        name="environment",
        looks_at="driver, cards, engines, versions",
        means="What is installed cannot use this driver or these cards, or not together.",
        remedy="Update the driver, or install what it serves: python -m scenebias.cuda_builds says which extra to"
        " take."
        " In a container, give it the GPUs, with the capabilities compute, utility and video.",
        run=check_environment,
    ),
    Check(
        name="jpeg_backends",
        looks_at="which JPEG decoders take our film strips",
        means="Film strips are decoded by something slower than this card has, or not at all.",
        remedy="Update the driver; in a container ask for the capability video. If the engines take none:"
        " scenebias pretrain --hw-decoder-load 0; if nothing of the GPU does: scenebias pretrain --loader-device cpu.",
        run=check_jpeg_backends,
    ),
    Check(
        name="pixels",
        looks_at="clips and masks of the GPU against the CPU's, under load",
        means="Batches hold pixels of other clips, or are written to after they were handed over: a race in the"
        " decoder or between streams. Do not train with them.",
        remedy="scenebias pretrain --loader-device cpu is not concerned. Try scenebias pretrain --hw-decoder-load 0: is"
        " it the engines? Try another version of DALI or of the driver; report it with gpu_check.json.",
        run=check_pixels,
    ),
    Check(
        name="loader",
        looks_at="the loader alone, one option changed at a time",
        means="The loader is slower than the network could be: steps will wait for data.",
        remedy="Take the fastest line of the sweep in gpu_check.json: scenebias pretrain --loader-threads"
        " --loader-prefetch --hw-decoder-load. See whether the storage, or the cores, are what is busy.",
        run=check_loader,
    ),
    Check(
        name="training_steps",
        looks_at="training steps beside bare torch, and their memory",
        means="The trainer takes more time or memory than its arithmetic needs.",
        remedy="Run scenebias bench-train with more --steps and --repeats; neighbours on the GPU disturb short turns."
        " For memory: scenebias pretrain --accumulate 2, with --recompute, or with a smaller --batch-size.",
        run=check_training_steps,
    ),
    Check(
        name="idle",
        looks_at="when the GPU idles in a run's steps, and why",
        means="The GPU waits: for data, for Python, or for a number that Python asks it for.",
        remedy="Look at the names of the gaps. Python, or waiting for data: scenebias pretrain with more"
        " --loader-threads or --loader-prefetch or a larger --batch-size; Synchronize, item or Memcpy: report it with"
        " gpu_check.json.",
        run=check_idle,
    ),
    Check(
        name="variants",
        looks_at="number formats, accumulation, joint steps, compiling, determinism",
        means="A way to compute a step fails here, or computes something else.",
        remedy="Train without that option. compile needs a C++ compiler; bf16 needs Ampere or newer, else take fp16.",
        run=check_variants,
    ),
    Check(
        name="processes",
        looks_at="training on all cards, one process killed, and going on",
        means="Processes do not find each other, hang when one is gone, or do not go on.",
        remedy="Set NCCL_DEBUG=INFO and look at what NCCL says; without peer-to-peer between the cards try"
        " NCCL_P2P_DISABLE=1; in a container give it the host's shared memory.",
        run=check_processes,
    ),
)
"""In the order in which they build on each other."""
COLOURS = {"passed": "green", "failed": "bold red", "skipped": "yellow"}


def main(config: GpuCheck) -> int:
    """Check everything that needs a GPU, on this machine, and say what to do about what is wrong.

    Runs on a CPU as far as it goes. Exit status 1 where a check has failed.
    """
    checks = chosen(config.checks)
    check_data(config)
    console = Console()
    outcomes: dict[str, Outcome] = {}
    seconds: dict[str, float] = {}
    for number, check in enumerate(checks, 1):
        console.print(f"{number}/{len(checks)} {check.name}: {check.looks_at}", markup=False, highlight=False)
        begun_s = time.monotonic()
        outcomes[check.name] = run_apart(check, config)
        seconds[check.name] = time.monotonic() - begun_s
        write_output(config.json, report(config, outcomes, seconds))  # a machine may go down in the next
    console.print(outcome_table(outcomes))
    for check in checks:
        for line in advice(check, outcomes[check.name]):
            console.print(line, markup=False, highlight=False)
    return int(any(outcome.problems for outcome in outcomes.values()))


def chosen(names: Sequence[str]) -> tuple[Check, ...]:
    """The checks of these names, in their order; all where there are none."""
    known = [check.name for check in CHECKS]
    if unknown := [name for name in names if name not in known]:
        raise UserError(f"--checks must be some of {', '.join(known)}; got {', '.join(unknown)}")
    return tuple(check for check in CHECKS if not names or check.name in names)


def check_data(config: GpuCheck) -> None:
    """UserError where the data cannot show everything that is checked."""
    dataset = ShardDataset.open(config.shards)
    if dataset.codec != FILMSTRIP:
        raise UserError(f"--shards {config.shards}: stored as {dataset.codec}; pack film strips for this")
    if not dataset.mask_count:
        raise UserError(
            f"--shards {config.shards}: has no human masks; pack it again with tools/make_shards.py --masks"
        )
    require_scenes(dataset)
    if len(dataset) < config.batch_size:
        raise UserError(
            f"--shards {config.shards}: has {len(dataset)} clips, fewer than --batch-size {config.batch_size}: give a"
            " smaller one, or more clips"
        )


def report(config: GpuCheck, outcomes: Mapping[str, Outcome], seconds: Mapping[str, float]) -> dict[str, Any]:
    """All that was found, as JSON values."""
    return {
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "options": plain(config),
        "failed": [name for name, outcome in outcomes.items() if outcome.problems],
        "checks": {name: outcome.as_json() | {"seconds": seconds[name]} for name, outcome in outcomes.items()},
    }


def outcome_table(outcomes: Mapping[str, Outcome]) -> Table:
    """A line a check."""
    table = Table("check", "", "found", title="GPU check")
    for name, outcome in outcomes.items():
        lines = [outcome.found, *outcome.problems, *outcome.skipped]
        text = Text("\n".join(filter(None, lines)), overflow="fold")
        table.add_row(name, Text(outcome.status, COLOURS[outcome.status]), text)
    return table


def advice(check: Check, outcome: Outcome) -> list[str]:
    """What to say of a check that has failed."""
    if not outcome.problems:
        return []
    return [f"{check.name} failed. What it means: {check.means}", f"What to try: {check.remedy}"]


COMMAND = Command(
    main=main,
    options=GpuCheck,
    writes=("json",),
    example="tools/gpu_check.sh --shards data/jhmdb/train",
)
