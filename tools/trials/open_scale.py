"""Simulate a very large data set and tell what it takes to open it, to find a step of an epoch and to plan evaluation.

Its tables are as a writer makes them (144 bytes a sample on the disk); scene labels and tar files are sparse and empty.
"""

import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray

from scenebias.commands import Command
from shards.checks import require_at_least
from shards.dataset import ShardDataset
from shards.format.growing_shard import shard_name
from shards.format.index import SAMPLE_DTYPE, SAMPLES_NAME, SCENES_NAME, STRIP_DTYPE, STRIPS_NAME
from shards.format.manifest import Manifest, ShardRecord
from shards.format.sample import SCENE_COUNT
from shards.order import EpochOrder

LIMIT_S, LIMIT_BYTES = 2.0, 1.5e9
CLASSES = tuple(f"class{number}" for number in range(200))
TAR_BLOCK_BYTES = 512
BATCH_SIZE, STEPS = 256, 100
SPAWN = multiprocessing.get_context("spawn")


@dataclass(frozen=True, kw_only=True)
class OpenScale:
    """How large the data set is."""

    samples: int = 10_000_000
    """Clips in all."""
    shards: int = 10_000
    """Tar files that they lie in."""

    def __post_init__(self) -> None:
        require_at_least(1, samples=self.samples, shards=self.shards)


def main(config: OpenScale) -> int:
    """Simulate a very large data set and tell what it takes to open it, to find a step of an epoch, to plan evaluation.

    Exit status 1 where opening takes 2 s or more, or a process that has opened it 1.5 GB or more.
    """
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        started_s = time.perf_counter()
        simulate_dataset(directory, config.samples, config.shards)
        taken = sum(path.stat().st_blocks for path in directory.iterdir()) * 512
        logical = sum(path.stat().st_size for path in directory.iterdir())
        print(
            f"{config.samples} samples in {config.shards} shards: {taken / 1e9:.2f} GB on the disk for"
            f" {logical / 1e12:.2f} TB, made in {time.perf_counter() - started_s:.0f} s"
        )
        drop_cached(directory)
        within_limits = [report_opening(directory, state) for state in ("not cached", "cached", "cached", "cached")]
        report_sharing(directory)
        in_new_process(report_order, directory)
        in_new_process(report_evaluation, directory)
    return 0 if all(within_limits) else 1


