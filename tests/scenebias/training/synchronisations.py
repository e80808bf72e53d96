"""Counts where a GPU's host would wait for it, while the same code runs on a CPU.

There all tensors lie in one memory, so that is told by how they came to be. What `torch.tensor` and `torch.from_numpy`
make lies on the host, unless it was sent to the device; what was fetched by ``Tensor.cpu()`` or ``Tensor.to("cpu")``
does, too; all else lies on the device, which the code under test knows by a `torch.device`, never by a string.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

READ_BY_KERNELS = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "_unique2", "unique_dim")
"""Operators of torch whose results, or whose shapes, the host must know."""
READ_BY_METHODS = (Tensor.tolist, Tensor.numpy, Tensor.__array__)


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """What made the host wait in this thread in the block, by the name of the operation."""
    found: Counter[str] = Counter()
    from_numpy, thread = torch.from_numpy, threading.get_ident()

    def noted_from_numpy(values: NDArray[Any]) -> Tensor:
        made = from_numpy(values)
        return _on_host(made) if threading.get_ident() == thread else made

    with (
        patch.object(torch, "from_numpy", noted_from_numpy),
        _Methods(found),
        _Kernels(found),
    ):
        yield found


def _on_host(tensor: Tensor) -> Tensor:
    tensor.lies_on_host = True  # type: ignore[attr-defined]
    return tensor


def _lies_on_host(tensor: Any) -> bool:
    return getattr(tensor, "lies_on_host", False)


class _Kernels(TorchDispatchMode):
    """Sees what the Python interface and torch's own code ask of the device."""

    def __init__(self, found: Counter[str]) -> None:
        super().__init__()
        self._found = found

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = func.overloadpacket.__name__
        if (name in READ_BY_KERNELS and not _lies_on_host(args[0])) or (
            name in ("index", "index_put", "index_put_")
            and any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1])
        ):
            self._found[name] += 1
        return func(*args, **kwargs or {})


class _Methods(TorchFunctionMode):
    """Sees what is copied between host and device."""

    def __init__(self, found: Counter[str]) -> None:
        super().__init__()
        self._found = found

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.tensor:
            made = func(*args, **kwargs)
            if kwargs.get("device") is None:
                return _on_host(made)
            self._found["torch.tensor"] += 1
            return made
        if func in READ_BY_METHODS and not _lies_on_host(args[0]):
            self._found[func.__name__] += 1
        if func is Tensor.cpu or (func is Tensor.to and "cpu" in (*args[1:], kwargs.get("device"))):
            if _lies_on_host(args[0]):
                return args[0]
            self._found["to host"] += 1
            return _on_host(args[0].detach().clone())
        if func is Tensor.to and _lies_on_host(args[0]):
            if not kwargs.get("non_blocking", False):
                self._found["to device"] += 1
            return func(*args, **kwargs).clone()
        return func(*args, **kwargs)
