"""Whether clips are decoded on a GPU, and if not, why."""

import logging
from functools import cache

import torch
from nvidia.dali import fn
from nvidia.dali.data_node import DataNode
from nvidia.dali.pipeline import Pipeline, pipeline_def

from dali_pipelines.decoding_config import LoaderDevice
from shards.codecs.registry import FILMSTRIP, Codec
from shards.dataset import ShardDataset
from shards.errors import UserError

_logger = logging.getLogger(__name__)

GPU_LEAST_SIZES: dict[Codec, tuple[int, int]] = {
    FILMSTRIP: (1, 1),
    "h264": (16, 48),
    "hevc": (144, 144),
    "vp9": (128, 128),
}
"""The smallest frames (H, W) that NVIDIA's decoder engines take, from the Video Codec SDK's table of capabilities."""


def decodes_on_gpu(dataset: ShardDataset, device: torch.device, wanted: LoaderDevice, *, quiet: bool = False) -> bool:
    """Whether batches for ``device`` are decoded on it. Where ``auto`` has to do without, a line says why.

    Raises:
        UserError: the GPU is ``wanted`` and cannot be had.
    """
    check_loader_device(wanted, device)
    if wanted == "cpu" or device.type == "cpu":
        return False
    reason = why_too_small(dataset) or why_no_dali(device.index)
    if reason is None:
        return True
    if wanted == "gpu":
        raise UserError(f"{dataset.location}: {reason}; take --loader-device cpu, which decodes on the CPU for the GPU")
    if not quiet:
        _logger.warning("%s: %s: clips are decoded on the CPU, and copied to the GPU", dataset.location, reason)
    return False


def check_loader_device(wanted: LoaderDevice, device: torch.device) -> None:
    """UserError where clips that go to ``device`` cannot be decoded where it is ``wanted``, whatever the clips are."""
    if wanted == "gpu" and device.type == "cpu":
        raise UserError("--loader-device gpu: what is loaded goes to the CPU here, as torch finds no GPU; take auto")


def why_too_small(dataset: ShardDataset) -> str | None:
    """Whether frames of ``dataset`` are smaller than the decoder engines take, as a clause; None where none are."""
    least_height, least_width = GPU_LEAST_SIZES[dataset.codec]
    height, width = dataset.frame_sizes.min(axis=0).tolist()  # reads the index of every clip
    if height >= least_height and width >= least_width:
        return None
    return (
        f"GPUs decode {dataset.codec} from {least_width}x{least_height} pixels on, and it has frames of"
        f" {width}x{height} (pack with a greater --height or another --codec)"
    )


@cache
def why_no_dali(device_id: int) -> str | None:
    """What keeps DALI from the GPU of that number, as a clause; None where it can use it."""
    pipeline: Pipeline = _smallest_graph(batch_size=1, num_threads=1, device_id=device_id)
    try:
        pipeline.run()
    except RuntimeError as error:
        first_line, *_ = str(error).strip().split("\n")
        return f"DALI cannot use GPU {device_id} ({first_line})"
    return None


@pipeline_def
def _smallest_graph() -> DataNode:
    return fn.zeros(shape=[1], device="gpu")
