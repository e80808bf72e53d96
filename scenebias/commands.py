"""How every command starts: options from a frozen dataclass, the user's mistakes in one sentence."""

import argparse
import dataclasses
import inspect
import io
import json
import math
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NoReturn, get_args, get_origin

import tyro
from rich.console import Console

from scenebias.distributed.launch import (
    USER_ERROR_STATUS,
    check_process_count,
    is_main_process,
    is_rank,
    launch,
    leave_words,
    said_once,
)
from scenebias.option_names import option_name, refuse_nan, refuse_repeated, refused_in_options
from scenebias.utf8_mode import enter_utf8_mode
from shards.errors import UserError
from shards.system.atomic import atomic_write
from shards.system.locks import locked_file


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
    implied: Callable[[Sequence[str]], Mapping[str, Any]] | None = None
    """With ``recipes``: what given arguments make the defaults of fields that the recipe leaves alone, or to the
    user."""
    parallel: bool = False
    """Whether several processes can share the work: then ``--processes`` starts them, as ``torchrun`` does."""
    writes: tuple[str, ...] = ()
    """The fields of ``options`` that are files to write, where they are not None: no other process writes them while it
    runs. What fills a folder locks it by itself."""

    def run(self, arguments: Sequence[str] | None = None, name: str | None = None) -> NoReturn:
        """Read ``arguments`` (``sys.argv`` when None), do it and exit; ``name`` is what ``--help`` calls the program.

        Exit status: what ``main`` returns, 2 for a mistake of the user's (refused options included), 130 for Ctrl-C, 1
        where whoever read its output has ended. Of several processes it is that of the first that failed.
        """
        if isinstance(sys.stdout, io.TextIOWrapper):  # names that the terminal's encoding does not have are no error
            sys.stdout.reconfigure(errors="backslashreplace")
        if arguments is None:
            enter_utf8_mode()
        arguments = sys.argv[1:] if arguments is None else list(arguments)
        try:
            _check_current_folder()
            config, processes = self.read(arguments, name)
            check_process_count(processes)
            if processes is not None and processes > 1 and not is_rank():
                ending = launch(processes)
                if ending.message is not None:
                    print_error(ending.message)
                sys.exit(ending.status)
            with self._outputs_locked(config):
                status = self.main(config)
            _check_output()
        except UserError as error:
            _end_by_mistake(error)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            sys.exit(130)
        except Exception as fault:
            # What has failed to print is forgotten, so a new line is tried.
            end_unprinted("\n" if isinstance(fault, OSError) and fault.filename is None else "")
            if not leave_words(traceback.format_exc()):
                raise
            sys.exit(1)
        sys.exit(status or 0)

    @contextmanager
    def _outputs_locked(self, config: Any) -> Iterator[None]:
        """Keep other processes from writing the same files; of several ranks it is the first that does."""
        with ExitStack() as stack:
            for field in self.writes if is_main_process() else ():
                if (path := getattr(config, field)) is None:
                    continue
                name = f"{option_name(field)} {path}"
                _check_output_file(name, path, field, config)
                try:
                    stack.enter_context(locked_file(path, name))
                except OSError as error:
                    raise _unwritable(path, error) from error
            yield

    @property
    def command_line(self) -> Any:
        """The dataclass of all that can be said on the command line, annotated for tyro."""
        return _with_processes(self.options) if self.parallel else self.options

    def default(self, arguments: Sequence[str]) -> Any:
        """What tyro is to take for options that ``arguments`` leave out: those of the recipe that they name."""
        return tyro.MISSING_NONPROP if self.recipes is None else self._chosen_recipe(arguments)

    def read(self, arguments: Sequence[str], name: str | None = None) -> tuple[Any, int | None]:
        """The options that ``arguments`` give, and in how many processes to run where that is said.

        Ends the program where options are refused, or ask for help; UserError where a value is.
        """
        refuse_repeated(arguments, self.command_line)
        try:
            with refused_in_options(self.command_line), said_once():
                said = tyro.cli(
                    self.command_line,
                    prog=name,
                    default=self.default(arguments),
                    args=arguments,
                    description=inspect.getdoc(self.main),
                    config=(tyro.conf.OmitArgPrefixes,),
                )
        except SystemExit:
            if self.example is not None and {"-h", "--help"} & set(arguments):
                print(f"example:\n  {self.example}")
            raise
        refuse_nan(said)
        if not self.parallel:
            return said, None
        options = _bare(self.options)
        config = options(**{field.name: getattr(said, field.name) for field in dataclasses.fields(options)})
        return config, said.processes

    def _chosen_recipe(self, arguments: Sequence[str]) -> Any:
        """The configuration of the recipe that is asked for; what every recipe leaves to the user is missing.

        An unknown name is not refused here but where all options are read.
        """
        assert self.recipes is not None, "asked for where there are recipes"
        name = given_value(arguments, "recipe")
        if name not in self.recipes:
            name = next(iter(self.recipes))
        left_to_user = {
            field.name: tyro.MISSING
            for field in dataclasses.fields(self.options)
            if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        }
        implied = {} if self.implied is None else self.implied(arguments)
        of_recipe = {field: value for field, value in self.recipes[name].items() if value is not tyro.MISSING}
        missing = {field: tyro.MISSING for field in self.recipes[name] if field not in of_recipe}
        return _bare(self.command_line)(**{**left_to_user, **missing, **implied, **of_recipe, "recipe": name})


