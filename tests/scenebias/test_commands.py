"""Every command: mistakes of the user's in one sentence, exit status 2, no traceback."""

import inspect
import io
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
import tyro

from scenebias.cli import PROGRAMS, command
from scenebias.commands import Command, given_value
from scenebias.option_names import _dataclasses
from shards.errors import UserError


@dataclass(frozen=True)
class Inner:
    scale: float = 1.0

    def __post_init__(self) -> None:
        if self.scale <= 0:
            raise ValueError(f"scale must be positive, got {self.scale}")


@dataclass(frozen=True)
class Options:
    name: str
    inner: Inner = field(default_factory=Inner)


def exit_status(arguments: list[str], main=lambda options: None) -> int:
    with pytest.raises(SystemExit) as stop:
        Command(main=main, options=Options).run(arguments)
    return stop.value.code


def test_options_of_nested_dataclasses_have_no_prefix() -> None:
    seen = []
    assert exit_status(["--name", "a", "--scale", "2"], seen.append) == 0
    assert seen == [Options("a", Inner(2.0))]


def test_a_user_error_is_printed_as_one_sentence_and_ends_with_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    def main(options: Options) -> None:
        raise UserError(f"no such thing: {options.name}; choose [another]")

    assert exit_status(["--name", "x"], main) == 2
    assert capsys.readouterr().err == "error: no such thing: x; choose [another]\n"


def print_much(options: Options) -> None:
    for _ in range(20_000):  # more than a buffer holds
        print(options.name)


@pytest.mark.parametrize("main", [print_much, lambda options: print(options.name)])
def test_an_output_that_cannot_be_written_is_told_in_one_sentence(
    main, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert exit_status(["--name", "x"], main) == 2
    told = "error: standard output cannot be written (No space left on device); mend that, or print elsewhere\n"
    assert capsys.readouterr().err == told


@pytest.mark.parametrize("main", [print_much, lambda options: print(options.name)])
def test_nothing_is_said_where_nobody_reads_any_more(
    main, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        assert exit_status(["--name", "x"], main) == 1
    assert capsys.readouterr().err == ""


def test_an_error_beside_an_output_that_can_be_written_stays_what_it_is() -> None:
    def main(options: Options) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        Command(main=main, options=Options).run(["--name", "x"])


def test_a_current_folder_that_is_gone_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert exit_status(["--name", "x"]) == 2
    assert "the current folder cannot be used (No such file or directory); cd into one" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["--name", "a", "--scale", "-1"], ["--name", "a", "--nonsense", "1"]])
def test_refused_options_end_with_status_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_status(arguments) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_refused_value_is_explained_in_its_dataclass_s_words(capsys: pytest.CaptureFixture[str]) -> None:
    exit_status(["--name", "a", "--scale", "-1"])
    assert "scale must be positive, got -1.0" in capsys.readouterr().err


@dataclass(frozen=True, kw_only=True)
class RecipeOptions:
    name: str
    recipe: Literal["plain", "grand"] = "plain"
    start: Path | None = None
    count: int = 1
    inner: Inner = field(default_factory=Inner)


RECIPES = {"plain": {}, "grand": {"start": tyro.MISSING, "count": 7, "inner": Inner(scale=3.0)}}


def with_recipes(arguments: list[str]) -> RecipeOptions | int:
    """What ``main`` is given, or the exit status where it is not called."""
    seen: list[RecipeOptions] = []
    with pytest.raises(SystemExit) as stop:
        Command(main=seen.append, options=RecipeOptions, recipes=RECIPES).run(arguments)
    return seen[0] if seen else stop.value.code


def test_what_arguments_imply_is_a_default_below_that_of_a_recipe() -> None:
    def implied(arguments: Sequence[str]) -> dict[str, Any]:
        return {"inner": Inner(scale=5.0), "count": 9} if given_value(arguments, "name") == "large" else {}

    def read(*arguments: str) -> RecipeOptions:
        command = Command(main=print, options=RecipeOptions, recipes=RECIPES, implied=implied)
        return command.read(arguments)[0]

    assert read("--name", "a") == RecipeOptions(name="a")
    assert read("--name=large") == RecipeOptions(name="large", count=9, inner=Inner(scale=5.0))
    assert read("--name", "large", "--scale", "1") == RecipeOptions(name="large", count=9, inner=Inner(scale=1.0))
    grand = read("--name", "large", "--recipe", "grand", "--start", "b")
    assert grand == RecipeOptions(name="large", recipe="grand", start=Path("b"), count=7, inner=Inner(3.0))


def test_without_a_recipe_the_first_gives_the_defaults() -> None:
    assert with_recipes(["--name", "a"]) == RecipeOptions(name="a")
    assert with_recipes(["--name", "a", "--recipe", "plain", "--count", "2"]) == RecipeOptions(name="a", count=2)


