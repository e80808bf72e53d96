"""How every command starts: options from a frozen dataclass, the user's mistakes in one sentence."""

import argparse
import dataclasses
import inspect
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import tyro
from rich.console import Console

from shards.errors import UserError
from shards.system.atomic import atomic_write


@dataclass(frozen=True, kw_only=True)
class Command:
    """A program: what it does, with which options, and how it is called for example."""

    main: Callable[[Any], int | None]
    """Does it. Its docstring is the description that ``--help`` shows; what it returns is the exit status (None: 0)."""
    options: Any
    """The dataclass that the options are read into, or a union of such; nested ones keep their names, unprefixed."""
    example: str | None = None
    """A whole command line, with which ``--help`` ends."""
    recipes: Mapping[Any, Mapping[str, Any]] | None = None
    """Values of the fields of ``options`` by the names that its field ``recipe`` may have: the one that ``--recipe``
    names (else the first) gives the defaults. ``tyro.MISSING`` as a value makes an option required."""

    def run(self, arguments: Sequence[str] | None = None) -> NoReturn:
        """Read ``arguments`` (``sys.argv`` when None), do it and exit.

        Exit status: what ``main`` returns, 2 for a mistake of the user's (refused options included), 130 for Ctrl-C.
        """
        arguments = sys.argv[1:] if arguments is None else list(arguments)
        config = self.read(arguments)
        try:
            status = self.main(config)
        except UserError as error:
            Console(stderr=True, soft_wrap=True).print("error:", style="bold red", end=" ")
            print(error, file=sys.stderr)
            sys.exit(2)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            sys.exit(130)
        sys.exit(status or 0)

    def read(self, arguments: Sequence[str]) -> Any:
        """The options that ``arguments`` give; ends the program where they are refused or ask for help."""
        try:
            return tyro.cli(
                self.options,
                default=tyro.MISSING_NONPROP if self.recipes is None else self._chosen_recipe(arguments),
                args=arguments,
                description=inspect.getdoc(self.main),
                config=(tyro.conf.OmitArgPrefixes,),
            )
        except SystemExit:
            if self.example is not None and {"-h", "--help"} & set(arguments):
                print(f"example:\n  {self.example}")
            raise

    def _chosen_recipe(self, arguments: Sequence[str]) -> Any:
        """The configuration of the recipe that is asked for; what every recipe leaves to the user is missing.

        An unknown name is not refused here but where all options are read.
        """
        assert self.recipes is not None, "asked for where there are recipes"
        parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        parser.add_argument("--recipe", nargs="?")
        name = parser.parse_known_args(arguments)[0].recipe
        if name not in self.recipes:
            name = next(iter(self.recipes))
        left_to_user = {
            field.name: tyro.MISSING
            for field in dataclasses.fields(self.options)
            if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        }
        return self.options(**{**left_to_user, **self.recipes[name], "recipe": name})


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
