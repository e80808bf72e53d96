"""How fast the loader alone is, and what its options are worth."""

from pathlib import Path

from dali_pipelines import DecodingConfig
from scenebias.benchmark.gpu_check.check import NO_GPU, Outcome
from scenebias.benchmark.gpu_check.options import GpuCheck, device_here
from scenebias.benchmark.loading.setting import Setting
from scenebias.benchmark.loading.sweep import AS_ASKED, measure_sweep, sweep_as_json
from scenebias.benchmark.loading.windows import describe_windows, plan_windows
from shards.dataset import ShardDataset

LEAST_PASS_S = 2.0


def check_loader(options: GpuCheck) -> Outcome:
    """Measure the loader with one option after another changed."""
    device = device_here()
    on_gpu = device.type == "cuda"
    dataset = ShardDataset.open(options.shards)
    batches = plan_windows(dataset, options.clip, options.batch_size, options.steps)
    setting = Setting(
        dataset=dataset,
        clip=options.clip,
        batches=batches,
        windows=describe_windows(dataset, options.clip, batches),
        videos=None,
        folder=Path(),
        device=device,
        batch_size=options.batch_size,
        workers=options.loader_threads,
        prefetch=2,
        decoding=DecodingConfig(loader_device="gpu" if on_gpu else "cpu"),  # a GPU that cannot is a fault here
    )
    rates = measure_sweep(setting, repeats=options.repeats, least_pass_s=min(LEAST_PASS_S, options.seconds))
    best = max(rates, key=lambda name: rates[name].median)
    as_asked, fastest = rates[AS_ASKED].median, rates[best].median
    found = f"{as_asked:.0f} clips/s; the fastest, with {best}: {fastest:.0f}"
    problems = []
    if on_gpu and fastest < options.wanted_clips_per_s:
        problems.append(f"{fastest:.0f} clips/s at best, of {options.wanted_clips_per_s:.0f} that the network may want")
    skipped = () if on_gpu else (f"the GPU's decoder and its options: {NO_GPU}",)
    return Outcome(found=found, values=sweep_as_json(rates), problems=tuple(problems), skipped=skipped)
