"""Telling that a GPU's memory does not suffice, whoever asked for it."""

import re

import torch

OF_DALI = re.compile(
    r"Can't allocate \d+ bytes on device|CUDA allocation failed|cudaErrorMemoryAllocation|out of memory"
)
"""What DALI says where it gets no memory, in a RuntimeError of its operator."""


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether ``error`` is of torch or DALI, which got no memory of a GPU.

    DALI takes its own beside torch's, so that either of them may be the one for which nothing is left.
    """
    return isinstance(error, torch.OutOfMemoryError) or OF_DALI.search(str(error)) is not None
