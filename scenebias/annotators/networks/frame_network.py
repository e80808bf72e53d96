"""An image network that is fed with the frames of many clips in a row.

Whatever frames come before and after it, a frame gets the same result to the last bit: on a GPU every batch of frames
of one size has one shape, filled up where frames are short; on a CPU no frame shares a batch.

Shape suffixes: N frames, H height, W width, C colours.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from scenebias.models.published.published_weights import PublishedWeights
from shards.errors import UserError

Frame = NDArray[np.uint8]
Network = Callable[[Tensor], Tensor]


class FrameNetwork:
    """A network with published weights on a device, and what annotators of packing have in common."""

    def __init__(
        self,
        model: nn.Module,
        published: PublishedWeights,
        weights: Path | None,
        *,
        every: int,
        batch_size: int,
        batch_option: str,
        device: torch.device,
    ) -> None:
        """Load the weights and move the network to ``device``.

        Args:
            model: the network; images come in ``channels_last`` layout.
            published: where its weights come from.
            weights: a file of weights; None: a download.
            every: it is fed with every k-th frame.
            batch_size: frames that it gets at once on a GPU.
            batch_option: the option that sets ``batch_size``.
            device: where to run.

        Raises:
            UserError: there are no weights, or they do not fit.
        """
        weights_sha256 = published.load_into(model, weights)
        placed: Any = model  # the annotation of `to` knows no layout beside a device
        self.model: Any = placed.to(device, memory_format=torch.channels_last).eval().requires_grad_(False)
        # With its number, if it has one: other threads may be set to another GPU.
        self.device: torch.device = next(model.parameters()).device
        self.every = every
        self.batch_size = batch_size_on(self.device, batch_size)
        self._batch_option = batch_option
        self._published = published
        self._settings: dict[str, Any] = {
            "network": published.network,
            "weights_sha256": weights_sha256,
            "every": every,
            "batch": self.batch_size,
            "precision": "float16" if self.device.type == "cuda" else "float32",
        }

    def settings(self) -> dict[str, Any]:
        """All that decides the annotations."""
        return self._settings

    def half_precision(self) -> torch.autocast:
        """Half precision on a GPU, float32 elsewhere.

        float16, not bfloat16: it resolves eight times as finely, and GPUs before Ampere have nothing else.
        """
        return torch.autocast(self.device.type, dtype=torch.float16, enabled=self.device.type == "cuda")

    def finite(self, result: Tensor) -> Tensor:
        """Return ``result``, which any NaN or infinity would turn into silent nonsense.

        Raises:
            UserError: it has one, from damaged weights or ones too large for half precision.
        """
        if not result.isfinite().all():
            raise UserError(
                f"{self._published.network} gives numbers that are not finite; give its published weights, "
                f"{self._published.url}, as {self._published.option}"
            )
        return result

    def run(self, network: Network, frames: Iterable[Frame]) -> Iterator[NDArray[Any]]:
        """`run_network` with the settings of this one."""
        return run_network(
            network, frames, device=self.device, batch_size=self.batch_size, batch_option=self._batch_option
        )


def batch_size_on(device: torch.device, batch_size: int) -> int:
    """Frames that a network gets at once: ``batch_size`` on a GPU, 1 on a CPU.

    On a CPU each core works on a frame of its own: it waits for no other core, its intermediate results fit the cache
    better, and no sum depends on the number of threads. Measured with LR-ASPP at 520 pixels on 2 cores: about as fast
    as both cores on one frame after another while nothing else runs, 4 times as fast while other processes decode
    video; batches of 8 on both cores take twice the time.
    """
    return 1 if device.type == "cpu" else batch_size


def run_network(
    network: Network, frames: Iterable[Frame], *, device: torch.device, batch_size: int, batch_option: str
) -> Iterator[NDArray[Any]]:
    """Yield what ``network`` says of each frame, in order.

    The next frames are fetched while the network is at work on those before.

    Args:
        network: takes uint8 (N, C, H, W) in ``channels_last`` layout on ``device``, 0 to 255; returns N rows.
        frames: uint8 (H, W, C); those that follow each other and have one size share a batch.
        device: where to run.
        batch_size: frames a batch.
        batch_option: the option that sets ``batch_size``, for the message where the memory of a GPU runs out.

    Raises:
        UserError: the memory of the GPU ran out.
    """
    # Asked for here, so that this thread keeps its number of threads when those of the pool set theirs.
    threads = torch.get_num_threads() if device.type == "cpu" else 1
    pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
    run = partial(_run_batch, network, device=device, batch_size=batch_size, batch_option=batch_option)
    pending: deque[Future[NDArray[Any]]] = deque()
    try:
        for batch in _batches(frames, batch_size):
            pending.append(pool.submit(run, batch))
            if len(pending) > threads:
                yield from pending.popleft().result()
        while pending:
            yield from pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _batches(frames: Iterable[Frame], batch_size: int) -> Iterator[list[Frame]]:
    """Cut ``frames`` into batches of frames of one size, with ``batch_size`` of them or, before another size, fewer."""
    batch: list[Frame] = []
    for frame in frames:
        if batch and frame.shape != batch[0].shape:
            yield batch
            batch = []
        batch.append(frame)
        if len(batch) == batch_size:
            yield batch
            batch = []
    if batch:
        yield batch


def _run_batch(
    network: Network, frames: list[Frame], *, device: torch.device, batch_size: int, batch_option: str
) -> NDArray[Any]:
    frame_NHWC = np.stack(frames + frames[-1:] * (batch_size - len(frames)))
    try:
        with torch.inference_mode():
            image_NCHW = torch.from_numpy(frame_NHWC).to(device).permute(0, 3, 1, 2)
            return network(image_NCHW)[: len(frames)].cpu().numpy()
    except torch.OutOfMemoryError as error:
        height, width = frames[0].shape[:2]
        raise UserError(
            f"{batch_option} {batch_size}: {device} has too little free memory for as many frames of {width}x{height}; "
            + ("give a lower number" if batch_size > 1 else "use one with more")
        ) from error
