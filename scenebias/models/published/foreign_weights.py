"""Weight files that other programs wrote: nothing but tensors and plain values is unpickled, and all of it must fit.

Checkpoints often hold a best accuracy or the like as a number of NumPy's, which is read as one of Python's.

``origin`` says where the weights come from and ``remedy`` what to give instead, for the messages of errors.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from shards.errors import UserError, system_fault
from shards.sources.pickles import SCALAR_STAND_INS

# They stand in for NumPy's own functions, which are not called.
_NUMPY_NUMBERS: list[Any] = [(stand_in, ".".join(name)) for name, stand_in in SCALAR_STAND_INS.items()]


def read_file(path: Path, *, origin: str, remedy: str) -> Any:
    """What a file in PyTorch's format, or a ``.safetensors``, holds, on the CPU.

    Raises:
        UserError: the file is missing, damaged or holds more than tensors and plain values.
    """
    if not path.is_file():
        raise UserError(f"{origin}: no such file; {remedy}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with torch.serialization.safe_globals(_NUMPY_NUMBERS):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch meets a damaged file with errors of a dozen types
        if foreign := re.search(r"GLOBAL (\S+)", str(error)):
            raise UserError(
                f"{origin}: holds an object of {foreign[1]}, and only tensors are unpickled; where you "
                f"trust it, convert it with torch.save(torch.load('{path.name}', weights_only=False).state_dict(), "
                f"'converted.pth'), or {remedy}"
            ) from error
        if fault := system_fault(error):
            raise UserError(f"{origin}: cannot be read ({fault}); mend that") from error
        raise UserError(f"{origin}: no file of weights, or a damaged one ({first_line(error)}); {remedy}") from error


def state_dict_in(content: Any, *, origin: str, remedy: str) -> dict[str, Tensor]:
    """The state dict that ``content`` is, or that it holds as ``state_dict``, without the ``module.`` of DataParallel.

    Raises:
        UserError: there is none.
    """
    if isinstance(content, dict):
        content = content.get("state_dict", content)
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise UserError(f"{origin}: holds no state dict; {remedy}")
    return {str(name).removeprefix("module."): tensor for name, tensor in content.items()}


def load_all(tensors: Mapping[str, Tensor], model: nn.Module, *, name: str, origin: str, remedy: str) -> None:
    """Load all of the state of ``model``, called ``name``, from ``tensors``.

    Raises:
        UserError: they do not fit in name and shape, or are not all finite.
    """
    misfits = _load(tensors, model)
    if misfits:
        raise UserError(f"{origin}: {len(misfits)} tensors do not fit {name} (first: {misfits[0]}); {remedy}")
    if not all(tensor.isfinite().all() for tensor in model.state_dict().values()):
        raise UserError(f"{origin}: its weights are not all finite numbers; {remedy}")


def first_line(error: Exception) -> str:
    """The first line of an error's message, or its type where it has none."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def _load(tensors: Mapping[str, Tensor], model: nn.Module) -> list[str]:
    """Load ``tensors``; return what does not fit."""
    try:
        # It also knows the names that older versions of the layers gave their weights.
        misfits = model.load_state_dict(dict(tensors), strict=False)
    except RuntimeError as error:  # shapes: a heading, then one line each
        return [line.strip() for line in str(error).splitlines()[1:]]
    missing = [f"{name} is missing" for name in misfits.missing_keys]
    return missing + [f"{name} is unknown" for name in misfits.unexpected_keys]
