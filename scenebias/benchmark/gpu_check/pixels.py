"""Pixels and masks of the graph that a GPU runs, against those that the CPU decodes and torch crops, under load.

A decoder that hands over memory which it still writes to, or writes to again, gives pixels of other clips, off by 20
levels and more. Each batch is compared as it comes, and again when the next ones have been made.

Shape suffixes: B clips, T frames, H rows, W columns, C colours.
"""

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from dali_pipelines.clip_decoder import ClipBatch, ClipDecoder
from dali_pipelines.decoding_config import DecodingConfig
from dali_pipelines.requests import Draw
from dali_pipelines.windows import Windows
from scenebias.benchmark.gpu_check.check import Outcome
from scenebias.benchmark.gpu_check.device_load import busy
from scenebias.benchmark.gpu_check.options import GpuCheck, device_here
from scenebias.benchmark.loading.windows import plan_windows
from shards.dataset import ShardDataset

BATCHES = 6
KEPT = 3
"""Batches that are kept, and compared again."""
PREFETCH = 3
LARGEST_MEAN = 3.0
"""Levels of a clip's mean difference from which on it is a race; how decoders round stays below one."""
LARGEST_MASK_SHARE = 0.005
"""Share of a clip's mask pixels that may differ, where nearest neighbours are a tie."""


@dataclass
class Differences:
    """The largest differences so far."""

    clip_mean: float = 0.0
    """Of a clip's pixels on average, in levels."""
    pixel: int = 0
    """Of a single value that is not at the rim, where DALI's resize looks past the crop."""
    mask_share: float = 0.0
    """Of a clip's mask pixels."""
    compared: int = 0
    """Clips, each as often as it was compared."""
    races: list[dict[str, Any]] = field(default_factory=list)
    """Clips that are another picture: when they were compared, and by how much they differ."""

    def add(self, batch: ClipBatch, expected: ClipBatch, when: str) -> None:
        """Compare a batch with what it should be, on its device."""
        difference_BTHWC = (batch.clip_BTHWC.int() - expected.clip_BTHWC.int()).abs()
        mean_B = difference_BTHWC.float().mean(dim=(1, 2, 3, 4))
        mask_B = _mask_difference(batch, expected)
        self.clip_mean = max(self.clip_mean, float(mean_B.max()))
        self.pixel = max(self.pixel, int(difference_BTHWC[:, :, 2:-2, 2:-2].max()))
        self.mask_share = max(self.mask_share, float(mask_B.max()))
        self.compared += len(mean_B)
        for place in ((mean_B > LARGEST_MEAN) | (mask_B > LARGEST_MASK_SHARE)).nonzero()[:, 0].tolist():
            self.races.append(
                {
                    "sample": int(expected.sample_B[place]),
                    "when": when,
                    "clip_mean": float(mean_B[place]),
                    "mask_share": float(mask_B[place]),
                }
            )


def check_pixels(options: GpuCheck) -> Outcome:
    """Decode the same batches again and again while the device works, and compare all of them."""
    device = device_here()
    dataset = ShardDataset.open(options.shards)
    batches = plan_windows(dataset, options.clip, options.batch_size, BATCHES)
    on_gpu = device.type == "cuda"
    # What a GPU does not crop, the CPU's graph does: there is always another crop to compare with.
    other = _decoder(options, dataset, torch.device("cpu"), crop_in_graph=not on_gpu)
    expected = [_copied(batch, device) for batch in other.batches(map(Draw, batches))]
    begun_s = time.monotonic()
    with busy(device):
        decoder = _decoder(options, dataset, device, crop_in_graph=on_gpu)
        found = compare_for(options.seconds, decoder, batches, expected)
    problems = []
    if found.races:
        late = sum(race["when"] == "later" for race in found.races)
        problems.append(
            f"{len(found.races)} of {found.compared} clips are another picture (mean difference over {LARGEST_MEAN:g}"
            f" levels, or over {LARGEST_MASK_SHARE:.1%} of the mask), {late} of them only after the next batches"
        )
    return Outcome(
        found=(
            f"{found.compared} clips in {time.monotonic() - begun_s:.0f} s on {device}: means differ by"
            f" {found.clip_mean:.2f} levels at most, values by {found.pixel}, masks in {found.mask_share:.2%}"
        ),
        values=vars(found) | {"device": str(device), "races": found.races[:100]},
        problems=tuple(problems),
    )


def compare_for(
    seconds: float, decoder: ClipDecoder, windows: Sequence[Windows], expected: Sequence[ClipBatch]
) -> Differences:
    """Decode ``windows``, batch by batch, until ``seconds`` have gone by, once at least."""
    found, end_s = Differences(), time.monotonic() + seconds
    kept: deque[tuple[ClipBatch, ClipBatch]] = deque()
    while True:
        for batch, should_be in zip(decoder.batches(map(Draw, windows)), expected, strict=True):
            found.add(batch, should_be, "at once")
            kept.append((batch, should_be))
            if len(kept) > KEPT:
                found.add(*kept.popleft(), "later")
        if time.monotonic() >= end_s:
            return found


def _decoder(options: GpuCheck, dataset: ShardDataset, device: torch.device, *, crop_in_graph: bool) -> ClipDecoder:
    return ClipDecoder(
        dataset,
        options.clip,
        batch_size=options.batch_size,
        device=device,
        threads=options.loader_threads,
        prefetch=PREFETCH,
        crop_in_graph=crop_in_graph,
        decoding=DecodingConfig(loader_device="gpu" if device.type == "cuda" else "cpu"),
    )


def _copied(batch: ClipBatch, device: torch.device) -> ClipBatch:
    """``batch`` in memory of its own: the CPU's graph writes the next one into the same."""
    tensors = {name: value for name, value in vars(batch).items() if isinstance(value, Tensor)}
    copies: dict[str, Any] = {name: value.to(device, copy=True) for name, value in tensors.items()}
    return replace(batch, **copies)


def _mask_difference(batch: ClipBatch, expected: ClipBatch) -> Tensor:
    """Share of mask pixels that differ, float (B,)."""
    if batch.mask_BTHW is None or expected.mask_BTHW is None:
        return torch.zeros(len(batch.label_B), device=batch.label_B.device)
    return (batch.mask_BTHW != expected.mask_BTHW).float().mean(dim=(1, 2, 3))
