"""Where our loader's CPU time goes.

Each stage is run alone, on the same batches and by the loader's own functions; then the loader as a whole. What the
whole takes beyond the stages is the hand-over: threads, queues, and the batches' small tensors. The stages are warm
and the whole has other caches to share, so the hand-over may come out below zero, and is shown as it comes out.

On a CPU:

- read: the shards' bytes, from the operating system's cache or the disk;
- assemble: draw the windows, find the bytes, join them to one JPEG a clip;
- decode: DALI's decoder, its inputs and outputs included;
- resize: crop, mirror and resize with torch;
- mask: unpack, crop and resize with NumPy;
- hand-over.

On a GPU the graph does all after assembling; its stage is the CPU time that it takes to drive the GPU.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from rich.table import Table

from dali_pipelines.cropping import crop_clip, crop_mask
from dali_pipelines.decoders import GraphDecoder
from dali_pipelines.faults import FaultConfig, Faults
from dali_pipelines.graph import Device, front_end
from dali_pipelines.requests import Draw, Request, RequestReader
from dali_pipelines.reused_memory import ReusedMemory
from dali_pipelines.windows import Windows
from scenebias.benchmark.loading.ours import train_loader, training_batches
from scenebias.benchmark.loading.setting import Setting
from scenebias.benchmark.loading.windows import plan_windows
from scenebias.reports.terminal import number_table
from shards.storage.store import OpenShard

HAND_OVER = "hand-over"


@dataclass(frozen=True)
class Stages:
    """CPU time, of all threads, in milliseconds a clip."""

    whole_ms: float
    stage_ms: dict[str, float]
    """By stage; they add up to the whole."""

    def as_json(self) -> dict[str, Any]:
        """JSON values."""
        shares = {name: stage_ms / self.whole_ms for name, stage_ms in self.stage_ms.items()}
        return {"cpu_ms_per_clip": self.whole_ms, "stages_cpu_ms_per_clip": self.stage_ms, "stages_share": shares}


def measure_stages(setting: Setting, repeats: int) -> Stages:
    """Medians of ``repeats`` rounds after one that does not count."""
    runs = _stage_runs(setting)
    rounds = [{name: run() for name, run in runs.items()} for _ in range(repeats + 1)][1:]
    clips = len(setting.windows)
    ms = {name: 1000 * statistics.median(found[name] for found in rounds) / clips for name in runs}
    whole_ms = ms.pop("whole")
    ms["assemble"] -= ms["read"]
    return Stages(whole_ms, ms | {HAND_OVER: whole_ms - sum(ms.values())})


def stages_table(stages: Stages) -> Table:
    """One line a stage."""
    rows = [(name, f"{ms:.4f}", f"{ms / stages.whole_ms:.1%}") for name, ms in stages.stage_ms.items()]
    rows.append(("whole", f"{stages.whole_ms:.4f}", "100.0%"))
    return number_table("our loader's CPU time", ("stage", "ms a clip", "share"), rows)


def _stage_runs(setting: Setting) -> dict[str, Callable[[], float]]:
    """What measures each stage once: CPU seconds. Assembling includes reading."""
    on_gpu = setting.device.type == "cuda"
    loader = train_loader(setting)
    reader = _reader(setting)
    requests = [reader.read(Draw(windows)) for windows in setting.batches]
    decoder = _decoder(setting)
    reads = _recorded_reads(reader, setting.batches)

    def read() -> float:
        with _timed(time.thread_time) as taken:
            for shard, offset, size in reads:
                shard.read(offset, size)
        return taken[0]

    def assemble() -> float:
        with _timed(time.thread_time) as taken:
            for windows in plan_windows(setting.dataset, setting.clip, setting.batch_size, len(setting.batches)):
                reader.read(Draw(windows))
        return taken[0]

    def graph() -> float:
        with _timed(time.process_time) as taken:
            for _ in decoder.decode(iter(requests), reader.replace):
                pass
        return taken[0]

    def whole() -> float:
        with _timed(time.process_time) as taken:
            for _ in training_batches(setting, loader):
                pass
        return taken[0]

    runs = {"read": read, "assemble": assemble}
    if on_gpu:
        return runs | {"graph": graph, "whole": whole}
    runs |= {"decode": graph, "resize": lambda: _cropping(setting, decoder, reader, requests, _resize)}
    if setting.dataset.has_masks:
        runs["mask"] = lambda: _cropping(setting, decoder, reader, requests, _cut_masks)
    return runs | {"whole": whole}


def _reader(setting: Setting) -> RequestReader:
    """As the loader has it."""
    faults = FaultConfig()
    device: Device = "gpu" if setting.device.type == "cuda" else "cpu"
    return RequestReader(
        setting.dataset,
        setting.clip,
        Faults(faults, len(setting.dataset)),
        cut_columns=front_end(setting.dataset.codec, device).cuts_columns,
        check_crc=faults.check_crc,
    )


def _decoder(setting: Setting) -> GraphDecoder:
    """As the loader has it."""
    return GraphDecoder(
        setting.dataset,
        setting.clip,
        device=setting.device,
        crop=setting.device.type == "cuda",
        batch_size=setting.batch_size,
        threads=setting.workers,
        prefetch=setting.prefetch,
        decoding=setting.decoding,
    )


def _recorded_reads(reader: RequestReader, batches: Sequence[Windows]) -> list[tuple[OpenShard, int, int]]:
    """Which bytes the reader reads."""
    reads: list[tuple[OpenShard, int, int]] = []
    original = OpenShard.read

    def record(shard: OpenShard, offset: int, size: int) -> bytes:
        reads.append((shard, offset, size))
        return original(shard, offset, size)

    with patch.object(OpenShard, "read", record):
        for windows in batches:
            reader.read(Draw(windows))
    return reads


def _cropping(
    setting: Setting,
    decoder: GraphDecoder,
    reader: RequestReader,
    requests: list[Request],
    crop: Callable[[Setting, Request, Any, ReusedMemory], None],
) -> float:
    """CPU seconds of ``crop`` on the decoded frames; this thread's alone, as DALI decodes ahead in others meanwhile."""
    elapsed_s, memory = 0.0, ReusedMemory(kept_blocks=1)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for request, (frames,) in decoder.decode(iter(requests), reader.replace):
        with _timed(time.thread_time) as taken:
            crop(setting, request, frames, memory)
        elapsed_s += taken[0]
    torch.set_num_threads(threads)
    return elapsed_s


def _resize(setting: Setting, request: Request, frames: Any, memory: ReusedMemory) -> None:
    size = setting.clip.size
    clip_BTSSC = memory.empty((len(request.windows), setting.clip.frames, size, size, 3))
    for index, piece in enumerate(request.pieces):
        frames_THWC = torch.from_numpy(np.asarray(frames[index]))
        crop_clip(frames_THWC, request.roi_B22[piece.window], clip_BTSSC[piece.window, piece.frames])


def _cut_masks(setting: Setting, request: Request, frames: Any, memory: ReusedMemory) -> None:
    del frames
    size = setting.clip.size
    mask_BTSS = memory.empty((len(request.windows), setting.clip.frames, size, size))
    for piece in request.pieces:
        mask_TSS = mask_BTSS[piece.window, piece.frames].numpy()
        packed_Thw8 = request.packed_masks[piece.window][piece.frames]
        crop_mask(packed_Thw8, request.mask_roi_B22[piece.window], mask_TSS)


@contextmanager
def _timed(clock: Callable[[], float]) -> Iterator[list[float]]:
    """Fill the list with the seconds of ``clock`` that the block takes."""
    taken: list[float] = []
    start_s = clock()
    yield taken
    taken.append(clock() - start_s)