@pytest.mark.parametrize("chosen", [["--recipe", "grand"], ["--recipe=grand"]])
def test_a_recipe_gives_the_defaults_and_what_is_said_wins(chosen: list[str]) -> None:
    grand = RecipeOptions(name="a", recipe="grand", start=Path("b"), count=7, inner=Inner(3.0))
    assert with_recipes(["--name", "a", *chosen, "--start", "b"]) == grand
    assert with_recipes(["--start", "b", "--name", "a", *chosen]) == grand
    assert with_recipes(["--count", "1", *chosen, "--start", "b", "--name", "a"]) == replace(grand, count=1)
    assert with_recipes([*chosen, "--start", "b", "--name", "a", "--scale", "1"]) == replace(grand, inner=Inner(1.0))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "--name"),
        (["--recipe", "grand", "--start", "b"], "--name"),
        (["--recipe", "grand", "--name", "a"], "--start"),
        (["--recipe", "great", "--name", "a"], "great"),
        (["--name", "a", "--recipe"], "--recipe"),
        (["--recipe", "grand", "--name", "a", "--start", "b", "--scale", "-1"], "scale must be positive"),
    ],
)
def test_with_recipes_required_options_and_names_are_still_checked(
    arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert with_recipes(arguments) == 2
    told = capsys.readouterr().err
    assert named in told
    assert "Traceback" not in told


def test_help_names_the_recipes_and_shows_the_defaults_of_the_chosen_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert with_recipes(["--recipe", "grand", "--help"]) == 0
    told = capsys.readouterr().out
    assert "{plain,grand}" in told
    assert "(default: 7)" in told


@pytest.mark.parametrize(("arguments", "shown"), [(["-h"], True), (["--help"], True), (["--nonsense"], False)])
def test_the_example_is_shown_for_help_alone(
    arguments: list[str], shown: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for given in (arguments, None):
        monkeypatch.setattr("sys.argv", ["command", *arguments])
        with pytest.raises(SystemExit):
            Command(main=print, options=Options, example="command --name a").run(given)
        assert capsys.readouterr().out.endswith("example:\n  command --name a\n") == shown


@dataclass(frozen=True)
class WritingOptions:
    json: Path | None = None
    out: Path | None = None
    weights: Path | None = None
    more_files: tuple[Path, ...] = ()


@pytest.mark.parametrize("rank", [0, 1])
def test_the_first_process_of_a_command_locks_the_files_that_it_writes_as_long_as_it_runs(
    tmp_path: Path, rank: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", str(rank))
    seen: list[set[str]] = []
    writing = Command(
        main=lambda _: seen.append({path.name for path in tmp_path.iterdir()}),
        options=WritingOptions,
        writes=("json", "out"),
    )
    with pytest.raises(SystemExit) as stop:
        writing.run(["--json", str(tmp_path / "a.json"), "--weights", str(tmp_path / "b.safetensors")])
    assert stop.value.code == 0
    assert seen == [{".a.json.lock"} if rank == 0 else set()]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--json", "/dev/null"], "--json /dev/null: is no file that can be replaced; "),
        (["--json", "/dev/a.json"], "--json /dev/a.json: a file appears there when it is complete; "),
        (["--json", "folder"], "--json folder: is no file that can be replaced; "),
        (["--json", "a", "--out", "folder/../a"], "--json a: --out names the same file; "),
        (["--json", "link", "--weights", "a"], "--json link: --weights names the same file; "),
        (["--json", "a", "--more-files", "b", "a"], "--json a: --more-files names the same file; "),
    ],
)
def test_a_file_that_must_stay_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("a")
    writing = Command(main=lambda _: pytest.fail("it worked"), options=WritingOptions, writes=("json", "out"))
    with pytest.raises(SystemExit) as stop:
        writing.run(arguments)
    assert stop.value.code == 2
    assert sentence in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "link"]


WRITTEN = re.compile(r'^    (\w+): Path.*\n    """(?:(?:Also )?[Ww]rite |[^\n]*file to write)', re.MULTILINE)


def test_every_file_that_a_program_writes_by_the_words_of_its_option_is_locked() -> None:
    written = {
        name: {
            field
            for kind in _dataclasses(command(name).options)
            for field in WRITTEN.findall(inspect.getsource(kind) if kind.__module__ != "types" else "")
        }
        for name in PROGRAMS
    }
    assert written["inspect"] == {"html", "duplicates_json"}
    assert written["import-weights"] == {"out"}
    for name, files in written.items():
        assert files <= {*command(name).writes}, name


def test_a_file_that_cannot_be_written_is_refused_before_the_work_is_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    writing = Command(main=lambda _: pytest.fail("it worked"), options=WritingOptions, writes=("json",))
    with pytest.raises(SystemExit) as stop:
        writing.run(["--json", str(tmp_path / "nowhere" / "a.json")])
    assert stop.value.code == 2
    assert "nowhere/a.json cannot be written (No such file or directory)" in capsys.readouterr().err


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_program_says_which_of_its_options_are_files_that_it_writes(name: str) -> None:
    program = command(name)
    options = get_args(program.options)[0] if get_origin(program.options) else program.options
    written = {"json", "html", "picture", "png", "plot", "predictions", "duplicates_json", "onnx"} & {
        field.name for field in fields(options)
    }
    assert set(program.writes) == written | ({"out"} if name == "import-weights" else set())


def test_a_name_that_the_terminal_s_encoding_does_not_have_is_written_out(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii", write_through=True))
    assert exit_status(["--name", "jümp"], lambda options: print(options.name)) == 0
    assert written.getvalue() == b"j\\xfcmp\n"


def test_mistakes_of_ours_are_not_hidden() -> None:
    def main(options: Options) -> None:
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        Command(main=main, options=Options).run(["--name", "a"])
