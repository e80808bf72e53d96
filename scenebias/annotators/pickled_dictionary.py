"""Read the dictionaries that others saved with ``np.save``, which writes a pickle, without running it."""

from pathlib import Path
from typing import Any

from scenebias.annotators.npy_header import read_npy_header
from shards.errors import UserError
from shards.sources.pickles import PickledArray, unpickle


def read_pickled_dictionary(path: Path) -> dict[Any, Any]:
    """Return the dictionary in the ``.npy`` file ``path``.

    What it holds are dictionaries, lists, text and numbers; arrays are objects of which ``np.asarray`` makes arrays (a
    ValueError or TypeError where their content is inconsistent).

    Raises:
        UserError: the file cannot be read, holds something else, or asks for anything but arrays of numbers.
    """
    try:
        with path.open("rb") as file:
            shape, dtype = read_npy_header(file)
            if shape != () or not dtype.hasobject:
                raise ValueError(f"an array of {dtype} {shape}")
            value = unpickle(file)
    except Exception as error:  # a damaged pickle can raise anything
        raise UserError(
            f"{path}: no dictionary saved with np.save ({error}); only one of text, numbers and arrays of numbers is "
            "read from a pickle, so write it anew with nothing else in it"
        ) from error
    content = value.content if isinstance(value, PickledArray) else None
    if not isinstance(content, list) or len(content) != 1 or not isinstance(content[0], dict):
        raise UserError(f"{path}: no dictionary; give the file as np.save wrote it")
    return content[0]
