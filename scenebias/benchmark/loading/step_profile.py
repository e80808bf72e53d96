"""How long the steps of a real training run wait for data: the project's own trainer, fed by the project's own loader.

Beside the run itself, the loader alone and the model alone are measured, in turns and with the threads that each has in
the run: the run cannot be faster than the slower of the two. On a CPU the loader's threads and torch's share the cores.
The baseline objective is trained, as its steps are the shortest and so wait the most.
"""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import Any

import torch
from rich.table import Table

from scenebias.benchmark.gpu_load import load_reader, sampled_load
from scenebias.benchmark.loading.ours import train_loader
from scenebias.benchmark.loading.setting import Setting
from scenebias.benchmark.training.stand_ins import WARM_UP_STEPS, ResidentBatches, SomeSteps, StepTimes
from scenebias.benchmark.training.trainer_run import run_trainer
from scenebias.debiasing.objective import ObjectiveConfig
from scenebias.distributed.cpu_memory import keep_freed_memory
from scenebias.models.backbones import BackboneName
from scenebias.reports.progress import ProgressDisplay
from scenebias.reports.terminal import number_table
from scenebias.training.computing.arithmetic import ArithmeticConfig

LEAST_STEPS = 2
ROUNDS = 3
"""For networks whose steps are short."""

MakeLoader = Callable[[int], ResidentBatches | SomeSteps]


@dataclass(frozen=True)
class StepProfile:
    """What a training run does with its time; medians of the rounds."""

    network: str
    loader_threads: int
    torch_threads: int
    rounds: int
    steps: int
    """Of a round."""
    clips_per_s: float
    data_wait_share: float
    """Of the steps' time, in which the model waits for its next batch."""
    loader_alone_clips_per_s: float
    model_alone_clips_per_s: float
    engines: dict[str, float]
    """How busy the GPU's engines were; empty without a GPU."""

    @property
    def of_the_slower(self) -> float:
        """The run's rate as a share of that of the loader alone or the model alone, whichever is slower."""
        return self.clips_per_s / min(self.loader_alone_clips_per_s, self.model_alone_clips_per_s)

    def as_json(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self) | {"of_the_slower": self.of_the_slower}


def profile_steps(
    setting: Setting, networks: Sequence[BackboneName], *, steps: int | None, alone_s: float
) -> list[StepProfile]:
    """Train each network for ``steps`` steps, or for about ``alone_s``, after one that does not count.

    ``alone_s`` is also how long the loader alone and the model alone are measured, but for two steps at least. A model
    whose single step takes longer is measured alone for that one.
    """
    if not networks:
        return []
    cores = len(os.sched_getaffinity(0))
    threads_before = torch.get_num_threads()
    if setting.device.type == "cpu":
        keep_freed_memory()  # as every training run does
        setting = replace(setting, workers=max(1, cores // 2))
        torch.set_num_threads(max(1, cores - setting.workers))  # threads that start later take the number over
    try:
        profiler = _Profiler(setting, alone_s)
        with ProgressDisplay("training", len(networks), "networks") as progress:
            profiles = []
            for network in networks:
                progress.say(f"training {network}: on one batch in memory, and with the loader")
                profiles.append(profiler.profile(network, steps))
                progress.advance()
        return profiles
    finally:
        torch.set_num_threads(threads_before)


class _Profiler:
    """Measures with one loader for all networks."""

    def __init__(self, setting: Setting, alone_s: float) -> None:
        self._setting = setting
        self._alone_s = alone_s
        self._loader = train_loader(setting)
        self._batch, *_ = self._loader.epoch(0, max(0, self._loader.steps_per_epoch - LEAST_STEPS))
        self._read_load = load_reader(setting.device)

    def profile(self, network: BackboneName, steps: int | None) -> StepProfile:
        first = self._train(network, self._model_alone, 1)
        is_slow = first.seconds > self._alone_s
        count = LEAST_STEPS if is_slow else max(LEAST_STEPS, first.steps_in(self._alone_s))
        loader_alone, model_alone, together = [], [], []
        for _ in range(1 if is_slow else ROUNDS):
            loader_alone.append(self._loader_alone())
            model_alone.append(first if is_slow else self._train(network, self._model_alone, count))
            with sampled_load(self._read_load) as engines:
                together.append(self._train(network, self._with_loader, steps or count))
        return StepProfile(
            network=network,
            loader_threads=self._setting.workers,
            torch_threads=torch.get_num_threads(),
            rounds=len(together),
            steps=len(together[0].steps),
            clips_per_s=median(times.clips_per_s for times in together),
            data_wait_share=median(times.data_wait_share for times in together),
            loader_alone_clips_per_s=median(loader_alone),
            model_alone_clips_per_s=median(times.clips_per_s for times in model_alone),
            engines=engines,
        )

    def _loader_alone(self) -> float:
        """Clips a second, in whole epochs."""
        clips, elapsed_s, start_s = 0, 0.0, time.perf_counter()
        while not clips or elapsed_s < self._alone_s:
            clips += sum(len(batch.label_B) for batch in self._loader.epoch(0))
            if self._setting.device.type == "cuda":
                torch.cuda.synchronize(self._setting.device)
            elapsed_s = time.perf_counter() - start_s
        return clips / elapsed_s

    def _model_alone(self, steps: int) -> ResidentBatches:
        return ResidentBatches(self._loader, [self._batch], steps)

    def _with_loader(self, steps: int) -> SomeSteps:
        return SomeSteps(self._loader, steps)

    def _train(self, network: BackboneName, make_loader: MakeLoader, steps: int) -> StepTimes:
        """Train for at least so many steps after the warm-up, as a run does but for the evaluation."""
        loader = make_loader(steps + WARM_UP_STEPS)
        objective = ObjectiveConfig(name="baseline")
        return run_trainer(loader, network, objective, ArithmeticConfig(), self._setting.device)


def profile_table(profiles: Sequence[StepProfile]) -> Table:
    """One line a network."""
    header = ("network", "rate", "data wait", "loader alone", "model alone", "rate / slower")
    rows = [
        (
            profile.network,
            f"{profile.clips_per_s:.1f}",
            f"{profile.data_wait_share:.2%}",
            f"{profile.loader_alone_clips_per_s:.0f} ({profile.loader_threads} threads)",
            f"{profile.model_alone_clips_per_s:.1f} ({profile.torch_threads} threads)",
            f"{profile.of_the_slower:.2f}",
        )
        for profile in profiles
    ]
    return number_table("a training run's steps, in clips a second", header, rows)
