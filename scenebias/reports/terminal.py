"""Tables and sentences on the terminal."""

from collections.abc import Iterable, Sequence

from rich.table import Table
from rich.text import Text

from scenebias.distributed.launch import is_main_process


def tell(sentence: str | None) -> None:
    """Print what a person should know, if anything, once among all processes."""
    if sentence is not None and is_main_process():
        print(sentence)


def number_table(
    title: str, header: Sequence[str], rows: Iterable[Sequence[str]], *, texts: int = 1, caption: str | None = None
) -> Table:
    """A table of plain texts: in the first ``texts`` columns what a row is of, in the others its numbers."""
    table = Table(title=Text(title), caption=caption and Text(caption))
    for number, heading in enumerate(header):
        # Where all of it is too wide, rich makes the widest columns narrower first: numbers stay whole the longest.
        table.add_column(Text(heading), justify="left" if number < texts else "right", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    return table
