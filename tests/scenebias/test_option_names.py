"""What must hold of mistakes in options: they are told in the words of the command line, and none passes unseen."""

import math
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from scenebias.cli import command
from scenebias.demo.world import WorldConfig
from scenebias.option_names import in_options, refused_in_options
from scenebias.predict import PredictConfig
from tests.project import ROOT


def told(name: str, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stop:
        command(name).run(arguments)
    assert stop.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "arguments", "sentence"),
    [
        ("predict", ["v", "--weights", "w", "--batch-size", "0"], "--batch-size must be at least 1, got 0"),
        ("predict", ["v", "--weights", "w", "--mask-fps", "inf"], "--mask-fps must be above 0 and at most 1000"),
        (
            "pretrain",
            ["--train", "x", "--val", "v", "--out", "y", "--learning-rate", "-1"],
            "--learning-rate must be positive",
        ),
        ("pretrain", ["--train", "x", "--val", "v", "--out", "y", "--batch-size", "0"], "--batch-size must"),
        ("pack", ["folder", "--root", "r", "--out", "y", "--mask-weights", "w"], "--mask-weights goes with a network"),
        ("render", ["--out", "y", "--fps", "nan"], "--fps must be"),
        ("render", ["--out", "y", "--fps", "1e12"], "--fps must be above 0 and at most 1000, got 1000000000000.0"),
        ("render", ["--out", "y", "--fps", "0"], "--fps must be"),
        ("evaluate", ["--weights", "w", "--data", "a", "--data", "b"], "--data is given 2 times"),
        ("evaluate", ["--weights", "w", "--data=a", "--data", "b"], "give all values after one --data"),
        ("bias", ["--train", "t", "--val", "v", "--weights", "a", "--weights", "b"], "--weights is given 2 times"),
    ],
)
def test_mistakes_are_told_in_one_line_that_names_the_option(name, arguments, sentence, capsys):
    message = told(name, arguments, capsys)
    assert sentence in message
    assert message.startswith("error: ")
    assert message.count("\n") == 1


def test_of_an_option_of_one_value_the_last_counts():
    seen = []
    with pytest.raises(SystemExit):
        replace(command("predict"), main=seen.append).run(["v", "--weights", "a", "--weights", "b"])
    assert seen[0].weights == Path("b")


def test_python_is_told_the_name_of_the_field():
    with refused_in_options(PredictConfig):
        pass
    with pytest.raises(ValueError, match=r"^fps must be above 0"):
        WorldConfig(fps=math.nan)


def test_only_names_of_options_are_renamed():
    names = {"data", "mask_step", "height"}
    assert in_options("data must be of mask_step, not data_x of 'mask_step'", names) == (
        "--data must be of --mask-step, not data_x of 'mask_step'"
    )
    assert in_options("no height of data", names) == "no height of data"


@pytest.mark.parametrize(
    ("name", "arguments", "options"),
    [
        ("pack", ["folder", "--root", "r", "--out", "o"], ["mask_fps", "box_score", "mask_scale", "focus_margin"]),
        ("pack", ["folder", "--root", "r", "--out", "o"], ["mask_score", "mask_threshold"]),
        (
            "pretrain",
            ["--train", "t", "--val", "v", "--out", "o"],
            ["momentum", "weight_decay", "gradient_clip", "dropout"],
        ),
        (
            "pretrain",
            ["--train", "t", "--val", "v", "--out", "o"],
            ["alpha_scene", "label_smoothing", "scales", "cache_gb"],
        ),
        ("render", ["--out", "o"], ["rho", "fps"]),
    ],
)
def test_what_is_not_a_number_is_refused(name, arguments, options, capsys):
    for option in (f"--{option.replace('_', '-')}" for option in options):
        assert f"{option} must" in told(name, [*arguments, option, "nan"], capsys)


INTERRUPTED = (
    "import os, signal\n"
    "signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs in the background may ignore Ctrl-C\n"
    "os.kill(os.getpid(), signal.SIGINT)\n"
)


@pytest.mark.parametrize("module", ["scenebias.pretrain", "scenebias.evaluate", "scenebias.cli"])
def test_ctrl_c_while_a_program_is_imported_ends_it_with_a_word(tmp_path, module):
    """PyTorch is replaced by a module that is interrupted while it is imported."""
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text(INTERRUPTED)
    arguments = ["pretrain", "--help"] if module == "scenebias.cli" else ["--help"]
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments], capture_output=True, text=True, env=environment, timeout=120
    )
    assert done.returncode in (130, -signal.SIGINT)
    assert done.stderr == "interrupted\n"
