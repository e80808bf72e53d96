"""Measure how fast training data comes: this project's loader beside other ways to feed the same clips.

All of them take the same windows of the same clips (webdataset, which cannot seek, takes its own), cut them in the
same way and give uint8 batches on the device. Ours brings the human masks and scene labels along; the others do not.
Passes are interleaved, so that whatever else the machine does disturbs all alike; medians are reported.
"""

import os
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import webdataset
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.io import decode_jpeg
from torchvision.transforms import v2

from dali_pipelines.augmentation import ClipConfig, Windows, draw_training_windows, frame_indices
from dali_pipelines.graph import build_clip_pipeline
from dali_pipelines.loader import TrainLoader
from scenebias.commands import run_command, write_output
from scenebias.progress import ProgressDisplay
from scenebias.run_record import package_versions, plain
from shards.codecs import FILMSTRIP
from shards.dataset import ShardDataset
from shards.errors import UserError
from shards.order import EpochOrder

OURS = "this project's loader"
SEED = 0
Pass = Callable[[], Iterable[int]]  # one pass over the steps, giving the size of every batch


@dataclass(frozen=True, kw_only=True)
class BenchData:
    """Measure how fast training data comes, beside other ways to feed the same clips."""

    shards: Path
    """Folder of a packed data set."""
    device: Literal["cpu", "gpu"] = "cpu"
    """Where the batches go, and where our loader decodes."""
    batch_size: int = 32
    """Clips in a batch."""
    steps: int = 20
    """Batches in a pass; at most an epoch's."""
    repeats: int = 5
    """Measured passes of every loader, after one that is not measured."""
    workers: int = 2
    """Threads of our loader, and processes of the others."""
    json: Path | None = None
    """File for the results."""
    clip: ClipConfig = field(default_factory=ClipConfig)

    def __post_init__(self) -> None:
        for name in ("batch_size", "steps", "repeats", "workers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


def main(config: BenchData) -> None:
    """Measure how fast training data comes, beside other ways to feed the same clips."""
    if config.device == "gpu" and not torch.cuda.is_available():
        raise UserError("--device gpu needs a GPU that torch can use; take --device cpu")
    device = torch.device("cuda", torch.cuda.current_device()) if config.device == "gpu" else torch.device("cpu")
    dataset = ShardDataset.open(config.shards)
    if dataset.codec != FILMSTRIP:
        raise UserError(
            f"--shards {config.shards}: stored as {dataset.codec}, but film strips are compared; pack those"
        )
    console = Console()
    with tempfile.TemporaryDirectory(prefix="bench_data_") as frames_folder:
        windows = plan_windows(dataset, config)
        extract_frames(dataset, config.clip, windows, Path(frames_folder))
        passes = {
            OURS: our_loader(dataset, config, device),
            "DALI, decode only": decode_only(dataset, config, windows, device),
            "webdataset, whole clips": whole_clips(dataset, config, device),
            "PyTorch, frames on disk": frames_on_disk(config, windows, dataset, Path(frames_folder), device),
        }
        rates = measure(passes, config.repeats, device)
    results = summarise(rates)
    console.print(results_table(results))
    if config.json is not None:
        write_output(config.json, {"options": plain(config), "machine": describe_machine(device), "results": results})


def plan_windows(dataset: ShardDataset, config: BenchData) -> list[Windows]:
    """The windows of our loader's first steps."""
    order = EpochOrder(sample_count=len(dataset), global_batch_size=config.batch_size, seed=SEED)
    batches = [order.global_batch(0, step) for step in range(min(config.steps, order.steps_per_epoch))]
    return [
        draw_training_windows(
            config.clip,
            seed=SEED,
            epoch=0,
            sample_B=sample_B,
            frame_count_B=dataset.frame_counts[sample_B],
            frame_size_B2=dataset.frame_sizes[sample_B],
        )
        for sample_B in batches
    ]


def our_loader(dataset: ShardDataset, config: BenchData, device: torch.device) -> Pass:
    """Decode, multi-scale crop, flip, masks, scene labels: what training takes."""
    loader = TrainLoader(
        dataset,
        config.clip,
        global_batch_size=config.batch_size,
        seed=SEED,
        device=device,
        threads=config.workers,
    )

    def run() -> Iterator[int]:
        for _, batch in zip(range(config.steps), loader.epoch(0), strict=False):
            yield len(batch.label_B)

    return run


def decode_only(dataset: ShardDataset, config: BenchData, windows: list[Windows], device: torch.device) -> Pass:
    """The strips' bytes, already in memory, through DALI's decoder: what no loader of these strips can beat by much."""
    batches: list[tuple[list[np.ndarray], ...]] = []
    for batch in windows:
        frames_BT = frame_indices(config.clip, batch, dataset.frame_counts[batch.sample_B])
        clips = zip(batch.sample_B.tolist(), frames_BT, strict=True)
        strips = [np.frombuffer(dataset.read_clip(sample, frames).strip, np.uint8) for sample, frames in clips]
        sizes = dataset.frame_sizes[batch.sample_B]
        batches.append((strips, [np.array([config.clip.frames, *size, 3], np.int32) for size in sizes]))
    position = iter(batches)
    pipeline = build_clip_pipeline(
        config.clip,
        lambda: next(position),
        device=config.device,
        crop=False,
        masks=False,
        batch_size=config.batch_size,
        threads=config.workers,
        prefetch=2,
        device_id=device.index,
    )

    def run() -> Iterator[int]:
        nonlocal position
        position = iter(batches)
        pipeline.reset()
        for batch in windows:
            pipeline.run()
            yield len(batch)

    return run


class FramesOnDisk(Dataset[Tensor]):
    """The usual way: a JPEG file for every frame, decoded with Pillow in worker processes."""

    def __init__(self, clip: ClipConfig, windows: list[Windows], frame_counts: np.ndarray, folder: Path) -> None:
        self._size = clip.size
        self._folder = folder
        self._cuts = [
            (int(sample), frames_T, roi_22)
            for batch in windows
            for sample, frames_T, roi_22 in zip(
                batch.sample_B, frame_indices(clip, batch, frame_counts[batch.sample_B]), batch.rois(), strict=True
            )
        ]

    def __len__(self) -> int:
        return len(self._cuts)

    def __getitem__(self, index: int) -> Tensor:
        sample, frames_T, roi_22 = self._cuts[index]
        frames_TCHW = torch.stack(
            [v2.functional.pil_to_tensor(Image.open(frame_path(self._folder, sample, frame))) for frame in frames_T]
        )
        return cut(frames_TCHW, roi_22, self._size)


def frames_on_disk(
    config: BenchData, windows: list[Windows], dataset: ShardDataset, folder: Path, device: torch.device
) -> Pass:
    """Feed ``FramesOnDisk`` through a DataLoader."""
    loader = DataLoader(
        FramesOnDisk(config.clip, windows, dataset.frame_counts, folder),
        batch_size=config.batch_size,
        num_workers=config.workers,
        persistent_workers=True,
        pin_memory=device.type == "cuda",
    )

    def run() -> Iterator[int]:
        for batch in loader:
            yield len(batch.to(device, non_blocking=True))

    return run


def extract_frames(dataset: ShardDataset, clip: ClipConfig, windows: list[Windows], folder: Path) -> None:
    """Write each frame of the windows as a JPEG file of its own, with the bytes it has in its strip."""
    for batch in windows:
        frames_BT = frame_indices(clip, batch, dataset.frame_counts[batch.sample_B])
        for sample, frames_T in zip(batch.sample_B.tolist(), frames_BT.tolist(), strict=True):
            for frame in set(frames_T):
                path = frame_path(folder, sample, frame)
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(dataset.read_clip(sample, np.array([frame])).strip)


def frame_path(folder: Path, sample: int, frame: int) -> Path:
    """Where a frame's own JPEG file is."""
    return folder / f"{sample:06d}" / f"{frame:05d}.jpg"


def whole_clips(dataset: ShardDataset, config: BenchData, device: torch.device) -> Pass:
    """Our shards through webdataset: a sequential read, so a clip is decoded whole and a window is cut out of it."""

    def decode(sample: dict[str, Any]) -> Tensor:
        strip = sample[min(name for name in sample if name.endswith("frames.jpg"))]
        image_CHW = decode_jpeg(torch.frombuffer(bytearray(strip), dtype=torch.uint8))
        number = int(sample["__key__"])
        height, width = dataset.frame_sizes[number]
        frames_NCHW = image_CHW.unflatten(1, (-1, int(height))).transpose(0, 1)
        frame_count = np.array([len(frames_NCHW)])
        window = draw_training_windows(
            config.clip,
            seed=SEED,
            epoch=random.getrandbits(31),
            sample_B=np.array([number]),
            frame_count_B=frame_count,
            frame_size_B2=np.array([[height, width]]),
        )
        frames_T = torch.from_numpy(frame_indices(config.clip, window, frame_count)[0])
        return cut(frames_NCHW[frames_T], window.rois()[0], config.clip.size)

    clips = webdataset.WebDataset(
        [str(dataset.directory / shard.name) for shard in dataset.manifest.shards],
        shardshuffle=False,
        empty_check=False,
    ).map(decode)
    loader = DataLoader(
        clips,
        batch_size=config.batch_size,
        num_workers=config.workers,
        persistent_workers=True,
        pin_memory=device.type == "cuda",
    )

    def run() -> Iterator[int]:
        for _, batch in zip(range(config.steps), loader, strict=False):
            yield len(batch.to(device, non_blocking=True))

    return run


def cut(frames_TCHW: Tensor, roi_22: np.ndarray, size: int) -> Tensor:
    """Crop, resize and mirror a clip with torchvision: (T, S, S, C)."""
    (top, left), (bottom, right) = roi_22.tolist()
    side = bottom - top
    clip_TCSS = v2.functional.resized_crop(frames_TCHW, top, min(left, right), side, side, [size, size])
    if right < left:
        clip_TCSS = v2.functional.horizontal_flip(clip_TCSS)
    return clip_TCSS.permute(0, 2, 3, 1).contiguous()


def measure(passes: dict[str, Pass], repeats: int, device: torch.device) -> dict[str, list[float]]:
    """Clips a second of every pass, by loader. The first round warms up and is not counted."""
    rates: dict[str, list[float]] = {name: [] for name in passes}
    with ProgressDisplay("measuring", (repeats + 1) * len(passes), "passes") as progress:
        for repeat in range(repeats + 1):
            for name, run in passes.items():
                start = time.perf_counter()
                clips = sum(run())
                if device.type == "cuda":
                    torch.cuda.synchronize(device)
                if repeat:
                    rates[name].append(clips / (time.perf_counter() - start))
                progress.advance()
    return rates


def summarise(rates: dict[str, list[float]]) -> dict[str, dict[str, Any]]:
    """Median and range of every loader, and how much faster ours is."""
    ours = statistics.median(rates[OURS])
    return {
        name: {
            "clips_per_s": statistics.median(values),
            "clips_per_s_of_passes": values,
            "ours_to_this": ours / statistics.median(values),
        }
        for name, values in rates.items()
    }


def results_table(results: dict[str, dict[str, Any]]) -> Table:
    """One line for every loader."""
    table = Table(title="training clips a second")
    table.add_column("loader")
    for heading in ("median", "lowest", "highest", "ours is faster by"):
        table.add_column(heading, justify="right")
    for name, result in results.items():
        values = result["clips_per_s_of_passes"]
        numbers = (result["clips_per_s"], min(values), max(values))
        table.add_row(name, *(f"{number:.0f}" for number in numbers), f"{result['ours_to_this']:.2f} x")
    return table


def describe_machine(device: torch.device) -> dict[str, Any]:
    """What the numbers depend on."""
    return {
        "accelerator": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "cpus": len(os.sched_getaffinity(0)),
        "processor": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "versions": package_versions(),
    }


if __name__ == "__main__":
    run_command(main, BenchData)
