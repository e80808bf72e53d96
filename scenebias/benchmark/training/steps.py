"""How fast a training step is: the trainer's with different objectives, number formats and sources of clips, and that
of bare torch."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from statistics import median
from typing import Literal

import torch
from torch.nn import functional

from dali_pipelines.clip_decoder import ClipBatch
from dali_pipelines.loader import TrainLoader
from dali_pipelines.windows import ClipConfig
from scenebias.benchmark.measuring import Rates
from scenebias.benchmark.training.stand_ins import WARM_UP_STEPS, ResidentBatches, SomeSteps, StepTimes
from scenebias.benchmark.training.trainer_run import run_trainer
from scenebias.compose.config import AS_THEY_ARE, ComposeConfig, Composition
from scenebias.debiasing.objective import ObjectiveConfig, ObjectiveName
from scenebias.models.action_model import ActionModel, ModelConfig
from scenebias.models.backbones import BackboneName
from scenebias.reports.progress import ProgressDisplay
from scenebias.training.computing.arithmetic import ArithmeticConfig
from scenebias.training.optimization import OptimizationConfig
from shards.dataset import ShardDataset
from shards.errors import UserError

MeasuredPrecision = Literal["bf16", "fp32"]
BASELINE, DEBIAS, ALBAR, OTHER = "baseline", "debias", "albar", "baseline in {}"
COMPOSED = "baseline, clips composed by {}"
OURS, BARE = "baseline with its loader", "bare torch"
OBJECTIVES: dict[ObjectiveName, ObjectiveConfig] = {
    "baseline": ObjectiveConfig(name="baseline"),
    # Every mask is effective: a batch without any would be spared the masked pass.
    "debias": ObjectiveConfig(name="debias", min_person_share=0.0),
    "albar": ObjectiveConfig(name="albar"),
}


@dataclass(frozen=True)
class Batches:
    """The batches of a turn, the same ones for all: from the loader, and in memory."""

    loader: TrainLoader
    resident: list[ClipBatch]
    device: torch.device


@dataclass(frozen=True)
class StepRates:
    """What was measured, turn by turn, and what it comes to."""

    rates: dict[str, Rates]
    ratios: dict[str, float]


def open_batches(
    dataset: ShardDataset,
    clip: ClipConfig,
    *,
    batch_size: int,
    steps: int,
    device: torch.device,
    loader_threads: int,
) -> Batches:
    """The first batches of an epoch; UserError where the data has fewer."""
    loader = TrainLoader(dataset, clip, global_batch_size=batch_size, device=device, threads=loader_threads)
    count = WARM_UP_STEPS + steps
    if loader.steps_per_epoch < count:
        raise UserError(
            f"{len(dataset)} clips are too few for {count} steps of --batch-size {batch_size}: use more clips, smaller"
            " batches or fewer --steps"
        )
    return Batches(loader, list(islice(loader.epoch(0), count)), device)


def composed_ratio(composition: Composition) -> str:
    """The name of the ratio of a step with composed clips to a baseline step."""
    return f"{composition}_over_baseline"


def share_of_step(name: str) -> str:
    """The name of the ratio of the time that something takes to that of a baseline step."""
    return f"{name}_share_of_step"


def measure_steps(
    batches: Batches,
    network: BackboneName,
    precision: MeasuredPrecision,
    repeats: int,
    compositions: Sequence[Composition] = (),
    more: Mapping[str, Callable[[], StepTimes]] | None = None,
) -> StepRates:
    """Measure all in turns, every other time in the opposite order; ``compositions``: with clips composed so, too.

    Of ``more`` turns the time a clip is compared with that of a baseline step (`share_of_step`).
    """
    other: MeasuredPrecision = "fp32" if precision == "bf16" else "bf16"
    other_name = OTHER.format(other)
    count = len(batches.resident)
    resident = ResidentBatches(batches.loader, batches.resident, count)
    loaded = SomeSteps(batches.loader, count)

    def trainer(
        loader: ResidentBatches | SomeSteps,
        objective: ObjectiveName,
        precision: MeasuredPrecision,
        composition: ComposeConfig = AS_THEY_ARE,
    ) -> Callable[[], StepTimes]:
        arithmetic = ArithmeticConfig(precision=precision)
        return lambda: run_trainer(loader, network, OBJECTIVES[objective], arithmetic, batches.device, composition)

    turns: dict[str, Callable[[], StepTimes]] = {
        BASELINE: trainer(resident, "baseline", precision),
        DEBIAS: trainer(resident, "debias", precision),
        ALBAR: trainer(resident, "albar", precision),
        other_name: trainer(resident, "baseline", other),
        OURS: trainer(loaded, "baseline", precision),
        BARE: lambda: train_bare(batches, network, precision),
    }
    composed = {composition: COMPOSED.format(composition) for composition in compositions}
    for composition, name in composed.items():
        turns[name] = trainer(resident, "baseline", precision, ComposeConfig(compose=(composition,)))
    rates = take_turns({**turns, **(more or {})}, repeats)
    bf16, fp32 = (BASELINE, other_name) if precision == "bf16" else (other_name, BASELINE)
    ratios = {
        "debias_over_baseline": time_ratio(rates[DEBIAS], rates[BASELINE]),
        "albar_over_baseline": time_ratio(rates[ALBAR], rates[BASELINE]),
        "ours_over_bare": time_ratio(rates[OURS], rates[BARE]),
        "ours_in_memory_over_bare": time_ratio(rates[BASELINE], rates[BARE]),
        "bf16_over_fp32": time_ratio(rates[bf16], rates[fp32]),
    }
    ratios |= {composed_ratio(one): time_ratio(rates[name], rates[BASELINE]) for one, name in composed.items()}
    ratios |= {share_of_step(name): time_ratio(rates[name], rates[BASELINE]) for name in more or {}}
    return StepRates(rates, ratios)


def take_turns(turns: Mapping[str, Callable[[], StepTimes]], repeats: int) -> dict[str, Rates]:
    """The rates of every turn; UserError where a batch has no mask, as it is spared the masked pass."""
    measured: dict[str, list[StepTimes]] = {name: [] for name in turns}
    with ProgressDisplay("measuring", repeats * len(turns), "turns") as progress:
        for repeat in range(repeats):
            for name in reversed(list(turns)) if repeat % 2 else turns:
                times = turns[name]()
                if not all(step.get("effective_share", 1) for step in times.steps):
                    raise UserError(
                        "a batch has no clip with a human mask: use a larger --batch-size, or data with more masks"
                    )
                measured[name].append(times)
                progress.advance()
    return {
        name: Rates(
            tuple(times.clips_per_s for times in all_times), tuple(times.cpu_ms_per_clip for times in all_times)
        )
        for name, all_times in measured.items()
    }


def time_ratio(slower: Rates, faster: Rates) -> float:
    """Time a clip of the one / of the other: the median over the turns, in which both met the same machine."""
    return median(b / a for a, b in zip(slower.clips_per_s, faster.clips_per_s, strict=True))


def train_bare(batches: Batches, network: BackboneName, precision: MeasuredPrecision) -> StepTimes:
    """The same model, optimiser and batches in a loop of torch's as one writes it who knows torch well."""
    device, config = batches.device, OptimizationConfig()
    dtype = ArithmeticConfig(precision=precision).dtype_on(device)
    torch.backends.cudnn.benchmark = True
    model = ActionModel(ModelConfig(backbone=network), len(batches.loader.dataset.manifest.classes))
    model = model.to(device).to(memory_format=torch.channels_last_3d).train()
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=config.learning_rate,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        fused=True,
    )
    times = StepTimes()
    for number, part in enumerate((batches.resident[:WARM_UP_STEPS], batches.resident[WARM_UP_STEPS:])):
        begun_s = time.perf_counter()
        for batch in part:
            with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                loss = functional.cross_entropy(model(batch.clip_BTHWC), batch.label_B)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)  # once for all steps: the loop above never waits
        elapsed_s = time.perf_counter() - begun_s
        clips = sum(len(batch.label_B) for batch in part)
        times.write("step", number, {"step_s": elapsed_s, "clips_per_s": clips / elapsed_s})
    return times
