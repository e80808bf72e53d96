"""Read the pickles that others keep arrays in, without running what a pickle asks to be run.

A pickle is a program: it names functions of any module and calls them. Here it finds none. The few names with which
NumPy writes its arrays lead to stand-ins below that only keep what they are given; any other name ends the reading.
"""

import pickle
import re
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from shards.errors import UserError


def read_pickle(path: Path, option: str, wanted: str) -> Any:
    """What the pickle ``path`` holds, as of `unpickle`.

    Raises:
        UserError: the file cannot be read, is no pickle, or asks for anything else.
    """
    try:
        with path.open("rb") as file:
            return unpickle(file)
    except Exception as error:  # a damaged pickle can raise anything
        raise UserError(
            f"{option}: {path} is no pickle of text, numbers and arrays of numbers ({error}), and nothing else is read "
            f"from one; give {wanted}"
        ) from error


def unpickle(file: IO[bytes]) -> Any:
    """Read one pickle from where ``file`` stands: dictionaries, lists, tuples, text and numbers.

    Arrays are `PickledArray`s. Whatever a damaged or hostile pickle raises comes out.
    """
    return _ArrayUnpickler(file).load()


class _PickledType:
    """Stands for a ``np.dtype``: its code, such as 'f4', and its byte order."""

    __slots__ = ("code", "order")

    def __init__(self, code: object, *_: object) -> None:
        self.code = code
        self.order: object = "="

    def __setstate__(self, state: Any) -> None:
        self.order = state[1]


class PickledArray:
    """Stands for a ``np.ndarray``; ``content`` is its bytes, or its list of objects.

    ``np.asarray`` makes the array of it, a ValueError or TypeError where it is none of numbers or its content is
    inconsistent.
    """

    __slots__ = ("column_major", "content", "dtype", "shape")

    def __init__(self, shape: Any = None, dtype: Any = None, content: Any = None) -> None:
        self.shape, self.dtype, self.content, self.column_major = shape, dtype, content, False

    def __setstate__(self, state: Any) -> None:
        _, self.shape, self.dtype, self.column_major, self.content = state

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray:
        # Pickles of Python 2 hold the bytes as text.
        data = self.content.encode("latin1") if isinstance(self.content, str) else self.content
        if not isinstance(self.dtype, _PickledType) or not isinstance(data, bytes):
            raise TypeError("an array without a type or content")
        code, order = str(self.dtype.code), str(self.dtype.order)
        if not re.fullmatch(r"[fiub]\d\d?", code) or order not in ("<", ">", "|", "="):
            raise TypeError(f"an array of type {order}{code} where numbers are due")
        array = np.frombuffer(data, np.dtype(order + code)).reshape(self.shape, order="F" if self.column_major else "C")
        return array if dtype is None else array.astype(dtype)


def _new_array(*_: object) -> PickledArray:
    return PickledArray()


def _new_number(dtype: object, content: object) -> Any:
    """A number of NumPy's, as Python's: it may be the key of a dictionary."""
    return np.asarray(PickledArray((), dtype, content)).item()


def _new_scalar(dtype: object, content: object) -> Any:
    """A number or text of NumPy's, as Python's."""
    if isinstance(dtype, _PickledType) and isinstance(content, bytes) and re.fullmatch(r"U\d+", str(dtype.code)):
        return content.decode("utf-32-be" if dtype.order == ">" else "utf-32-le").rstrip("\0")
    return _new_number(dtype, content)


def _encode(text: str, _: object) -> bytes:
    """Protocol 2 of Python 3 writes bytes as text in Latin-1."""
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """Protocol 2 of Python 3 writes empty bytes as ``bytes()``."""
    return b""


SCALAR_STAND_INS: dict[tuple[str, str], Any] = {
    ("numpy", "dtype"): _PickledType,
    ("numpy.core.multiarray", "scalar"): _new_number,
    ("numpy._core.multiarray", "scalar"): _new_number,
}
"""What stands for the names, by module, with which NumPy pickles one number; it becomes one of Python's."""
_STAND_INS: dict[tuple[str, str], Any] = SCALAR_STAND_INS | {
    ("numpy.core.multiarray", "scalar"): _new_scalar,
    ("numpy._core.multiarray", "scalar"): _new_scalar,
    ("numpy", "ndarray"): "ndarray",  # an argument of _reconstruct, not used
    ("numpy.core.multiarray", "_reconstruct"): _new_array,
    ("numpy._core.multiarray", "_reconstruct"): _new_array,
    ("_codecs", "encode"): _encode,
    ("__builtin__", "bytes"): _no_bytes,
    ("builtins", "bytes"): _no_bytes,
}


class _ArrayUnpickler(pickle.Unpickler):
    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file, encoding="latin1")

    def find_class(self, module_name: str, global_name: str) -> Any:
        try:
            return _STAND_INS[module_name, global_name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module_name}.{global_name}") from None
