"""Which of nvImageCodec's decoders, which DALI decodes JPEGs with, take our film strips."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import nvidia.nvimgcodec as nvimgcodec
import torch

from dali_pipelines.faults import FaultConfig, Faults
from dali_pipelines.requests import Draw, RequestReader
from scenebias.benchmark.gpu_check.check import NO_GPU, Outcome
from scenebias.benchmark.gpu_check.environment import jpeg_engines
from scenebias.benchmark.gpu_check.options import GpuCheck
from scenebias.benchmark.loading.windows import plan_windows
from shards.dataset import ShardDataset

BACKENDS = {
    "hardware": nvimgcodec.BackendKind.HW_GPU_ONLY,
    "GPU": nvimgcodec.BackendKind.GPU_ONLY,
    "hybrid": nvimgcodec.BackendKind.HYBRID_CPU_GPU,
    "CPU": nvimgcodec.BackendKind.CPU_ONLY,
}
"""The JPEG engines; the GPU's cores; those with the CPU for the entropy coding; libjpeg-turbo."""
OPTIONS = ":fancy_upsampling=1"
"""As our graph asks of DALI."""
BATCHES = 4


def check_jpeg_backends(options: GpuCheck) -> Outcome:
    """Decode the strips of some batches with each backend alone, and count what it gives back."""
    strips = training_strips(options)
    on_gpu = torch.cuda.is_available()
    backends = BACKENDS if on_gpu else {"CPU": BACKENDS["CPU"]}
    reference = _decode("CPU", strips)
    values: dict[str, Any] = {"strips": len(strips)}
    for name in backends:
        decoded = reference if name == "CPU" else _decode(name, strips)
        values[name] = _compared(decoded, reference)
    taken = {name: values[name]["taken"] for name in backends}
    problems = []
    if taken["CPU"] < len(strips):
        problems.append(f"the CPU decodes {taken['CPU']} of {len(strips)} strips")
    if on_gpu and max(taken["GPU"], taken["hybrid"]) < len(strips):
        problems.append(f"the GPU's cores take {taken['GPU']} of {len(strips)} strips, with the CPU {taken['hybrid']}")
    if isinstance(jpeg_engines(), dict) and taken["hardware"] < len(strips):
        problems.append(f"the JPEG engines of this card take {taken['hardware']} of {len(strips)} strips")
    found = ", ".join(f"{name} {count}/{len(strips)}" for name, count in taken.items())
    skipped = () if on_gpu else (f"{', '.join(name for name in BACKENDS if name not in backends)}: {NO_GPU}",)
    return Outcome(found=found, values=values, problems=tuple(problems), skipped=skipped)


def training_strips(options: GpuCheck) -> list[bytes]:
    """The JPEGs of some batches, as a GPU is given them."""
    dataset, faults = ShardDataset.open(options.shards), FaultConfig()
    reader = RequestReader(
        dataset, options.clip, Faults(faults, len(dataset)), cut_columns=False, check_crc=faults.check_crc
    )
    batches = plan_windows(dataset, options.clip, options.batch_size, BATCHES)
    requests = [reader.read(Draw(windows)) for windows in batches]
    return [bytes(piece.coded.data) for request in requests for piece in request.pieces]


def _decode(backend: str, strips: Sequence[bytes]) -> list[np.ndarray | None]:
    """What that backend alone makes of each strip, uint8 (rows, columns, 3); None where it does not take it."""
    device = nvimgcodec.NVIMGCODEC_DEVICE_CPU_ONLY if backend == "CPU" else nvimgcodec.NVIMGCODEC_DEVICE_CURRENT
    try:
        decoder = nvimgcodec.Decoder(
            device_id=device, backends=[nvimgcodec.Backend(BACKENDS[backend])], options=OPTIONS
        )
    except RuntimeError:  # no such engine
        return [None] * len(strips)
    images = decoder.decode([nvimgcodec.CodeStream(strip) for strip in strips])
    return [None if image is None else np.asarray(image.cpu()) for image in images]


def _compared(decoded: Sequence[np.ndarray | None], reference: Sequence[np.ndarray | None]) -> dict[str, Any]:
    """How many were taken, and how far from libjpeg-turbo's pixels they are, in levels."""
    differences = [
        np.abs(image.astype(np.int16) - other)
        for image, other in zip(decoded, reference, strict=True)
        if image is not None and other is not None
    ]
    return {
        "taken": sum(image is not None for image in decoded),
        "mean_difference": float(np.mean([difference.mean() for difference in differences])) if differences else None,
        "largest_difference": int(max(difference.max() for difference in differences)) if differences else None,
    }
