"""Mistakes in options, told in the words of the command line.

Configurations check themselves and name their fields (``learning_rate must be positive``), as those who write Python
know them. Those who give options know ``--learning-rate``.
"""

import dataclasses
import math
import re
import typing
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Annotated, Any

import tyro

from shards.errors import UserError

_CHECK = "__post_init__"
_POSITIONAL = typing.get_args(tyro.conf.Positional[int])[1]


@contextmanager
def refused_in_options(options: Any) -> Iterator[None]:
    """While ``options``, a dataclass or a union of such, are read: a field's ValueError becomes a UserError that names
    the option."""
    classes = set(_dataclasses(options))
    names = {name for kind in classes for name in _option_names(kind)}
    with ExitStack() as patches:
        for base in {base for kind in classes for base in kind.__mro__ if _CHECK in vars(base)}:
            check = vars(base)[_CHECK]
            setattr(base, _CHECK, _naming(check, names))
            patches.callback(setattr, base, _CHECK, check)
        yield


def refuse_nan(config: Any) -> None:
    """UserError where an option, of a dataclass or of one in it, is not a number: no bound refuses it."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            refuse_nan(value)
        elif any(isinstance(part, float) and math.isnan(part) for part in (value if _is_several(value) else [value])):
            raise UserError(f"{option_name(field.name)} must be a number, got {value}")


def refuse_repeated(arguments: Sequence[str], options: Any) -> None:
    """UserError where an option that takes several values is given twice: those of the first would be lost.

    Of other options the last counts, as those who add one to a line that they have from elsewhere expect.
    """
    names = Counter(word.partition("=")[0].replace("_", "-") for word in arguments if word.startswith("--"))
    for name in _several_valued(options):
        if names[name] > 1:
            raise UserError(
                f"{name} is given {names[name]} times, and only the last would count: give all values after one {name}"
            )


def option_name(field: str) -> str:
    """What the command line calls a field."""
    return "--" + field.replace("_", "-")


def _naming(check: Callable[[Any], None], names: set[str]) -> Callable[[Any], None]:
    def check_and_name(self: Any) -> None:
        try:
            check(self)
        except ValueError as error:
            raise UserError(in_options(str(error), names)) from error

    return check_and_name


def in_options(message: str, names: set[str]) -> str:
    """``message``, where fields of these names are called as options: at its start, or wherever they have a "_"."""

    def rename(found: re.Match[str]) -> str:
        word = found[0]
        is_meant = word in names and (found.start() == 0 or "_" in word)
        return option_name(word) if is_meant else word

    return re.sub(r"(?<![\w\-'\"./])[a-z]\w*", rename, message)


def _is_several(value: Any) -> bool:
    return isinstance(value, tuple | list)


def _dataclasses(annotation: Any) -> Iterator[type]:
    """The dataclasses in an annotation, and those of their fields."""
    if dataclasses.is_dataclass(annotation) and isinstance(annotation, type):
        yield annotation
        for hint in typing.get_type_hints(annotation, include_extras=True).values():
            yield from _dataclasses(hint)
    for argument in typing.get_args(annotation):
        yield from _dataclasses(argument)


def _several_valued(options: Any) -> Iterator[str]:
    """The options that take several values."""
    for kind in set(_dataclasses(options)):
        for field, hint in typing.get_type_hints(kind).items():
            if any(typing.get_origin(part) in (tuple, list) for part in (hint, *typing.get_args(hint))):
                yield option_name(field)


def _option_names(kind: type) -> Iterator[str]:
    """The names of a dataclass's options, with "_"; those of arguments without a name are left out."""
    hints = typing.get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(kind):
        hint = hints[field.name]
        metadata = hint.__metadata__ if typing.get_origin(hint) is Annotated else ()
        if _POSITIONAL not in metadata:
            yield next((item.name for item in metadata if getattr(item, "name", None)), field.name)
