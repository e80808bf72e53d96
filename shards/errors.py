"""Exceptions for what a user can mend."""

from collections.abc import Callable, Iterable
from typing import TypeVar

PROBLEMS_SHOWN = 10

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class UserError(Exception):
    """A mistake in a file or an option: one clear sentence that names it and the remedy; or several of one kind.

    Commands print the sentence, of many the first `PROBLEMS_SHOWN` a line each, and exit with status 2, without a
    traceback. All sentences are in ``args``.
    """

    def __str__(self) -> str:
        shown = [str(problem) for problem in self.args[:PROBLEMS_SHOWN]]
        if len(self.args) > PROBLEMS_SHOWN:
            shown.append(f"and {len(self.args) - PROBLEMS_SHOWN} more like these")
        return "\n".join(shown)


class DamagedClipError(UserError):
    """One clip cannot be read or decoded; the others may be sound."""


def refuse(problems: Iterable[str]) -> None:
    """Raise one UserError of all ``problems``, if there are any."""
    if found := list(problems):
        raise UserError(*found)


def each(function: Callable[[_Item], _Result], items: Iterable[_Item]) -> list[_Result]:
    """Return ``function(item)`` of every item; where some raise UserErrors, raise one of all their problems."""
    results: list[_Result] = []
    problems: list[str] = []
    for item in items:
        try:
            results.append(function(item))
        except UserError as error:
            problems += error.args
    refuse(problems)
    return results
