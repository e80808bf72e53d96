"""How busy the engines of an NVIDIA GPU are while something runs."""

import statistics
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch

SAMPLE_INTERVAL_S = 0.1

ReadLoad = Callable[[], Mapping[str, float]]
"""Shares, 0 to 1, of the time just past in which each engine was busy; an engine that the GPU lacks is left out."""


@contextmanager
def sampled_load(read: ReadLoad | None) -> Iterator[dict[str, float]]:
    """Sample ``read`` in a thread; the dictionary is filled with the means when the block ends. None: it stays empty.

    Raises:
        Exception: at the end of the block, whatever ``read`` raised.
    """
    means: dict[str, float] = {}
    if read is None:
        yield means
        return
    samples: defaultdict[str, list[float]] = defaultdict(list)
    errors: list[Exception] = []
    stop = threading.Event()

    def sample() -> None:
        try:
            while not stop.wait(SAMPLE_INTERVAL_S):
                for name, share in read().items():
                    samples[name].append(share)
        except Exception as error:  # handed to the thread that waits for this one
            errors.append(error)

    thread = threading.Thread(target=sample, name="gpu load", daemon=True)
    thread.start()
    try:
        yield means
    finally:
        stop.set()
        thread.join()
    if errors:
        raise errors[0]
    means |= {name: statistics.fmean(values) for name, values in samples.items()}


def load_reader(device: torch.device) -> ReadLoad | None:
    """What reads the load of ``device``; None for a CPU, and where nvidia-ml-py is not installed."""
    if device.type != "cuda":
        return None
    try:
        import pynvml
    except ImportError:
        return None
    pynvml.nvmlInit()
    # Not by its number: CUDA_VISIBLE_DEVICES changes torch's numbers and not NVML's.
    handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
    engines = {
        "gpu_busy_share": lambda: pynvml.nvmlDeviceGetUtilizationRates(handle).gpu,
        "video_decoder_busy_share": lambda: pynvml.nvmlDeviceGetDecoderUtilization(handle)[0],
        "jpeg_decoder_busy_share": lambda: pynvml.nvmlDeviceGetJpgUtilization(handle)[0],
    }

    def read() -> dict[str, float]:
        load = {}
        for name, percent in engines.items():
            try:
                load[name] = percent() / 100
            except pynvml.NVMLError_NotSupported:  # an older GPU has no engine for JPEGs
                continue
        return load

    return read
