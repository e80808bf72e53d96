"""Work that keeps a device busy while something else is looked at."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

GPU_SIDE, CPU_SIDE = 4096, 256
COPIED_BYTES = 64 * 1024**2
AT_ONCE = 4
"""Rounds of work that wait on the GPU at a time."""


@contextmanager
def busy(device: torch.device) -> Iterator[None]:
    """Multiply matrices, and copy memory to and fro, in a thread and on a stream of its own until the block ends.

    Raises:
        Exception: at the end of the block, whatever the work raised.
    """
    stop, errors = threading.Event(), []

    def work() -> None:
        try:
            _work(device, stop)
        except Exception as error:  # handed to the thread that waits for this one
            errors.append(error)

    thread = threading.Thread(target=work, name="load", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    if errors:
        raise errors[0]


def _work(device: torch.device, stop: threading.Event) -> None:
    if device.type == "cpu":
        matrix = torch.full((CPU_SIDE, CPU_SIDE), 1 / CPU_SIDE)
        while not stop.is_set():
            matrix = matrix @ matrix
        return
    stream = torch.cuda.Stream(device)
    with torch.cuda.stream(stream):
        matrix = torch.full((GPU_SIDE, GPU_SIDE), 1 / GPU_SIDE, dtype=torch.bfloat16, device=device)
        host = torch.zeros(COPIED_BYTES, dtype=torch.uint8, pin_memory=True)
        there = torch.empty_like(host, device=device)
        while not stop.is_set():
            events = []
            for _ in range(AT_ONCE):
                matrix = matrix @ matrix
                there.copy_(host, non_blocking=True)
                host.copy_(there, non_blocking=True)
                events.append(stream.record_event())
            for event in events:
                event.synchronize()
