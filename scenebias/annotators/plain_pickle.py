"""Read pickles of plain values, without running what a pickle asks to be run.

A pickle is a program: it names functions of any module and calls them. Here every name ends the reading.
"""

import pickle
from pathlib import Path
from typing import Any

from shards.errors import UserError


def read_plain_pickle(path: Path) -> Any:
    """What the pickle ``path`` holds: dictionaries, lists, tuples, sets, text, bytes, numbers, truth values, None.

    Raises UserError where it cannot be read, is no pickle, or asks for anything else.
    """
    try:
        with path.open("rb") as file:
            return _PlainUnpickler(file).load()
    except Exception as error:  # a damaged pickle can raise anything
        raise UserError(
            f"{path}: no pickle of lists, dictionaries, text and numbers ({error}); nothing else is read from one"
        ) from error


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str) -> Any:
        raise pickle.UnpicklingError(f"it asks for {module_name}.{global_name}")
