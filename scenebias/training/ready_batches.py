"""Batches made ready for the network, in a thread, while the step before them runs.

On a GPU the thread has a stream of its own: it alone waits for the decoder, and for what the host must know of a batch
to put it together. An event tells the stream of the steps when the batch is there.

Shape suffixes: B clips.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dali_pipelines import ClipBatch
from dali_pipelines.prefetch import BackgroundIterator


@dataclass(frozen=True, kw_only=True)
class ReadyBatch:
    """What a step is given of its batch. It must live until the device has done the step.

    Its memory is of another stream than the step's, and would be used again there when it is let go of.
    """

    inputs: Mapping[str, Tensor]
    """By the names of `DebiasingModel.forward`, on the device."""
    sample_B: Tensor
    """int64, numbers of the clips in the data set."""
    skipped_count: int
    """As of `ClipBatch`."""
    made: torch.cuda.Event | None = None
    """Comes when the device has made it; None: it was made by the stream that uses it, or by the host."""

    def await_made(self) -> None:
        """Let the device, not the host, wait for the batch before what the current stream is given from now on."""
        if self.made is not None:
            self.made.wait()


@contextmanager
def made_ahead(
    batches: Iterable[ClipBatch], make: Callable[[int, ClipBatch], ReadyBatch], device: torch.device
) -> Iterator[Iterator[ReadyBatch]]:
    """What ``make`` makes of every batch, told its place among ``batches``; one is made ahead of the consumer.

    The block's end stops the thread. What goes wrong in it is raised where the batch is asked for.
    """
    with closing(BackgroundIterator(_made(batches, make, device), depth=1)) as ahead:
        yield ahead


def _made(
    batches: Iterable[ClipBatch], make: Callable[[int, ClipBatch], ReadyBatch], device: torch.device
) -> Generator[ReadyBatch, None, None]:
    if device.type != "cuda":
        for place, batch in enumerate(batches):
            yield make(place, batch)
        return
    with torch.cuda.stream(torch.cuda.Stream(device)):
        for place, batch in enumerate(batches):
            ready = make(place, batch)
            made = torch.cuda.Event()
            made.record()
            yield replace(ready, made=made)
