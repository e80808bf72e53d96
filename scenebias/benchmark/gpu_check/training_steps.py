"""Training steps beside bare torch, and what they take of the GPU's memory: `bench-train`, in short."""

import tempfile
from dataclasses import asdict
from pathlib import Path

import torch

from scenebias.benchmark.gpu_check.check import NO_GPU, Outcome
from scenebias.benchmark.gpu_check.options import GpuCheck, device_here
from scenebias.benchmark.training.command import WANTED, rates_as_json
from scenebias.benchmark.training.processes import Job, measure_memory, save_batch
from scenebias.benchmark.training.steps import BASELINE, DEBIAS, MeasuredPrecision, measure_steps, open_batches
from scenebias.training.computing.arithmetic import ArithmeticConfig
from shards.dataset import ShardDataset


def check_training_steps(options: GpuCheck) -> Outcome:
    """Measure steps of the trainer and of bare torch in turns, then memory, each in a process of its own."""
    device = device_here()
    precision: MeasuredPrecision = "bf16" if ArithmeticConfig().dtype_on(device) == torch.bfloat16 else "fp32"
    dataset = ShardDataset.open(options.shards)
    batches = open_batches(
        dataset,
        options.clip,
        batch_size=options.batch_size,
        steps=options.steps,
        device=device,
        loader_threads=options.loader_threads,
    )
    steps = measure_steps(batches, options.backbone, precision, options.repeats)
    with tempfile.TemporaryDirectory(prefix="gpu_check_") as folder:
        job = Job(
            network=options.backbone,
            class_count=len(dataset.manifest.classes),
            batch=save_batch(batches.resident[0], Path(folder)),
            steps=options.steps,
            precision=precision,
            device=str(device),
            threads=torch.get_num_threads(),
        )
        memory = {objective: measure_memory(job, objective) for objective in ("baseline", "debias")}
    ratios = steps.ratios | {"peak_memory_ratio": memory["debias"].step_bytes / memory["baseline"].step_bytes}
    on_gpu = device.type == "cuda"
    problems = [
        f"{name} is {ratios[name]:.2f}, more than {most:.2f}"
        for name, most in WANTED.items()
        if on_gpu and ratios.get(name, 0) > most
    ]
    gib = {name: (used.state_bytes + used.step_bytes) / 2**30 for name, used in memory.items()}
    found = ", ".join(
        f"{name} {steps.rates[name].median:.1f} clips/s and {gib[name]:.1f} GiB" for name in (BASELINE, DEBIAS)
    )
    return Outcome(
        found=f"{options.backbone} in {precision}: {found}",
        values={
            "ratios": ratios,
            "rates": {name: rates_as_json(rates) for name, rates in steps.rates.items()},
            "memory": {name: asdict(used) for name, used in memory.items()},
        },
        problems=tuple(problems),
        skipped=() if on_gpu else (f"bounds of the ratios, which are a GPU's: {NO_GPU}",),
    )
