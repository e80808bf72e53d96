"""Every command's ``--help`` ends with an example, which its options accept."""

import ast
import importlib
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scenebias import commands

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted(
    path.relative_to(ROOT)
    for folder in ("scenebias", "tools")
    for path in (ROOT / folder).rglob("*.py")
    if 'if __name__ == "__main__"' in (source := path.read_text(encoding="utf-8")) and "run_command(" in source
)


@pytest.fixture(params=SCRIPTS, ids=str)
def command(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Callable, Any, dict]:
    """A command's path, its main function, its options, and what else it gives to `run_command`."""
    path = request.param
    calls: list[tuple[tuple, dict]] = []
    module = importlib.import_module(".".join(path.with_suffix("").parts))
    with monkeypatch.context() as patched:
        patched.setattr(commands, "run_command", lambda *arguments, **options: calls.append((arguments, options)))
        start = ast.parse((ROOT / path).read_text(encoding="utf-8")).body[-1]
        assert isinstance(start, ast.If)
        code = compile(ast.Module(start.body, type_ignores=[]), str(path), "exec")
        exec(code, vars(module) | {"run_command": commands.run_command})
    ((main, config_type), options) = calls[0]
    return path, main, config_type, options


def test_help_ends_with_the_example(
    command: tuple[Path, Callable, Any, dict], capsys: pytest.CaptureFixture[str]
) -> None:
    _, main, config_type, options = command
    with pytest.raises(SystemExit) as stop:
        commands.run_command(main, config_type, ["--help"], **options)
    assert stop.value.code == 0
    assert capsys.readouterr().out.endswith(f"\nexample:\n  {options['example']}\n")


def test_the_example_is_of_this_command_and_its_options_are_accepted(
    command: tuple[Path, Callable, Any, dict],
) -> None:
    path, _, config_type, options = command
    words = shlex.split(options["example"])
    names = {str(path), ".".join(path.with_suffix("").parts).removesuffix(".__main__"), f"tools/{path.parent.name}.sh"}
    place = next(place for place, word in enumerate(words) if word in names)
    seen: list[Any] = []
    with pytest.raises(SystemExit) as stop:
        commands.run_command(seen.append, config_type, words[place + 1 :], recipes=options.get("recipes"))
    assert stop.value.code == 0
    assert len(seen) == 1
