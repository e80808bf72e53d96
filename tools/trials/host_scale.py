"""Whether one machine's host side feeds eight GPUs: our loaders in as many processes, each GPU replaced by a sleep.

Every process has the training loader as it is on a GPU: draws, reads, cuts whole rows of bands out of film strips,
prefetches, and hands all inputs over to DALI, which copies them. What the GPU would do then, decoding and all that
follows, is a sleep: a batch is not given out before ``1 / --clips-per-s`` seconds a clip have gone by since the one
before it. CPU time is that of all threads of a process; it hardly depends on how many cores there are, so that cores a
rank are told even where the ranks share a few.

Not in it, as only a GPU shows it: the driver's calls, the entropy coding that nvJPEG undoes on the CPU for what its
engines do not take, and the trainer.
"""

import multiprocessing
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from nvidia.dali import fn, types
from nvidia.dali.data_node import DataNode
from nvidia.dali.pipeline import Pipeline, pipeline_def
from rich.console import Console
from torch import Tensor

from dali_pipelines import TrainLoader, clip_decoder
from dali_pipelines.decoders import Decoded, Replace
from dali_pipelines.graph import graph_inputs
from dali_pipelines.requests import Request
from dali_pipelines.windows import ClipConfig
from scenebias.commands import Command
from scenebias.reports.terminal import number_table
from shards.checks import require_at_least
from shards.dataset import ShardDataset
from shards.errors import UserError

EPOCHS = 10**9
WARM_UP_STEPS = 4
LEAST_SHARE = 0.98
"""Of the clips that were asked for: the rest is the coarseness of the clock at the end."""
MOST_CORES = 1.0


