"""The ways to compute a step, one short run each: they work, and their first loss is that of fp32."""

import math
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from scenebias.benchmark.gpu_check.check import NO_GPU, Outcome
from scenebias.benchmark.gpu_check.options import GpuCheck, device_here, loader_here
from scenebias.benchmark.training.stand_ins import ResidentBatches, StepTimes
from scenebias.benchmark.training.steps import OBJECTIVES
from scenebias.benchmark.training.trainer_run import run_trainer
from scenebias.debiasing.objective import ObjectiveConfig
from scenebias.training.computing.arithmetic import ArithmeticConfig

LOSS = "action_loss"
LARGEST_DIFFERENCE = 0.05
"""Relative, of the first steps' losses: before the first update half precision moves them by a hundredth at most."""


@dataclass(frozen=True)
class Variant:
    """A way to compute a step."""

    arithmetic: ArithmeticConfig = field(default_factory=lambda: ArithmeticConfig(precision="fp32"))
    objective: ObjectiveConfig = OBJECTIVES["debias"]
    same_loss: bool = True
    """Whether its first loss is that of fp32; BatchNorm sees other clips together where not."""
    runs: int = 1
    """More than one: their losses are the same to the bit."""
    needs_gpu: bool = False


VARIANTS: Mapping[str, Variant] = {
    "fp32": Variant(),
    "fp16": Variant(ArithmeticConfig(precision="fp16"), needs_gpu=True),
    "bf16": Variant(ArithmeticConfig(precision="bf16")),
    "accumulate": Variant(ArithmeticConfig(precision="fp32", accumulate=2), same_loss=False),
    "recompute": Variant(ArithmeticConfig(precision="fp32", recompute=True)),
    "joint": Variant(objective=replace(OBJECTIVES["debias"], mask_step="joint"), same_loss=False),
    "alternate": Variant(objective=replace(OBJECTIVES["debias"], mask_step="alternate"), same_loss=False),
    "compile": Variant(ArithmeticConfig(precision="fp32", compile=True), needs_gpu=True),
    "deterministic": Variant(ArithmeticConfig(precision="fp32", deterministic=True), runs=2),
}


def check_variants(options: GpuCheck) -> Outcome:
    """Train a few steps in every way; one that fails ends no other."""
    device = device_here()
    loader = loader_here(options, device)
    (batch, *_) = loader.epoch(0, loader.steps_per_epoch - 1)
    runner = _Runner(options, ResidentBatches(loader, [batch], options.steps + 1), device)
    here = {name: variant for name, variant in VARIANTS.items() if device.type == "cuda" or not variant.needs_gpu}
    for name, variant in here.items():
        runner.try_out(name, variant)
    rates = ", ".join(f"{name} {values['clips_per_s']:.0f}" for name, values in runner.values.items() if values)
    left_out = [name for name in VARIANTS if name not in here]
    return Outcome(
        found=f"clips/s: {rates}",
        values=runner.values,
        problems=tuple(runner.problems),
        skipped=(f"{', '.join(left_out)}: {NO_GPU}",) if left_out else (),
    )


class _Runner:
    """Runs variants on one batch, and compares their losses."""

    def __init__(self, options: GpuCheck, batches: ResidentBatches, device: torch.device) -> None:
        self._options, self._batches, self._device = options, batches, device
        self._reference: float | None = None
        self.values: dict[str, dict[str, Any]] = {}
        self.problems: list[str] = []

    def try_out(self, name: str, variant: Variant) -> None:
        try:
            runs = [self._run(variant) for _ in range(variant.runs)]
        except Exception as error:
            self.problems.append(f"{name}: {traceback.format_exception_only(error)[-1].strip()}")
            self.values[name] = {}
            return
        losses = [[step[LOSS] for step in times.all_steps if LOSS in step] for times in runs]
        first = losses[0][0] if losses[0] else math.nan
        self.values[name] = {"clips_per_s": runs[0].clips_per_s, "losses": losses[0]}
        if not all(map(math.isfinite, [first, *losses[0]])):
            self.problems.append(f"{name}: a loss is not finite")
        self._reference = first if self._reference is None else self._reference
        if variant.same_loss and abs(first - self._reference) > LARGEST_DIFFERENCE * abs(self._reference):
            self.problems.append(f"{name}: its first loss is {first:.4f}, that of fp32 {self._reference:.4f}")
        if any(other != losses[0] for other in losses[1:]):
            self.problems.append(f"{name}: two runs give other losses")

    def _run(self, variant: Variant) -> StepTimes:
        torch.manual_seed(0)
        try:
            return run_trainer(
                self._batches, self._options.backbone, variant.objective, variant.arithmetic, self._device
            )
        finally:
            torch.use_deterministic_algorithms(False)
