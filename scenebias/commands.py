"""How every command starts: options from a frozen dataclass, the user's mistakes in one sentence."""

import argparse
import dataclasses
import inspect
import json
import math
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import tyro
from rich.console import Console

from shards.atomic import atomic_write
from shards.errors import UserError

Config = TypeVar("Config")


def run_command(
    main: Callable[[Config], int | None],
    config_type: Any,
    arguments: list[str] | None = None,
    *,
    recipes: Mapping[Any, Mapping[str, Any]] | None = None,
    example: str | None = None,
) -> None:
    """Parse ``arguments`` (``sys.argv`` when None) into ``config_type``, call ``main`` with it and exit.

    Options of nested dataclasses keep their own names, without a prefix. Exit status: what ``main`` returns (None: 0),
    2 for a mistake of the user's (refused options included), 130 for Ctrl-C. ``main``'s docstring is the description
    that ``--help`` shows.

    ``recipes`` are values of ``config_type``'s fields by the names that its field ``recipe`` may have: the one that
    ``--recipe`` names (else the first) gives the defaults. ``tyro.MISSING`` as a value makes an option required.
    ``example`` is a whole command line, with which ``--help`` ends.
    """
    try:
        config = tyro.cli(
            config_type,
            default=tyro.MISSING_NONPROP if recipes is None else _chosen_recipe(config_type, recipes, arguments),
            args=arguments,
            description=inspect.getdoc(main),
            config=(tyro.conf.OmitArgPrefixes,),
        )
    except SystemExit:
        if example is not None and {"-h", "--help"} & set(sys.argv[1:] if arguments is None else arguments):
            print(f"example:\n  {example}")
        raise
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


def _chosen_recipe(config_type: Any, recipes: Mapping[Any, Mapping[str, Any]], arguments: list[str] | None) -> Any:
    """The configuration of the recipe that is asked for; the options that every recipe leaves to the user are missing.

    An unknown name is not refused here but where all options are read.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--recipe", nargs="?")
    name = parser.parse_known_args(arguments)[0].recipe
    if name not in recipes:
        name = next(iter(recipes))
    left_to_user = {
        field.name: tyro.MISSING
        for field in dataclasses.fields(config_type)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }
    return config_type(**{**left_to_user, **recipes[name], "recipe": name})


def null_for_nan(values: Mapping[str, float]) -> dict[str, float | None]:
    """``values`` as JSON can hold them: null where a number is not known."""
    return {name: None if math.isnan(value) else value for name, value in values.items()}


def write_output(path: Path, content: Any) -> None:
    """Write a command's extra output: bytes and texts as they are, anything else as JSON.

    Raises UserError where it cannot be written.
    """
    if not isinstance(content, bytes):
        text = content if isinstance(content, str) else json.dumps(content, indent=2, sort_keys=True) + "\n"
        content = text.encode()
    try:
        with atomic_write(path) as file:
            file.write(content)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}): choose another place") from error