def simulate_dataset(directory: Path, sample_count: int, shard_count: int) -> None:
    """Write the index and the manifest of a data set with masks and scene labels, and files of its shards' sizes."""
    samples = np.lib.format.open_memmap(directory / SAMPLES_NAME, "w+", SAMPLE_DTYPE, (sample_count,))
    strips = np.lib.format.open_memmap(directory / STRIPS_NAME, "w+", STRIP_DTYPE, (sample_count,))
    np.lib.format.open_memmap(directory / SCENES_NAME, "w+", np.dtype("<f2"), (sample_count, SCENE_COUNT))
    bounds = [number * sample_count // shard_count for number in range(shard_count + 1)]
    class_counts = np.zeros(len(CLASSES), np.int64)
    records = []
    for shard in range(shard_count):
        first, end = bounds[shard : shard + 2]
        size = fill_shard(shard, first, samples[first:end], strips[first:end])
        class_counts += np.bincount(samples["label"][first:end], minlength=len(CLASSES))
        tar = directory / shard_name(shard)
        for path in (tar, tar.with_suffix(".idx"), tar.with_suffix(".index.npz")):
            path.touch()
        os.truncate(tar, size)
        count = end - first
        records.append(
            ShardRecord(name=tar.name, bytes=size, samples=count, masks=count, scenes=count, sha256=f"{shard:064x}")
        )
    samples.flush()
    strips.flush()
    Manifest(
        dataset="simulated",
        split="1",
        subset="train",
        classes=CLASSES,
        class_counts=tuple(class_counts.tolist()),
        frame_height=128,
        quality=85,
        shards=tuple(records),
    ).save(directory)


def fill_shard(shard: int, first: int, samples: NDArray, strips: NDArray) -> int:
    """Fill in one shard's rows of both tables, each clip one film strip; return the size of its tar file."""
    random = np.random.default_rng(shard)
    count = len(samples)
    samples["label"] = random.integers(len(CLASSES), size=count)
    samples["frame_count"] = strips["frame_count"] = frames = random.integers(16, 300, count)
    samples["frame_size"] = 128, 170
    samples["first_strip"] = first + np.arange(count)
    samples["strip_count"] = 1
    samples["shard"] = shard
    samples["mask_height"], samples["mask_width"] = 64, 85
    strips["header_bytes"] = 1000 + 4 * frames
    components = [strips, *(samples[name] for name in ("masks", "scene", "cls", "json"))]
    sizes: list[NDArray | int] = [5000 * frames, 128 + 64 * 11 * frames, 128 + 2 * SCENE_COUNT, 3, 300]
    content = np.stack(np.broadcast_arrays(*sizes), axis=1)
    blocks = -(-content // TAR_BLOCK_BYTES) * TAR_BLOCK_BYTES
    ends = np.cumsum(TAR_BLOCK_BYTES + blocks).reshape(content.shape)
    for number, component in enumerate(components):
        component["offset"] = ends[:, number] - blocks[:, number]
        component["bytes"] = content[:, number]
        component["crc32"] = random.integers(2**32, size=count)
    return int(ends[-1, -1]) + 2 * TAR_BLOCK_BYTES


def drop_cached(directory: Path) -> None:
    """Have the machine forget the tables, so that they are read from the disk again."""
    for path in directory.glob("*.npy"):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def report_opening(directory: Path, state: str) -> bool:
    """Open it in a new process; return whether that was within the limits."""
    opening_s, before, after = in_new_process(opening, directory)
    print(
        f"opened in {opening_s:.2f} s ({state}); resident {after['Rss'] / 1e6:.0f} MB,"
        f" {(after['Rss'] - before['Rss']) / 1e6:.0f} MB of it by opening"
    )
    return bool(opening_s < LIMIT_S and after["Rss"] < LIMIT_BYTES)


def report_sharing(directory: Path) -> None:
    """Let two ranks on this machine run through steps of an epoch at once, and tell the memory of each."""
    barrier = SPAWN.Barrier(2)
    ranks = [start(walking, directory, rank, barrier) for rank in range(2)]
    for rank, (process, result) in enumerate(ranks):
        before, after = finish(process, result)
        grown = {name: (after[name] - before[name]) / 1e6 for name in after}
        print(
            f"rank {rank} of 2, after {STEPS} steps of {BATCH_SIZE} samples: resident +{grown['Rss']:.0f} MB, its share"
            f" (Pss) +{grown['Pss']:.0f} MB, its own +{grown['Private_Dirty']:.0f} MB, pages of the files that it alone"
            f" has touched +{grown['Private_Clean']:.0f} MB"
        )


def opening(directory: Path) -> tuple[float, dict[str, int], dict[str, int]]:
    """Seconds, and the memory of this process before and after."""
    before = memory_bytes()
    started_s = time.perf_counter()
    dataset = ShardDataset.open(directory)
    opening_s = time.perf_counter() - started_s
    after = memory_bytes()
    assert len(dataset) == dataset.scene_count
    return opening_s, before, after


def walking(directory: Path, rank: int, barrier: Barrier) -> tuple[dict[str, int], dict[str, int]]:
    """Read all that is told of the samples of some steps; the memory before and after, while the other rank lives."""
    before = memory_bytes()
    dataset = ShardDataset.open(directory)
    order = order_of(dataset, None)
    middle = order.steps_per_epoch // 2
    for step in range(middle, min(middle + STEPS, order.steps_per_epoch)):
        sample_B = order.rank_batch(0, step, rank, 2)
        assert dataset.scenes is not None
        for table in (dataset.labels, dataset.frame_counts, dataset.frame_sizes, dataset.scenes):
            assert len(table[sample_B]) == len(sample_B)
    barrier.wait()
    after = memory_bytes()
    barrier.wait()
    return before, after


def report_order(directory: Path) -> None:
    """Tell the time to find the samples of a step, per sample, in a new order and in one that was used."""
    dataset = ShardDataset.open(directory)
    for window in (None, 1, 16):
        name = "whole shuffle" if window is None else f"shuffle within {window} shards"
        for place in (0, 0.5):
            order = order_of(dataset, window)
            first = int(order.steps_per_epoch * place)
            jump_s = timed(partial(order.global_batch, 0, first))
            steps = range(first, min(first + STEPS, order.steps_per_epoch))
            whole_s = median(timed(partial(order.global_batch, 0, step)) for step in steps)
            share_s = median(timed(partial(order.rank_batch, 0, step, 3, 8)) for step in steps)
            print(
                f"{name}, from step {first}: jump there {jump_s * 1e3:.2f} ms; a step of {BATCH_SIZE} samples"
                f" {whole_s / BATCH_SIZE * 1e6:.2f} us a sample, an eighth of it {share_s / BATCH_SIZE * 8e6:.2f}"
            )


def report_evaluation(directory: Path) -> None:
    """Tell what it takes to know the evaluation windows of all clips, and to take a batch of them."""
    from dali_pipelines.windows import ClipConfig, EvaluationWindows  # its libraries are large

    dataset = ShardDataset.open(directory)
    before = memory_bytes()
    started_s = time.perf_counter()
    windows = EvaluationWindows(ClipConfig(), dataset.frame_counts, dataset.frame_sizes)
    planned_s = time.perf_counter() - started_s
    own = memory_bytes()["Private_Dirty"] - before["Private_Dirty"]
    middle = len(windows) // 2
    batch_s = median(timed(lambda: windows[middle : middle + BATCH_SIZE]) for _ in range(STEPS))
    print(
        f"{len(windows)} evaluation windows: planned in {planned_s:.2f} s, {own / 1e6:.0f} MB;"
        f" a batch in the middle {batch_s / BATCH_SIZE * 1e6:.2f} us a window"
    )


def order_of(dataset: ShardDataset, window: int | None) -> EpochOrder:
    return EpochOrder(
        sample_count=len(dataset),
        global_batch_size=BATCH_SIZE,
        shard_starts=dataset.shard_starts,
        shuffle_window_shards=window,
    )


def timed(action: Callable[[], object]) -> float:
    started_s = time.perf_counter()
    action()
    return time.perf_counter() - started_s


def memory_bytes() -> dict[str, int]:
    """What of this process is in memory."""
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="utf-8").splitlines()[1:]
    sizes = {name: int(value.split()[0]) * 1024 for name, _, value in (line.partition(":") for line in lines)}
    return {name: sizes[name] for name in ("Rss", "Pss", "Private_Clean", "Private_Dirty")}


def in_new_process(action: Callable, *arguments: object) -> tuple:
    return finish(*start(action, *arguments))


def start(action: Callable, *arguments: object) -> tuple[multiprocessing.process.BaseProcess, Connection]:
    ours, theirs = SPAWN.Pipe(duplex=False)
    process = SPAWN.Process(target=send_result, args=(theirs, action, *arguments))
    process.start()
    theirs.close()  # so that a child that dies ends the wait
    return process, ours


def send_result(connection: Connection, action: Callable, *arguments: object) -> None:
    connection.send(action(*arguments))


def finish(process: multiprocessing.process.BaseProcess, result: Connection) -> tuple:
    value = result.recv()
    process.join()
    return value


COMMAND = Command(
    main=main,
    options=OpenScale,
    example="python tools/trials/open_scale.py --samples 10000000 --shards 10000",
)

if __name__ == "__main__":
    COMMAND.run()
