"""Exceptions for what a user can mend."""

import errno
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Faults of the system that room on the disk mends."""

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


def system_fault(error: BaseException) -> str | None:
    """What the system said, such as "Permission denied"; None for an error about what a file holds.

    EINVAL is of the latter: a damaged file made somebody ask for a place that it does not have.
    """
    return error.strerror if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL) else None


def fault_while_writing(error: OSError, out: Path, option: str) -> str | None:
    """What to say of an error that came up while ``out``, the value of ``option``, was made: where it lies, and what.

    None where the system has said nothing, so that it is a fault of ours. A file that it names is the culprit; where
    it names none, ``out`` is, if nothing but a write ends so.
    """
    fault = system_fault(error)
    if fault is None:
        return None
    if error.filename is None:
        written = error.errno in (*NO_ROOM, errno.EROFS, errno.EIO)
        return f"{option} {out}: cannot be written ({fault})" if written else fault
    named, final = Path(os.fsdecode(error.filename)).absolute(), out.resolve()
    # Beside the folder, `.NAME.packing` and the like.
    beside = any(str(named).startswith(str(final.with_name(f"{dot}{final.name}"))) for dot in ("", "."))
    if beside or final.is_relative_to(named):
        return f"{option} {out}: cannot be written ({fault})"
    return f"{os.fsdecode(error.filename)}: {fault}"


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
