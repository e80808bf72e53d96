"""What must hold of every sentence that advises: its options and commands exist, for those who read it."""

import ast
import re
import shlex
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

import pytest

from scenebias.annotators import open_mask_source
from scenebias.cli import PROGRAMS
from scenebias.commands import Command
from scenebias.option_names import _dataclasses, _option_names, option_name
from shards.errors import UserError
from tests.project import ROOT

PACKAGES = ("shards", "dali_pipelines", "scenebias")
OF_TORCHRUN = {"--nproc_per_node", "--nnodes", "--standalone", "--max-restarts"}
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9_-]*")
COMMAND = re.compile(
    r"(?:python -m (scenebias[\w.]*)|(tools/\w+\.(?:py|sh))|(?<![\w./-])scenebias ([a-z][a-z-]*))([^;,()]*)"
)
PLACEHOLDER = "X"


@dataclass(frozen=True)
class Sentence:
    """A text of the program that is no docstring."""

    module: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.module}:{self.line}: {self.text}"


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


SOURCES = {module_name(path): path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))}


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(SOURCES[module].read_text())


def text_of(node: ast.expr) -> str | None:
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part) or PLACEHOLDER for part in node.values)
    return None


def sentences(module: str) -> Iterator[Sentence]:
    """Whole texts, f-strings with a placeholder where a value stands, without those that document."""
    nodes = [*ast.walk(tree(module))]
    documents = {id(node.value) for node in nodes if isinstance(node, ast.Expr)} | {
        id(part) for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values
    }
    for node in nodes:
        if isinstance(node, ast.Constant | ast.JoinedStr) and id(node) not in documents:
            text = text_of(node)
            if text and " " in text.strip():
                yield Sentence(module, node.lineno, text)


STYLE_SHEETS = "scenebias.reports.html"  # whose variables look like options
SENTENCES = [sentence for module in SOURCES if module != STYLE_SHEETS for sentence in sentences(module)]


@cache
def imports(module: str) -> frozenset[str]:
    """The modules of the project that a module imports, wherever in it."""
    found = set()
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{name.name}" for name in node.names)}
    return frozenset(found & SOURCES.keys())


@cache
def reached(module: str) -> frozenset[str]:
    """The modules that a program may run, its own among them."""
    seen, waiting = set(), {module, "scenebias.commands"}
    while waiting:
        name = waiting.pop()
        seen.add(name)
        waiting |= imports(name) - seen
    return frozenset(seen)


PROGRAM_OF_MODULE = {program.module: name for name, program in PROGRAMS.items()}
PROGRAM_OF_TOOL = {
    "tools/make_shards.py": "pack", "tools/inspect_shards.py": "inspect", "tools/bench_data.py": "bench",
    "tools/bench_pack.py": "bench-pack", "tools/bench_train.py": "bench-train", "tools/study.sh": "study",
    "tools/demo.sh": "demo", "tools/gpu_check.sh": "gpu-check",
}  # fmt: skip


@cache
def options(name: str) -> frozenset[str]:
    """The options of a program, those of its parts and subcommands among them."""
    program: Command = import_module(PROGRAMS[name].module).COMMAND
    fields = {option for kind in _dataclasses(program.command_line) for option in _option_names(kind)}
    spelt = {option_name(field) for field in fields}
    return frozenset(spelt | {option.replace("--", "--no-", 1) for option in spelt} | {"--gpus", "--help"})


@cache
def choices_of(name: str) -> dict[str, set[str]]:
    """By option of a program, the values that it takes in any of its subcommands, where these are a few."""
    choices: defaultdict[str, set[str]] = defaultdict(set)
    for kind in _dataclasses(import_module(PROGRAMS[name].module).COMMAND.command_line):
        for field, hint in get_type_hints(kind).items():
            for part in (hint, *get_args(hint)):
                if get_origin(part) is Literal:
                    choices[option_name(field)] |= set(get_args(part))
    return choices


PROSE = {"and", "as", "at", "for", "goes", "in", "is", "must", "needs", "of", "or", "takes", "to", "with"}
"""Words that follow an option in a sentence without being its value."""


def programs_of(sentence: Sentence) -> list[str]:
    """The programs that can say it, and those that it speaks of."""
    if sentence.module == "scenebias.cli":  # which says what each of them does
        return [*PROGRAMS]
    can_say = [name for name, program in PROGRAMS.items() if sentence.module in reached(program.module)]
    called = [name for name in map(named_program, COMMAND.finditer(sentence.text)) if name]
    packing = ["pack"] if re.search(r"\bpack(ed|ing)?\b|make_shards", sentence.text) else []
    return [*can_say, *called, *packing]


def named_program(match: re.Match[str]) -> str | None:
    """The program that a text calls."""
    module, tool, name, _ = match.groups()
    if tool:
        return PROGRAM_OF_TOOL.get(tool)
    if name:
        return name if name in PROGRAMS else None
    for candidate in (module, f"{module}.command"):
        if candidate in PROGRAM_OF_MODULE:
            return PROGRAM_OF_MODULE[candidate]
    return None


ADVICE = [s for s in SENTENCES if OPTION.search(s.text)]
CALLS = [s for s in SENTENCES if COMMAND.search(s.text)]


def test_there_is_advice_to_check():
    assert len(ADVICE) > 60
    assert len(CALLS) > 20


@pytest.mark.parametrize("sentence", ADVICE, ids=lambda s: f"{s.module}:{s.line}")
def test_an_option_that_is_named_exists_in_a_program_that_can_say_so(sentence):
    programs = programs_of(sentence)
    for option in OPTION.findall(sentence.text):
        if option not in OF_TORCHRUN and option != "--version":
            assert any(option in options(name) for name in programs), f"{option} in {sentence}"


@pytest.mark.parametrize("sentence", ADVICE, ids=lambda s: f"{s.module}:{s.line}")
def test_a_value_that_is_advised_is_one_that_the_option_takes(sentence):
    for option, word in re.findall(f"({OPTION.pattern})" + r" ([a-z][a-z0-9_]*)", sentence.text):
        choices = {value for name in programs_of(sentence) for value in choices_of(name).get(option, ())}
        if choices and word not in PROSE:
            assert word in choices, f"{option} {word} in {sentence}"


@pytest.mark.parametrize("sentence", CALLS, ids=lambda s: f"{s.module}:{s.line}")
def test_a_command_that_is_named_exists_and_knows_its_options(sentence):
    for match in COMMAND.finditer(sentence.text):
        module, tool, _, rest = match.groups()
        if tool:
            assert (ROOT / tool).is_file(), sentence
        name = named_program(match)
        if name is None:
            assert tool or (match[3] is None and module in SOURCES), sentence
            continue
        for option in OPTION.findall(rest):
            assert option in options(name), f"{option} of {name} in {sentence}"
        shlex.split(rest.replace("'", ""))


def test_the_command_that_converts_detections_can_be_copied(tmp_path):
    file = tmp_path / "my detections.npy"
    file.write_bytes(b"")
    with pytest.raises(UserError) as refused:
        open_mask_source(file, ())
    line = re.search(r"by: python -m ([\w.]+) (.*); then give --masks FOLDER", str(refused.value))
    seen = []
    with pytest.raises(SystemExit):
        replace(import_module(line[1]).COMMAND, main=seen.append).run(shlex.split(line[2]))
    assert file in vars(seen[0]).values()
