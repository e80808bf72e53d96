"""Every command: mistakes of the user's in one sentence, exit status 2, no traceback."""

from dataclasses import dataclass, field

import pytest

from scenebias.commands import run_command
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
        run_command(main, Options, arguments)
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


@pytest.mark.parametrize("arguments", [[], ["--name", "a", "--scale", "-1"], ["--name", "a", "--nonsense", "1"]])
def test_refused_options_end_with_status_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_status(arguments) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_refused_value_is_explained_in_its_dataclass_s_words(capsys: pytest.CaptureFixture[str]) -> None:
    exit_status(["--name", "a", "--scale", "-1"])
    assert "scale must be positive, got -1.0" in capsys.readouterr().err


def test_mistakes_of_ours_are_not_hidden() -> None:
    def main(options: Options) -> None:
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        run_command(main, Options, ["--name", "a"])
