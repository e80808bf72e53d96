"""Tables on the terminal."""

from collections.abc import Iterable, Sequence

from rich.table import Table
from rich.text import Text


def number_table(
    title: str, header: Sequence[str], rows: Iterable[Sequence[str]], *, texts: int = 1, caption: str | None = None
) -> Table:
    """A table of plain texts: in the first ``texts`` columns what a row is of, in the others its numbers."""
    table = Table(title=Text(title), caption=caption and Text(caption))
    for number, heading in enumerate(header):
        if number < texts:
            table.add_column(Text(heading), overflow="fold")
        else:
            table.add_column(Text(heading), justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, row))
    return table
