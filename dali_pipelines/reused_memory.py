"""Memory of batches, used again: the kernel zeroes every page of fresh memory, which can take as long as a decode."""

import math
import weakref

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class ReusedMemory:
    """Hands out tensors whose memory comes back when nothing looks into it any more; ``kept_blocks`` wait for the next.

    ``pinned``: the memory is locked, so that a GPU copies from it by itself.

    Memory comes back from any thread; one thread at a time asks for it.
    """

    def __init__(self, kept_blocks: int, *, pinned: bool = False) -> None:
        self._kept_blocks = kept_blocks
        self._pinned = pinned
        self._free: list[NDArray[np.uint8]] = []

    def empty(self, shape: tuple[int, ...]) -> Tensor:
        """A uint8 tensor of ``shape`` with any content."""
        size = math.prod(shape)
        block = self._free.pop() if self._free else self._fresh(size)
        if block.size < size:
            block = self._fresh(size)
        lent = block[:size]
        # The tensor and all its views hold ``lent``, and ``lent`` alone.
        weakref.finalize(lent, self._take_back, block).atexit = False
        return torch.from_numpy(lent).view(shape)

    def _fresh(self, size: int) -> NDArray[np.uint8]:
        return torch.empty(size, dtype=torch.uint8, pin_memory=self._pinned).numpy()

    def _take_back(self, block: NDArray[np.uint8]) -> None:
        if len(self._free) < self._kept_blocks:
            self._free.append(block)
