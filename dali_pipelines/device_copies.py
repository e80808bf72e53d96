"""Batches that were made on the CPU, brought to a GPU while it works on those before."""

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, cuda

Batch = TypeVar("Batch")
"""A dataclass, some of whose fields are tensors."""


@dataclass(frozen=True)
class Copy(Generic[Batch]):
    """A batch on the GPU, complete once ``done`` is."""

    batch: Batch
    done: cuda.Event


class DeviceCopies(Generic[Batch]):
    """Copies batches to the GPU ``device`` on a stream of its own, from pinned memory; nobody waits for a copy.

    At most ``depth`` copies are under way. What is copied is kept until its copy is done.
    """

    def __init__(self, device: torch.device, depth: int) -> None:
        self._device = device
        self._depth = depth
        self._stream = cuda.Stream(device)

    def started(self, batches: Iterable[Batch]) -> Generator[Copy[Batch], None, None]:
        """Start to copy each of ``batches``; may run in another thread than `received`."""
        under_way: deque[tuple[cuda.Event, dict[str, Tensor]]] = deque()
        try:
            for batch in batches:
                source = {name: value if value.is_pinned() else value.pin_memory() for name, value in _tensors(batch)}
                with cuda.stream(self._stream):
                    copied: Any = {name: value.to(self._device, non_blocking=True) for name, value in source.items()}
                    done = self._stream.record_event()
                under_way.append((done, source))
                del source
                while len(under_way) > self._depth or (under_way and under_way[0][0].query()):
                    under_way.popleft()[0].synchronize()
                yield Copy(replace(batch, **copied), done)  # type: ignore[type-var]
        finally:  # another iteration writes into the same memory
            for done, _ in under_way:
                done.synchronize()

    def received(self, copies: Iterable[Copy[Batch]]) -> Iterator[Batch]:
        """Hand the copies over to the current stream of whoever takes them, which waits for each."""
        for copy in copies:
            stream = cuda.current_stream(self._device)
            stream.wait_event(copy.done)
            for _, value in _tensors(copy.batch):
                value.record_stream(stream)  # or its memory could be used anew before that stream is through with it
            yield copy.batch


def _tensors(batch: Any) -> Iterator[tuple[str, Tensor]]:
    values = ((field.name, getattr(batch, field.name)) for field in fields(batch))
    return ((name, value) for name, value in values if isinstance(value, Tensor))
