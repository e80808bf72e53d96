"""Tables on the terminal."""

from collections.abc import Iterable, Sequence

from rich.markup import escape
from rich.table import Table


def number_table(
    title: str, header: Sequence[str], rows: Iterable[Sequence[str]], *, texts: int = 1, caption: str | None = None
) -> Table:
    """A table of plain texts: in the first ``texts`` columns what a row is of, in the others its numbers."""
    table = Table(title=escape(title), caption=caption and escape(caption))
    for number, heading in enumerate(header):
        if number < texts:
            table.add_column(escape(heading), overflow="fold")
        else:
            table.add_column(escape(heading), justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*map(escape, row))
    return table
