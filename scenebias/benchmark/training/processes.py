"""What is measured in processes of their own: the memory that a step takes, and two ranks beside one.

Shape suffixes: B clips.
"""

import json
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from statistics import median
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, distributed
from torch.profiler import ProfilerActivity, profile

from dali_pipelines.clip_decoder import ClipBatch
from scenebias.benchmark.training.stand_ins import WARM_UP_STEPS
from scenebias.benchmark.training.steps import OBJECTIVES, MeasuredPrecision
from scenebias.debiasing.debiasing_model import DebiasingModel
from scenebias.debiasing.objective import ObjectiveName
from scenebias.distributed.cpu_memory import keep_freed_memory
from scenebias.distributed.process_place import ProcessPlace
from scenebias.models.action_model import ActionModel, ModelConfig
from scenebias.models.backbones import BackboneName
from scenebias.training.computing.arithmetic import ArithmeticConfig
from scenebias.training.optimization import OptimizationConfig
from scenebias.training.step import StepSetting, TrainingStep

Result = TypeVar("Result")


@dataclass(frozen=True)
class Job:
    """What a process is to train."""

    network: BackboneName
    class_count: int
    batch: Path
    steps: int
    """After the warm-up."""
    precision: MeasuredPrecision
    device: str
    threads: int
    """Of torch's, of all processes together."""


