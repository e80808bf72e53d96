"""Random numbers as a pure function of their keys: no state, no order of drawing, any array of keys at once.

A draw is named by integers, for example ``uniform(seed, epoch, sample_ids, CROP)``. Keys broadcast like NumPy arrays,
and a vector of draws equals the same draws made one by one, so nothing depends on batches, workers or ranks.
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shards.checks import require_at_least

Key = int | np.integer | NDArray[np.integer]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_UINT64_MASK = 2**64 - 1


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's finaliser (Steele, Lea and Flood, OOPSLA 2014), a bijection of 64-bit words."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _to_uint64(key: Key) -> NDArray[np.uint64]:
    if isinstance(key, int):
        return np.asarray(key & _UINT64_MASK, dtype=np.uint64)
    array = np.asarray(key)
    if not np.issubdtype(array.dtype, np.integer):
        raise TypeError(f"keys must be integers, not {array.dtype}")
    return array.astype(np.uint64)


def hash_uint64(*keys: Key) -> NDArray[np.uint64]:
    """Hash integer keys of any sign to 64 well-mixed bits; the result has the keys' broadcast shape."""
    with np.errstate(over="ignore"):  # arithmetic is modulo 2**64 on purpose
        state = _to_uint64(len(keys))
        for key in keys:
            state = _mix(state + _GOLDEN + _to_uint64(key))
    return np.asarray(state)


def uniform(*keys: Key) -> NDArray[np.float64]:
    """Uniform numbers in [0, 1), multiples of 2**-53."""
    return np.asarray((hash_uint64(*keys) >> np.uint64(11)) * 2.0**-53)


def randint(high: int | NDArray[np.integer], *keys: Key) -> NDArray[np.int64]:
    """Uniform integers in [0, high); ``high`` broadcasts with the keys and is at least 1 everywhere."""
    if np.any(np.asarray(high) < 1):
        raise ValueError(f"high must be at least 1, got {high}")
    return np.asarray(uniform(*keys) * high).astype(np.int64)


class Permutation:
    """A random-looking bijection of ``range(size)`` that is evaluated at single points, in constant memory.

    A Feistel network over the rectangle of rows x columns that just holds ``size`` numbers; the few that leave the
    range walk on until they are back in it (Black and Rogaway, "Ciphers with arbitrary finite domains", 2002).
    """

    _ROUNDS = 8

    def __init__(self, size: int, key: Key) -> None:
        require_at_least(1, size=size)
        self.size = size
        self._columns = math.isqrt(size - 1) + 1
        self._rows = -(-size // self._columns)
        self._round_keys = hash_uint64(key, np.arange(self._ROUNDS))

    def __call__(self, indices: ArrayLike) -> NDArray[np.int64]:
        """Map indices in ``range(size)``, of any shape."""
        permuted = np.array(indices, dtype=np.int64)
        if np.any((permuted < 0) | (permuted >= self.size)):
            raise ValueError(f"indices must be in range({self.size})")
        outside = np.ones(permuted.shape, dtype=bool)
        while outside.any():
            permuted[outside] = self._encrypt(permuted[outside])
            outside = permuted >= self.size
        return permuted

    def _encrypt(self, x: NDArray[np.int64]) -> NDArray[np.int64]:
        row, column = np.divmod(x, self._columns)
        for even_key, odd_key in self._round_keys.reshape(-1, 2):
            row = (row + randint(self._rows, even_key, column)) % self._rows
            column = (column + randint(self._columns, odd_key, row)) % self._columns
        return row * self._columns + column
