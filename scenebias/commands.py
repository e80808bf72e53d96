"""How every command starts: options from a frozen dataclass, the user's mistakes in one sentence."""

import inspect
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import tyro
from rich.console import Console

from shards.atomic import atomic_write
from shards.errors import UserError

Config = TypeVar("Config")


def run_command(main: Callable[[Config], int | None], config_type: Any, arguments: list[str] | None = None) -> None:
    """Parse ``arguments`` (``sys.argv`` when None) into ``config_type``, call ``main`` with it and exit.

    Options of nested dataclasses keep their own names, without a prefix. Exit status: what ``main`` returns (None: 0),
    2 for a mistake of the user's (refused options included), 130 for Ctrl-C. ``main``'s docstring is the description
    that ``--help`` shows.
    """
    config = tyro.cli(
        config_type, args=arguments, description=inspect.getdoc(main), config=(tyro.conf.OmitArgPrefixes,)
    )
    try:
        status = main(config)
    except UserError as error:
        Console(stderr=True, soft_wrap=True).print("error:", style="bold red", end=" ")
        print(error, file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    sys.exit(status or 0)


def write_output(path: Path, content: Any) -> None:
    """Write a command's extra output: a text as it is, anything else as JSON; UserError where it cannot be written."""
    text = content if isinstance(content, str) else json.dumps(content, indent=2, sort_keys=True) + "\n"
    try:
        with atomic_write(path) as file:
            file.write(text.encode())
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}): choose another place") from error