@dataclass(frozen=True)
class Memory:
    """What a training takes beside its libraries and its batch."""

    state_bytes: int
    """Weights and state of the optimiser."""
    step_bytes: int
    """The most that the tensors of a step take beside those at once: activations, gradients, what kernels work with."""
    resident_bytes: int | None
    """The most that the process took beside all that was there before the first step; None on a GPU."""

    def as_json(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class TwoRanks:
    """Two processes beside one that trains the same batches, turn by turn."""

    one: tuple[float, ...]
    """Clips a second."""
    two: tuple[float, ...]
    loss_differences: tuple[float, ...]
    """Between the losses of every step, relative: they begin as rounding errors, and training makes them larger."""

    @property
    def two_over_one(self) -> float:
        """Rate of the two / of the one."""
        return median(two / one for one, two in zip(self.one, self.two, strict=True))

    def as_json(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


def save_batch(batch: ClipBatch, folder: Path) -> Path:
    """Write ``batch`` into ``folder``, for other processes."""
    path = folder / "batch.pt"
    torch.save({field.name: getattr(batch, field.name) for field in fields(batch)}, path)
    return path


def measure_memory(job: Job, objective: ObjectiveName) -> Memory:
    """Train in a process of its own."""
    (memory,) = _in_processes(_use_memory, [(job, objective)])
    return memory


def measure_two_ranks(job: Job, repeats: int) -> TwoRanks:
    """Train the baseline in one process and in two with SyncBatchNorm, in turns, with as many threads each time."""
    with tempfile.TemporaryDirectory(prefix="bench_train_ranks_") as folder:
        arguments = [(job, rank, Path(folder) / "meeting", repeats) for rank in range(2)]
        rates, losses = _in_processes(_take_turns_as_rank, arguments)[0]
    differences = tuple(abs(two - one) / abs(one) for one, two in zip(losses[1], losses[2], strict=True))
    return TwoRanks(tuple(rates[1]), tuple(rates[2]), differences)


def _in_processes(work: Callable[..., Result], arguments: Sequence[tuple[Any, ...]]) -> list[Result]:
    """What ``work`` returns for each of ``arguments``, all at once, each in a new process."""
    with ProcessPoolExecutor(len(arguments), mp_context=multiprocessing.get_context("spawn")) as pool:
        return [future.result() for future in [pool.submit(work, *given) for given in arguments]]


class _Training:
    """Steps on one batch, or on a rank's share of it."""

    def __init__(self, job: Job, objective: ObjectiveName, arithmetic: ArithmeticConfig, place: ProcessPlace) -> None:
        if place.device.type == "cpu":
            keep_freed_memory()  # as every training run does
        self.place = place
        self.losses: list[float] = []
        """Mean action loss of every step so far, over all ranks."""
        values = torch.load(job.batch, map_location=place.device, weights_only=True)
        self._clip_count = len(values["label_B"])
        self._batch = _share(ClipBatch(**values), place)
        on_gpu = place.device.type == "cuda"
        self._bytes_before = torch.cuda.memory_allocated(place.device) if on_gpu else _status_bytes("VmRSS")
        torch.manual_seed(0)
        action_model = ActionModel(ModelConfig(backbone=job.network), job.class_count)
        model = DebiasingModel(action_model, OBJECTIVES[objective])
        self._step = TrainingStep(model, OptimizationConfig(), arithmetic, place, outlives_nonfinite=False)
        self._step.begin_epoch(0)

    def take_turn(self, steps: int) -> float:
        """Train ``steps`` steps after a warm-up; returns clips a second, of all ranks together."""
        self.place.wait_for_all()
        for _ in range(WARM_UP_STEPS):
            self._train()
        begun_s = time.perf_counter()
        for _ in range(steps):
            self._train()
        return steps * self._clip_count / (time.perf_counter() - begun_s)

    def _train(self) -> None:
        rate = OptimizationConfig().learning_rate
        outcome = self._step(
            self._batch,
            StepSetting(
                epoch=0,
                step=len(self.losses),
                clip_count=self._clip_count,
                learning_rates={"backbone": rate, "heads": rate},
                ramp=1.0,
                seed=0,
            ),
        )
        self.losses.append(float(self.place.sum_over_ranks(outcome.sums["action_loss"])) / self._clip_count)

    def memory(self) -> Memory:
        """What all of it has taken so far, and what the tensors of one more step take."""
        state = [*self._step.model.state_dict().values()]
        state += [value for values in self._step.optimizer.state.values() for value in values.values()]
        state_bytes = sum(value.nbytes for value in state if isinstance(value, Tensor))
        device = self.place.device
        if device.type == "cuda":
            return Memory(state_bytes, torch.cuda.max_memory_allocated(device) - self._bytes_before - state_bytes, None)
        resident_bytes = _status_bytes("VmHWM") - self._bytes_before - state_bytes
        return Memory(state_bytes, _peak_tensor_bytes(self._train), resident_bytes)


def _share(batch: ClipBatch, place: ProcessPlace) -> ClipBatch:
    """The clips of ``place``'s rank."""
    shares: dict[str, Any] = {
        name: value_B.tensor_split(place.world_size)[place.rank]
        for name, value_B in vars(batch).items()
        if isinstance(value_B, Tensor)
    }
    return replace(batch, **shares)


def _peak_tensor_bytes(train: Callable[[], None]) -> int:
    """The most that tensors on the CPU take at once in ``train``, beside those of before, as torch's profiler says.

    It counts what `torch.cuda.max_memory_allocated` counts on a GPU.
    """
    with tempfile.TemporaryDirectory(prefix="bench_train_trace_") as folder:
        trace = Path(folder) / "trace.json"
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
            train()
        profiler.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
    return max(event["args"]["Total Allocated"] for event in events if event.get("name") == "[memory]")


def _status_bytes(which: Literal["VmRSS", "VmHWM"]) -> int:
    """Memory of this process, as Linux tells: what it holds, or the most that it has held."""
    lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    (line,) = (line for line in lines if line.startswith(f"{which}:"))
    return 1024 * int(line.split()[1])


def _use_memory(job: Job, objective: ObjectiveName) -> Memory:
    torch.set_num_threads(job.threads)
    place = ProcessPlace(rank=0, world_size=1, device=torch.device(job.device))
    training = _Training(job, objective, ArithmeticConfig(precision=job.precision), place)
    training.take_turn(job.steps)
    return training.memory()


def _take_turns_as_rank(
    job: Job, rank: int, meeting: Path, repeats: int
) -> tuple[dict[int, list[float]], dict[int, list[float]]]:
    """The rates of all turns and the losses of all steps, by the number of processes; rank 0 is the one."""
    distributed.init_process_group("gloo", f"file://{meeting}", rank=rank, world_size=2)
    arithmetic = ArithmeticConfig(precision=job.precision, sync_batch_norm=True)
    device = torch.device(job.device)
    places = [ProcessPlace(0, 1, device)] if rank == 0 else []
    trainings = [_Training(job, "baseline", arithmetic, place) for place in (*places, ProcessPlace(rank, 2, device))]
    rates: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(repeats):
        for training in trainings:
            torch.set_num_threads(max(1, job.threads // training.place.world_size))
            rates[training.place.world_size].append(training.take_turn(job.steps))
    distributed.destroy_process_group()
    return rates, {training.place.world_size: training.losses for training in trainings}
