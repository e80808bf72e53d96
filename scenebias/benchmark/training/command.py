"""The command tools/bench_train.py."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from dali_pipelines.windows import ClipConfig
from scenebias.benchmark.machine import describe_machine
from scenebias.benchmark.measuring import Rates
from scenebias.benchmark.training.augmentations import (
    AUGMENTATIONS,
    CHANGED,
    LOADED,
    Augmentation,
    augmentation_turns,
)
from scenebias.benchmark.training.processes import (
    Job,
    TwoRanks,
    measure_memory,
    measure_two_ranks,
    save_batch,
)
from scenebias.benchmark.training.steps import (
    MeasuredPrecision,
    StepRates,
    composed_ratio,
    measure_steps,
    open_batches,
    share_of_step,
)
from scenebias.commands import Command, write_output
from scenebias.compose.config import COMPOSITIONS, Composition
from scenebias.data.datasets import require_scenes
from scenebias.distributed.cpu_memory import keep_freed_memory
from scenebias.models.backbones import BackboneName
from scenebias.reports.terminal import number_table
from scenebias.run_folder.record import plain
from scenebias.training.computing.arithmetic import ArithmeticConfig
from shards.checks import require_at_least
from shards.dataset import ShardDataset
from shards.errors import UserError

WANTED = {
    "debias_over_baseline": 2.05,
    "ours_over_bare": 1.03,
    "ours_in_memory_over_bare": 1.03,
    "peak_memory_ratio": 2.1,
    "background_swap_over_baseline": 1.1,
    **{composed_ratio(name): 1.25 for name in COMPOSITIONS if name != "background_swap"},
    share_of_step("swin_strong_set"): 0.1,
}
"""What the ratios should be at most."""
MEANINGS = {
    "debias_over_baseline": "time of a debiasing step / of a baseline step",
    "albar_over_baseline": "time of a step of ALBAR / of a baseline step",
    "ours_over_bare": "time of the trainer's step with its loader / of bare torch's on batches in memory",
    "ours_in_memory_over_bare": "time of the trainer's step / of bare torch's, both on batches in memory",
    "bf16_over_fp32": "time of a baseline step in bf16 / in fp32",
    "peak_memory_ratio": "tensors of a debiasing step at once, beside weights and optimiser / of a baseline step",
    "resident_memory_ratio": "the same of whole processes, with what their heaps leave unused",
    "two_ranks_over_one": "rate of two processes / of one, at the same batch size",
    **{composed_ratio(name): f"time of a step, clips composed by {name} / of a baseline step" for name in COMPOSITIONS},
    **{share_of_step(name): f"time of loading, {name} / of a baseline step" for name in ("loading", *LOADED)},
    **{share_of_step(name): f"time of {name} / of a baseline step" for name in CHANGED},
}


@dataclass(frozen=True, kw_only=True)
class BenchTrain:
    """Measure a training step, on the GPU where there is one."""

    shards: Path
    """Folder of a packed data set with human masks and scene labels."""
    backbone: BackboneName = "r3d_18"
    """Network to train."""
    batch_size: int = 8
    """Clips of a step."""
    steps: int = 2
    """Measured steps of a turn, after one that is not measured."""
    repeats: int = 5
    """Turns of everything that is measured."""
    compositions: tuple[Composition, ...] = COMPOSITIONS
    """Ways to compose clips of which a step is measured, too."""
    augmentations: tuple[Augmentation, ...] = AUGMENTATIONS
    """Ways to augment clips of which the time is measured, too."""
    loader_threads: int = 2
    """Decoding threads."""
    json: Path | None = None
    """File for the results."""
    clip: ClipConfig = field(default_factory=ClipConfig)

    def __post_init__(self) -> None:
        require_at_least(4, batch_size=self.batch_size)
        require_at_least(1, steps=self.steps, repeats=self.repeats, loader_threads=self.loader_threads)


def main(config: BenchTrain) -> None:
    """Measure a training step: debiasing beside the baseline, the trainer beside bare torch, memory, two processes.

    What is compared takes turns; of every turn the ratio is taken, and of those the median. Two processes are measured
    on a CPU alone.
    """
    device = torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")
    # fp16 is for GPUs without bf16, and not measured.
    precision: MeasuredPrecision = "bf16" if ArithmeticConfig().dtype_on(device) == torch.bfloat16 else "fp32"
    dataset = ShardDataset.open(config.shards)
    if not dataset.mask_count:
        raise UserError(
            f"--shards {config.shards}: has no human masks; pack it again with tools/make_shards.py --masks"
        )
    require_scenes(dataset)
    console = Console()
    if device.type == "cpu":
        keep_freed_memory()  # as every training run does
    batches = open_batches(
        dataset,
        config.clip,
        batch_size=config.batch_size,
        steps=config.steps,
        device=device,
        loader_threads=config.loader_threads,
    )
    augmenting = augmentation_turns(
        config.augmentations, batches.loader, batches.resident, config.clip, device, config.loader_threads
    )
    steps = measure_steps(batches, config.backbone, precision, config.repeats, config.compositions, augmenting)
    with tempfile.TemporaryDirectory(prefix="bench_train_") as folder:
        job = Job(
            network=config.backbone,
            class_count=len(dataset.manifest.classes),
            batch=save_batch(batches.resident[0], Path(folder)),
            steps=config.steps,
            precision=precision,
            device=str(device),
            threads=torch.get_num_threads(),
        )
        memory = {objective: measure_memory(job, objective) for objective in ("baseline", "debias")}
        ranks = measure_two_ranks(job, config.repeats) if device.type == "cpu" else None
    resident = [memory[objective].resident_bytes for objective in ("debias", "baseline")]
    ratios = steps.ratios | {
        "peak_memory_ratio": memory["debias"].step_bytes / memory["baseline"].step_bytes,
        "resident_memory_ratio": resident[0] / resident[1] if resident[0] and resident[1] else None,
        "two_ranks_over_one": None if ranks is None else ranks.two_over_one,
    }
    console.print(rates_table(steps, ranks))
    console.print(ratios_table(ratios))
    report = ratios | {
        "machine": describe_machine(device),
        "torch_threads": torch.get_num_threads(),
        "options": plain(config),
        "precision": precision,
        "rates": {name: rates_as_json(rates) for name, rates in steps.rates.items()},
        "memory": {objective: used.as_json() for objective, used in memory.items()},
        "two_ranks": None if ranks is None else ranks.as_json(),
    }
    if config.json is not None:
        write_output(config.json, report)


def rates_as_json(rates: Rates) -> dict[str, Any]:
    """All turns."""
    return {
        "clips_per_s_median": rates.median,
        "clips_per_s_of_turns": list(rates.clips_per_s),
        "cpu_ms_per_clip_of_turns": list(rates.cpu_ms_per_clip),
    }


def rates_table(steps: StepRates, ranks: TwoRanks | None) -> Table:
    """One line for everything whose rate was measured."""
    lines = {name: rates.clips_per_s for name, rates in steps.rates.items()}
    if ranks is not None:
        lines |= {"one process, SyncBatchNorm": ranks.one, "two processes, SyncBatchNorm": ranks.two}
    rows = [
        (name, *(f"{value:.2f}" for value in (median(values), min(values), max(values))))
        for name, values in lines.items()
    ]
    return number_table("training steps, in clips a second", ("step", "median", "lowest", "highest"), rows)


def ratios_table(ratios: Mapping[str, float | None]) -> Table:
    """One line a ratio."""
    rows = []
    for name, meaning in MEANINGS.items():
        if name not in ratios:
            continue
        ratio = ratios[name]
        measured = "not measured" if ratio is None else f"{ratio:.3f}"
        rows.append((name, meaning, measured, str(WANTED.get(name, ""))))
    table = number_table("ratios", ("ratio", "meaning", "measured", "at most"), rows, texts=2)
    table.columns[0].no_wrap = True  # a name is to be found whole
    return table


COMMAND = Command(
    main=main,
    options=BenchTrain,
    writes=("json",),
    example="python tools/bench_train.py --shards data/jhmdb/train --json data/bench_train.json",
)
