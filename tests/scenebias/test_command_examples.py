"""Every command's ``--help`` ends with an example, which its options accept."""

import shlex
from dataclasses import replace
from importlib import import_module
from typing import Any

import pytest

from scenebias.cli import PROGRAMS, command
from scenebias.commands import Command
from tests.project import ROOT

SCRIPTS = (
    {"study": "tools/study.sh", "pack": "tools/make_shards.py", "inspect": "tools/inspect_shards.py"}
    | {name: f"tools/{name.replace('-', '_')}.py" for name in ("bench-pack", "bench-train")}
    | {"bench": "tools/bench_data.py", "completion": "completion"}
)
"""What the examples of these call; those of the others call their modules."""
MODULES = {name: program.module for name, program in PROGRAMS.items()}
COMMANDS = {name: command(name) for name in MODULES} | {"demo results": import_module("scenebias.demo.results").COMMAND}


def test_every_module_that_starts_a_program_is_known() -> None:
    ends = ("COMMAND.run()\n", "COMMAND.run()")
    found = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in (ROOT / "scenebias").rglob("*.py")
        if path.read_text(encoding="utf-8").endswith(ends) and path.name != "__main__.py"
    }
    assert found <= {*MODULES.values(), "scenebias.demo.results"}


@pytest.mark.parametrize("name", COMMANDS)
def test_help_ends_with_the_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        COMMANDS[name].run(["--help"])
    assert stop.value.code == 0
    assert capsys.readouterr().out.endswith(f"\nexample:\n  {COMMANDS[name].example}\n")


@pytest.mark.parametrize("name", COMMANDS)
def test_the_example_is_of_this_command_and_its_options_are_accepted(name: str) -> None:
    program: Command = COMMANDS[name]
    words = shlex.split(program.example or "")
    module = MODULES.get(name, "scenebias.demo.results").removesuffix(".command")
    place = words.index(SCRIPTS.get(name, module))
    seen: list[Any] = []
    with pytest.raises(SystemExit) as stop:
        replace(program, main=seen.append).run(words[place + 1 :])
    assert stop.value.code == 0
    assert len(seen) == 1