@dataclass(frozen=True, kw_only=True)
class HostScale:
    """Feed as many GPUs as a machine may have, each replaced by a sleep."""

    shards: Path
    """Folder of a packed data set of film strips with masks."""
    ranks: int = 8
    """Processes, one a GPU."""
    clips_per_s: float = 425.0
    """What each GPU takes; 425 is what SPDL's authors measured of R3D-18 on an H100."""
    batch_size: int = 32
    """Clips of a batch of each rank."""
    threads: int = 2
    """Threads of each rank's pipeline."""
    prefetch: int = 2
    """Batches made ahead."""
    seconds: float = 20.0
    """How long to measure."""

    def __post_init__(self) -> None:
        require_at_least(1, ranks=self.ranks, batch_size=self.batch_size, threads=self.threads, prefetch=self.prefetch)
        for name in ("clips_per_s", "seconds"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")


@dataclass(frozen=True)
class RankResult:
    """What a rank has done."""

    clips_per_s: float
    cores: float
    """CPU seconds a second."""
    own_bytes: int
    """Memory that it does not share."""


def main(config: HostScale) -> int:
    """Load in all ranks at once. Exit status 1 where one gets too few clips, or takes more than a core."""
    if not ShardDataset.open(config.shards).has_masks:
        raise UserError(
            f"--shards {config.shards}: has no human masks; pack it again with tools/make_shards.py --masks"
        )
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(config.ranks), context.SimpleQueue()
    processes = [
        context.Process(target=_run_rank, args=(config, rank, barrier, results)) for rank in range(config.ranks)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        return 1
    found: list[RankResult] = [results.get() for _ in processes]
    rates, cores = [rank.clips_per_s for rank in found], [rank.cores for rank in found]
    rows = [
        ("clips/s, all ranks", f"{sum(rates):.0f}", f"{config.ranks * config.clips_per_s:.0f}"),
        ("clips/s, the slowest rank", f"{min(rates):.0f}", f"{config.clips_per_s:.0f}"),
        ("cores a rank, mean", f"{np.mean(cores):.3f}", ""),
        ("cores a rank, most", f"{max(cores):.3f}", f"{MOST_CORES:g} at most"),
        ("CPU ms a clip", f"{1000 * sum(cores) / sum(rates):.3f}", ""),
        ("MB of a rank's own", f"{max(rank.own_bytes for rank in found) / 1e6:.0f}", ""),
    ]
    Console().print(number_table("the host side of a machine", ("", "measured", "wanted"), rows))
    return int(min(rates) < LEAST_SHARE * config.clips_per_s or max(cores) > MOST_CORES)


def _run_rank(config: HostScale, rank: int, barrier: Barrier, results: Any) -> None:
    torch.set_num_threads(1)
    result = load(config, rank, barrier.wait)
    results.put(result)


def load(config: HostScale, rank: int, wait_for_all: Any) -> RankResult:
    """Load for as long as asked, from when all ranks have warmed up."""
    loader = sleeping_loader(config, rank)
    batches = loader.epochs(0, EPOCHS)
    for _ in range(WARM_UP_STEPS):
        next(batches)
    wait_for_all()
    clips, begun_s, begun_cpu_s = 0, time.monotonic(), time.process_time()
    while (elapsed_s := time.monotonic() - begun_s) < config.seconds:
        clips += len(next(batches).label_B)
    return RankResult(clips / elapsed_s, (time.process_time() - begun_cpu_s) / elapsed_s, _own_bytes())


def sleeping_loader(config: HostScale, rank: int) -> TrainLoader:
    """Our loader of a rank, as it is on a GPU but for the GPU."""

    def make_decoder(dataset: ShardDataset, clip: ClipConfig, **options: Any) -> "SleepingDecoder":
        return SleepingDecoder(dataset, clip, options["batch_size"], config)

    with (
        patch.object(clip_decoder, "decodes_on_gpu", lambda *_, **__: True),
        patch.object(clip_decoder, "GraphDecoder", make_decoder),
    ):
        return TrainLoader(
            ShardDataset.open(config.shards),
            global_batch_size=config.ranks * config.batch_size,
            rank=rank,
            world_size=config.ranks,
            threads=config.threads,
            prefetch=config.prefetch,
        )


@dataclass(frozen=True)
class Ready:
    """Stands in for DALI's output of a batch."""

    values: Tensor

    def is_dense_tensor(self) -> bool:
        return True

    def as_tensor(self) -> Tensor:
        return self.values


class SleepingDecoder:
    """Hands all inputs over to DALI, as `GraphDecoder` does, and sleeps for as long as a GPU would take."""

    def __init__(self, dataset: ShardDataset, clip: ClipConfig, batch_size: int, config: HostScale) -> None:
        self._dataset, self._config = dataset, config
        shape = (batch_size, clip.frames, clip.size, clip.size)
        self._clip_BTSSC, self._mask_BTSS1 = (torch.zeros((*shape, depth), dtype=torch.uint8) for depth in (3, 1))
        self._requests: Iterator[Request] = iter(())
        self._in_flight: list[Request] = []
        self._pipeline: Pipeline = _hand_over_graph(
            self._next_inputs,
            batch_size=batch_size,
            num_threads=config.threads,
            device_id=None,
            prefetch_queue_depth=config.prefetch,
        )

    def decode(self, requests: Iterator[Request], replace: Replace) -> Generator[tuple[Request, Decoded], None, None]:
        """As of `Decoder`."""
        del replace
        self._requests = requests
        due_s = time.monotonic()
        while True:
            try:
                self._pipeline.run()
            except StopIteration:
                return
            request = self._in_flight.pop(0)
            clips = len(request.windows)
            taking_s = clips / self._config.clips_per_s
            # Late batches are caught up with as far as a GPU makes them ahead.
            due_s = max(due_s + taking_s, time.monotonic() - self._config.prefetch * taking_s)
            time.sleep(max(0.0, due_s - time.monotonic()))
            yield request, (Ready(self._clip_BTSSC[:clips]), Ready(self._mask_BTSS1[:clips]))

    def _next_inputs(self) -> Sequence[Any]:
        request = next(self._requests)
        self._in_flight.append(request)
        return graph_inputs(request, self._dataset.codec, device="gpu", crop=True, masks=True)


@pipeline_def
def _hand_over_graph(source: Any) -> tuple[DataNode, ...]:
    uint8, int32, real = types.DALIDataType.UINT8, types.DALIDataType.INT32, types.DALIDataType.FLOAT
    dtypes, ndims = [uint8, int32, real, uint8, real], [1, 1, 2, 3, 2]
    return tuple(fn.external_source(source=source, num_outputs=len(dtypes), dtype=dtypes, ndim=ndims))


def _own_bytes() -> int:
    """Memory of this process that no other shares, as Linux tells."""
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="ascii", errors="replace").splitlines()
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Private_"))


COMMAND = Command(
    main=main,
    options=HostScale,
    example="python tools/trials/host_scale.py --shards data/jhmdb/train",
)

if __name__ == "__main__":
    COMMAND.run()