def given_value(arguments: Sequence[str], option: str) -> str | None:
    """The first value of ``--option`` among unread ``arguments``; None: it is not there."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument(f"--{option}", nargs="?", dest="value")
    found: str | None = parser.parse_known_args(arguments)[0].value
    return found


def _end_by_mistake(error: UserError) -> NoReturn:
    if not leave_words(str(error)):
        print_error(str(error))
    sys.exit(USER_ERROR_STATUS)


def _check_output_file(name: str, path: Path, field: str, config: Any) -> None:
    """Raise a UserError where writing ``path``, the value of ``field``, would replace what must stay."""
    if path.exists() and not path.is_file():
        raise UserError(f"{name}: is no file that can be replaced; give the name of a file")
    if path.parent.resolve() == Path("/dev"):  # the standard output, sent to a file
        raise UserError(f"{name}: a file appears there when it is complete; give a name elsewhere")
    for other, value in _paths(config):
        if other != field and value.resolve() == path.resolve():
            raise UserError(f"{name}: {option_name(other)} names the same file; give another")


def _paths(options: Any) -> Iterator[tuple[str, Path]]:
    """The paths among ``options``, with the names of their fields."""
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if dataclasses.is_dataclass(value):
            yield from _paths(value)
        for part in value if isinstance(value, tuple) else (value,):
            if isinstance(part, Path):
                yield field.name, part


def _check_current_folder() -> None:
    """Raise a UserError where the folder that relative paths start from is gone."""
    try:
        Path.cwd()
    except OSError as error:
        raise UserError(f"the current folder cannot be used ({error.strerror}); cd into one that is there") from error


def end_unprinted(probe: str = "") -> None:
    """End the program, by a sentence or in silence, where `_check_output` finds that it cannot print."""
    try:
        _check_output(probe)
    except UserError as error:
        _end_by_mistake(error)


def _check_output(probe: str = "") -> None:
    """Raise a UserError where what was printed cannot be written; end the program where nobody reads it any more."""
    try:
        if sys.stdout is not None:
            print(end=probe, flush=True)
    except OSError as error:
        # Or Python would fail again as it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            sys.exit(1)
        raise UserError(
            f"standard output cannot be written ({error.strerror}); mend that, or print elsewhere"
        ) from error


Processes = Annotated[
    int | None,
    tyro.conf.arg(
        aliases=("--gpus",),
        help="Run in so many processes on this machine, each with a GPU of its own where there are any, as torchrun"
        " does. By default in one, or in those that torchrun has started.",
    ),
]


def _with_processes(options: Any) -> Any:
    """The dataclass ``options``, annotated for tyro or not, with one more field: in how many processes to run."""
    bare = _bare(options)
    extended = dataclasses.make_dataclass(
        bare.__name__, [("processes", Processes, None)], bases=(bare,), frozen=True, kw_only=True
    )
    return extended if options is bare else Annotated[(extended, *options.__metadata__)]


def _bare(options: Any) -> Any:
    """``options`` without what annotates it."""
    return get_args(options)[0] if get_origin(options) is Annotated else options


def print_error(message: str) -> None:
    """Tell the user what went wrong."""
    Console(stderr=True, soft_wrap=True).print("error:", style="bold red", end=" ")
    print(message, file=sys.stderr)


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
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> UserError:
    return UserError(f"{path} cannot be written ({error.strerror}): choose another place")
