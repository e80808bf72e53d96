"""What a ``.npy`` file says of its array before the array itself: enough to refuse it unread."""

from typing import IO

import numpy as np


def read_npy_header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    """Return the shape and the type of the array in ``file``, which is left at the array's first byte.

    Raises:
        ValueError: not a ``.npy`` file of version 1 or 2.
    """
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    elif version == (2, 0):
        shape, _, dtype = np.lib.format.read_array_header_2_0(file)
    else:
        raise ValueError(f"version {version} of the .npy format is not read")
    return shape, dtype
