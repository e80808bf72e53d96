"""Every command's ``--help`` ends with an example, which its options accept; no program of the package is unknown."""

import pkgutil
import shlex
from dataclasses import replace
from importlib import import_module
from typing import Any

import pytest

import scenebias
import tools.trials
from scenebias.cli import PROGRAMS
from scenebias.commands import Command

SCRIPTS = (
    {"study": "tools/study.sh", "pack": "tools/make_shards.py", "inspect": "tools/inspect_shards.py"}
    | {name: f"tools/{name.replace('-', '_')}.py" for name in ("bench-pack", "bench-train")}
    | {"bench": "tools/bench_data.py", "gpu-check": "tools/gpu_check.sh"}
)
"""The scripts that are programs of the package."""
TRIALS = {
    f"tools/trials/{name}.py": f"tools.trials.{name}"
    for _, name, _ in pkgutil.iter_modules(tools.trials.__path__)
    if hasattr(import_module(f"tools.trials.{name}"), "COMMAND")
}
MODULES = {name: program.module for name, program in PROGRAMS.items()} | TRIALS
COMMANDS: dict[str, Command] = {name: import_module(module).COMMAND for name, module in MODULES.items()}


def test_every_module_that_has_a_program_is_known() -> None:
    names = (name for _, name, _ in pkgutil.walk_packages(scenebias.__path__, "scenebias."))
    modules = [import_module(name) for name in names if not name.endswith("__main__")]
    found = {module.__name__ for module in modules if isinstance(getattr(module, "COMMAND", None), Command)}
    assert found == {*MODULES.values()} - {*TRIALS.values()}


def test_every_trial_is_started_as_a_command() -> None:
    names = [name for _, name, _ in pkgutil.iter_modules(tools.trials.__path__, "tools.trials.")]
    with_main = {name for name in names if hasattr(import_module(name), "main")}
    assert with_main == {*TRIALS.values()} != set()


@pytest.mark.parametrize("name", COMMANDS)
def test_help_ends_with_the_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        COMMANDS[name].run(["--help"])
    assert stop.value.code == 0
    assert capsys.readouterr().out.endswith(f"\nexample:\n  {COMMANDS[name].example}\n")


@pytest.mark.parametrize("name", COMMANDS)
def test_the_example_is_of_this_command_and_its_options_are_accepted(name: str) -> None:
    program = COMMANDS[name]
    words = shlex.split(program.example or "")
    calls = {SCRIPTS.get(name, name), MODULES[name].removesuffix(".command")}
    place = next(place for place, word in enumerate(words) if word in calls)
    seen: list[Any] = []
    with pytest.raises(SystemExit) as stop:
        replace(program, main=seen.append, writes=()).run(words[place + 1 :])  # the folders of its files are not here
    assert stop.value.code == 0
    assert len(seen) == 1
