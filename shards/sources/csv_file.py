"""Any data set listed in a CSV file."""

import csv
from dataclasses import dataclass
from pathlib import Path

from shards.errors import UserError
from shards.sources.listing import ClipEntry, Listing, read_classes, split_by_existence

_REQUIRED = frozenset({"path", "label"})
_OPTIONAL = frozenset({"start", "end", "split"})


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
        rows = self._read_rows()
        chosen = [(n, row) for n, row in rows if self.subset == "all" or row.get("split") == self.subset]
        if not chosen:
            values = sorted({row["split"] for _, row in rows if row.get("split")})
            raise UserError(f"--subset {self.subset}: no row of {self.file} has it; its column 'split' holds {values}")
        classes = read_classes(self.classes) if self.classes else tuple(sorted({row["label"] for _, row in rows}))
        found, missing = split_by_existence(self._entry(number, row) for number, row in chosen)
        return Listing(self.dataset, self.split, self.subset, classes, found, missing)

    def _read_rows(self) -> list[tuple[int, dict[str, str]]]:
        try:
            with self.file.open(newline="", encoding="utf-8-sig") as file:
                reader = csv.DictReader(file, skipinitialspace=True)
                columns = set(reader.fieldnames or ())
                rows = [(reader.line_num, row) for row in reader]
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise UserError(f"--file {self.file}: cannot be read ({error}); give a CSV file in UTF-8") from error
        if not columns >= _REQUIRED or not columns <= _REQUIRED | _OPTIONAL:
            raise UserError(
                f"--file {self.file}: its columns must be path,label[,start,end,split], found {sorted(columns)}"
            )
        if not rows:
            raise UserError(f"--file {self.file}: has no rows; write one a clip below the header")
        for number, row in rows:
            if None in row or None in row.values():
                more_or_fewer = "more" if None in row else "fewer"
                raise UserError(f"{self.file}, line {number}: has {more_or_fewer} cells than the header; correct it")
            if not row["path"] or not row["label"] or "/" in row["label"]:
                raise UserError(f"{self.file}, line {number}: needs a path, and a label without '/'; correct it")
        return rows

    def _entry(self, number: int, row: dict[str, str]) -> ClipEntry:
        path = (self.root or self.file.parent) / row["path"]
        start, end = (self._frame_number(number, row, column) for column in ("start", "end"))
        if end is not None and end <= (start or 0):
            raise UserError(f"{self.file}, line {number}: end {end} must be greater than start {start or 0}")
        name = f"{row['label']}/{path.stem}"
        if start is not None or end is not None:
            name += f"_{start or 0}_{'end' if end is None else end}"
        return ClipEntry(name, path, row["label"], start, end)

    def _frame_number(self, line: int, row: dict[str, str], column: str) -> int | None:
        text = row.get(column) or ""
        if not text:
            return None
        if not text.isdecimal():
            raise UserError(f"{self.file}, line {line}: {column} must be a frame number from 0, found {text!r}")
        return int(text)
