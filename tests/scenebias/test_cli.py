"""The command ``scenebias``: it starts at once, knows its programs, and completes their names and options."""

import inspect
import os
import subprocess
import sys
from configparser import ConfigParser
from contextlib import redirect_stdout
from importlib import import_module
from importlib.metadata import version
from io import StringIO
from pathlib import Path

import pytest

from scenebias.cli import PROGRAMS, command, main
from tests.project import ROOT

MOST_CPU_S = 0.3


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    return stop.value.code


def test_help_lists_every_program_with_its_summary(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    assert lines == [[name, program.summary] for name, program in PROGRAMS.items()]


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_summary_is_the_first_line_of_the_program_s_docstring(name: str) -> None:
    assert PROGRAMS[name].summary == (inspect.getdoc(command(name).main) or "").splitlines()[0]


@pytest.mark.parametrize("argument", ["--help", "--version", "pretran"])
def test_what_needs_no_program_starts_none_and_takes_no_time(argument: str) -> None:
    code = f"""
import sys, time
sys.argv = ["scenebias", "{argument}"]
from scenebias.cli import main
try:
    main()
except SystemExit:
    heavy = {{"torch", "numpy", "tyro", "rich", "nvidia"}} & set(sys.modules)
    print(heavy, time.process_time())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    heavy, cpu_s = done.stdout.splitlines()[-1].rsplit(maxsplit=1)
    assert heavy == "set()"
    assert float(cpu_s) < MOST_CPU_S


def test_the_version_is_the_installed_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--version") == 0
    assert capsys.readouterr().out == f"scenebias {version('scenebias')}\n"


@pytest.mark.parametrize("argument", ["--help", "--version"])
def test_an_output_that_cannot_be_written_is_told_in_one_sentence(
    argument: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert run(argument) == 2
    told = "error: standard output cannot be written (No space left on device); mend that, or print elsewhere\n"
    assert capsys.readouterr().err == told


@pytest.mark.parametrize(("wrong", "nearest"), [("pretran", "pretrain"), ("predicts", "predict"), ("xyz", "")])
def test_an_unknown_program_is_refused_in_a_sentence_that_names_the_nearest(
    wrong: str, nearest: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(wrong, "--help") == 2
    told = capsys.readouterr().err
    assert told.startswith(f"error: there is no program {wrong}: did you mean scenebias {nearest}")
    assert told.count("\n") == 1


def test_without_a_program_the_list_is_shown_and_the_status_says_that_nothing_was_done(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run() == 2
    assert "pretrain" in capsys.readouterr().out


def test_a_program_s_help_calls_it_as_it_was_called(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("pretrain", "--help") == 0
    assert capsys.readouterr().out.startswith("usage: scenebias pretrain [-h] [OPTIONS]\n")


def test_the_module_is_the_command_too() -> None:
    line = [sys.executable, "-m", "scenebias.cli", "pretran"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "scenebias pretrain" in done.stderr


def test_the_installed_command_is_this_one() -> None:
    config = ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    name, target = config["options.entry_points"]["console_scripts"].strip().split(" = ")
    module, function = target.split(":")
    assert (name, getattr(import_module(module), function)) == ("scenebias", main)


@pytest.fixture(scope="module")
def completion_script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    script = tmp_path_factory.mktemp("completion") / "scenebias.bash"
    with redirect_stdout(StringIO()) as printed, pytest.raises(SystemExit) as stop:
        main(["completion", "bash"])
    assert not stop.value.code
    script.write_text(printed.getvalue())
    return script


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("pre", ["predict", "pretrain"]),
        ("pretrain --epo", ["--epochs"]),
        ("pretrain --train a --proc", ["--processes"]),
        ("pretrain --objective de", ["debias"]),
        ("pack fold", ["folder"]),
        ("pack folder --roo", ["--root"]),
        ("inspect --veri", ["--verify"]),
        ("predict --nonsense", []),
    ],
)
def test_bash_completes_programs_options_and_values(completion_script: Path, typed: str, offered: list[str]) -> None:
    """As bash itself does it: it calls the function that `complete` has registered, with the words so far."""
    code = f"""
        source {completion_script}
        [[ $(complete -p scenebias) =~ -F\\ ([^ ]+) ]] && function=${{BASH_REMATCH[1]}}
        COMP_WORDS=(scenebias {typed}) COMP_CWORD={len(typed.split())}
        "$function" && printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert sorted(done.stdout.split()) == offered


def test_names_of_files_are_utf_8_in_every_locale(tmp_path: Path) -> None:
    videos, out = tmp_path / "videos", tmp_path / "öut"
    (videos / "jümp").mkdir(parents=True)
    (videos / "jümp" / "clïp.mp4").write_bytes(b"no video")
    told = []
    for locale in ({"LC_ALL": "C.utf8"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}):
        command = [sys.executable, "-m", "scenebias.cli", "pack", "folder", "--root", videos, "--out", out]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **locale}
        done = subprocess.run(command, env=environment, capture_output=True, check=False)
        told.append((done.returncode, done.stdout, done.stderr))
    assert told[0] == told[1]
    assert "jümp/clïp (" in told[0][2].decode()
