"""Shell completion of the command ``scenebias``: names of programs, their options and the values of these."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union

import tyro

from scenebias.cli import PROGRAMS, command
from scenebias.commands import Command


@dataclass(frozen=True)
class CompletionConfig:
    """For which shell."""

    shell: Annotated[Literal["bash", "zsh", "fish"], tyro.conf.Positional]
    """The shell that is to complete."""


def main(config: CompletionConfig) -> None:
    """Print the script that makes a shell complete programs and options: source <(scenebias completion bash)."""
    # tyro makes a script of a type that is the choice between all programs, prints it and exits.
    choices = tuple(_as_subcommand(name, summary) for name, (_, summary) in PROGRAMS.items())
    programs: Any = Union[choices]  # noqa: UP007 - as many as there are
    tyro.cli(
        programs,
        prog="scenebias",
        args=["--tyro-print-completion", config.shell],
        config=(tyro.conf.OmitArgPrefixes,),
    )


def _as_subcommand(name: str, summary: str) -> Any:
    program = command(name)
    return Annotated[program.command_line, tyro.conf.subcommand(name, default=program.default([]), description=summary)]


COMMAND = Command(main=main, options=CompletionConfig, example="scenebias completion bash")
