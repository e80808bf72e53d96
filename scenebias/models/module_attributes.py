"""Attributes of modules that are others for a while, such as whether they train."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import nn

Attributes = Mapping[nn.Module, Mapping[str, object]]
"""Values by module, then by the name of the attribute."""


@contextmanager
def attributes_set(values: Attributes) -> Iterator[None]:
    """Each module with these attributes in the block, and as before after it, also after an error."""

    def assign(values: Attributes) -> None:
        for module, of_module in values.items():
            for name, value in of_module.items():
                setattr(module, name, value)

    before = {module: {name: getattr(module, name) for name in of_module} for module, of_module in values.items()}
    assign(values)
    try:
        yield
    finally:
        assign(before)
