"""Any data set listed in a CSV file."""

import csv
import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from shards.errors import UserError
from shards.sources.label_files import read_classes, read_text
from shards.sources.listing import ClipEntry, Listing, MissingClip
from shards.sources.video_files import FileFinder

_REQUIRED = frozenset({"path", "label"})
_OPTIONAL = frozenset({"start", "end", "split"})


class _Row(NamedTuple):
    """The cells of one row; a column that the file does not have is empty."""

    where: str
    """File and line, for messages."""
    path: str
    """The video, from the root on."""
    label: str
    """Name of the class."""
    start: str = ""
    """The first frame."""
    end: str = ""
    """The frame after the last."""
    split: str = ""
    """The subset that the row belongs to."""


MOST_DIGITS = 12  # of a frame number


@dataclass(frozen=True, kw_only=True)
class CsvSource:
    """Videos listed in a CSV file with a header: path,label[,start,end,split].

    start and end are frame numbers counted from 0, the end not included; empty means the video's own. A clip is named
    <label>/<file name without extension>, followed by _<start>_<end> where a range is given.
    """

    file: Path
    """The CSV file (UTF-8)."""
    root: Path | None = None
    """Folder that relative paths start from. Without it: the folder of the CSV file."""
    dataset: str = "csv"
    """Name of the data set, kept in the manifest."""
    split: str = "1"
    """Name of the split, kept in the manifest."""
    subset: str = "all"
    """Which rows: those with this value in the column 'split', or all."""
    classes: Path | None = None
    """Text file of class names, one a line, in the order of the labels. Without it: the labels of all rows, sorted."""

    def listing(self) -> Listing:
        """The chosen rows; classes are those of the whole file, so the labels of all its subsets agree."""
        rows = list(self._read_rows())
        chosen = [row for row in rows if self.subset in ("all", row.split)]
        if not chosen:
            values = sorted({row.split for row in rows if row.split})
            raise UserError(f"--subset {self.subset}: no row of {self.file} has it; its column 'split' holds {values}")
        classes = read_classes(self.classes) if self.classes else tuple(sorted({row.label for row in rows}))
        clips, missing = [], []
        files = FileFinder()
        for row in chosen:
            entry = self._entry(row)
            reason = files.why_missing(entry.path)
            if reason is None:
                clips.append(entry)
            else:
                missing.append(MissingClip(entry.name, entry.path, entry.class_name, reason))
        return Listing(self.dataset, self.split, self.subset, classes, tuple(clips), tuple(missing))

    def _read_rows(self) -> Iterator[_Row]:
        text = read_text(self.file, "--file", "a CSV file in UTF-8")
        reader = csv.reader(io.StringIO(text), skipinitialspace=True)
        try:
            columns = next(reader, [])
            if not _REQUIRED <= set(columns) <= _REQUIRED | _OPTIONAL or len(columns) > len(set(columns)):
                raise UserError(
                    f"--file {self.file}: its columns must be path,label[,start,end,split], found {columns}"
                )
            row_count = 0
            for cells in reader:
                if cells:
                    row_count += 1
                    yield self._row(columns, cells, f"{self.file}, line {reader.line_num}")
        except csv.Error as error:
            raise UserError(f"{self.file}, line {reader.line_num}: {error}; give a CSV file in UTF-8") from error
        if not row_count:
            raise UserError(f"--file {self.file}: has no rows; write one a clip below the header")

    def _row(self, columns: list[str], cells: list[str], where: str) -> _Row:
        if len(cells) != len(columns):
            more_or_fewer = "more" if len(cells) > len(columns) else "fewer"
            raise UserError(f"{where}: has {more_or_fewer} cells than the header; correct it")
        row = _Row(where, **dict(zip(columns, cells, strict=True)))
        if not row.path or not row.label or "/" in row.label:
            raise UserError(f"{where}: needs a path, and a label without '/'; correct it")
        return row._replace(label=sys.intern(row.label))

    def _entry(self, row: _Row) -> ClipEntry:
        path = (self.root or self.file.parent) / row.path
        start, end = _frame_number(row, "start"), _frame_number(row, "end")
        if end is not None and end <= (start or 0):
            raise UserError(f"{row.where}: end {end} must be greater than start {start or 0}")
        name = f"{row.label}/{path.stem}"
        if start is not None or end is not None:
            name += f"_{start or 0}_{'end' if end is None else end}"
        return ClipEntry(name, path, row.label, start, end)


def _frame_number(row: _Row, column: Literal["start", "end"]) -> int | None:
    text: str = getattr(row, column)
    if not text:
        return None
    if not text.isdecimal() or len(text) > MOST_DIGITS:
        raise UserError(f"{row.where}: {column} must be a frame number from 0, found {text!r}")
    return int(text)
