"""Commands without processes of their own: a new one takes seconds to import PyTorch and DALI."""

import runpy
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO

import pytest

from scenebias.commands import Command
from tests.project import ROOT


@dataclass(frozen=True)
class Result:
    """What became of a command."""

    returncode: int
    stdout: str
    stderr: str


def run_here(command: Command, *arguments: object) -> Result:
    """What ``command`` does with these arguments, in this process."""
    return _result_of(lambda: command.run([str(argument) for argument in arguments]))


def run_tool(name: str, *arguments: object) -> Result:
    """What ``python tools/name.py`` does with these arguments, in this process."""
    path = str(ROOT / "tools" / f"{name}.py")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [path, *map(str, arguments)])
        return _result_of(lambda: runpy.run_path(path, run_name="__main__"))


def _result_of(run: Callable[[], object]) -> Result:
    with redirect_stdout(StringIO()) as stdout, redirect_stderr(StringIO()) as stderr:
        with pytest.raises(SystemExit) as leaving:
            run()
    assert isinstance(leaving.value.code, int)
    return Result(leaving.value.code, stdout.getvalue(), stderr.getvalue())
