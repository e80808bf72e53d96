"""Any data set listed in a CSV file."""

import os
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import NamedTuple, Self

from shards.errors import UserError, each, refuse
from shards.sources.files.file_finder import FileFinder, Found
from shards.sources.label_files import check_columns, read_classes, read_csv
from shards.sources.listing import ClipEntry, Listing, MissingClip, utf8_name
from shards.sources.remarks import (
    OTHER_COLUMNS,
    OTHER_ROWS,
    Remarks,
    clips_of_two_subsets,
    files_of_two_classes,
    other_rows,
    remarks,
)
from shards.sources.texts import clean, has_control, is_class_name, look_alikes
from shards.sources.truths.listed import ListedTruth
from shards.sources.truths.own import TruthFiles, VideoTruths

_REQUIRED = ("path", "label")
_KNOWN = (*_REQUIRED, "start", "end", "split")


class _Row(NamedTuple):
    """One row; a cell that the file does not have is empty."""

    where: str
    """File and line, for messages."""
    path: str
    """The video, from the root on."""
    label: str
    """Name of the class; empty where only what happens in the video may tell it."""
    start: int | None
    """The first frame."""
    end: int | None
    """The frame after the last."""
    split: str
    """The subset that the row belongs to."""
    truth: ListedTruth | None = None
    """What happens within the video; None: nobody says it."""

    def is_of(self, subset: str) -> bool:
        """Whether it is of ``subset``, which may be all."""
        return subset in ("all", self.split)

    def with_truth(self, truths: VideoTruths) -> Self:
        """The row with what is said of its video, from which it has its label if it has none."""
        return self._replace(label=self.label or truths.class_of(self.path) or "", truth=truths.truth_of(self.path))


MOST_DIGITS = 12  # of a frame number


@dataclass(frozen=True, kw_only=True)
class CsvSource(TruthFiles):
    """Videos listed in a CSV file with a header: path,label[,start,end,split].

    With --segments or --boxes the label may be left out: a video is then of the class of most of its segments.

    start and end are frame numbers counted from 0, the end not included; empty means the video's own. A clip is named
    <label>/<file name without extension>, followed by _<start>_<end> where a range is given; where several files of a
    label would share a name, their folders are put between.
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
        columns, rows = self._read()
        subset = clean(self.subset)
        if not any(row.is_of(subset) for row in rows):
            values = sorted({row.split for row in rows if row.split})
            raise UserError(f"--subset {self.subset}: no row of {self.file} has it; its column 'split' holds {values}")
        unread = [column or "(without a name)" for column in columns if column not in _KNOWN]
        told: dict[str, Iterable[str]] = {OTHER_ROWS: other_rows(row.split for row in rows if not row.is_of(subset))}
        classes = read_classes(self.classes) if self.classes else None
        if self.has_truth:
            truths = self.truths_of(
                list(dict.fromkeys(row.path for row in rows)),
                classes,
                {row.label: row.where for row in rows if row.label},
            )
            rows = [row.with_truth(truths) for row in rows]
            chosen = [row for row in rows if row.is_of(subset)]
            told |= truths.remarks(
                dict.fromkeys(row.path for row in chosen if row.label), [row.path for row in chosen if not row.label]
            )
            classes, unread = truths.classes, [*unread, *truths.other_columns]
            rows = [row for row in rows if row.label]
        clips, missing, faults, same_files = self._clips(rows, subset)
        return Listing(
            self.dataset,
            self.split,
            subset,
            classes or tuple(sorted({row.label for row in rows})),
            clips,
            missing,
            tuple(map(utf8_name, faults)),
            remarks({**told, OTHER_COLUMNS: unread}) | same_files,
            may_lack_classes=self.has_truth,
        )

    def _clips(
        self, rows: Sequence[_Row], subset: str
    ) -> tuple[tuple[ClipEntry, ...], tuple[MissingClip, ...], list[str], Remarks]:
        """The clips of ``subset`` among ``rows``, those that are missing, faulty archives, and remarks on files."""
        chosen = [k for k, row in enumerate(rows) if row.is_of(subset)]
        names, files = self._names(rows), FileFinder(self._root)
        clips, missing, numbered = [], [], []
        for k, file in zip(chosen, self._find(files, [rows[k] for k in chosen]), strict=True):
            row = rows[k]
            if file.reason is None:
                clips.append(ClipEntry(names[k], file.path, row.label, row.start, row.end, row.truth))
                numbered.append((file.number, (clips[-1], row.split)))
            else:
                missing.append(MissingClip(names[k], file.path, row.label, file.reason))
        told = files_of_two_classes((number, entry) for number, (entry, _) in numbered)
        numbers = {number for number, _ in numbered}
        elsewhere = self._others(
            files, ((row, name) for row, name in zip(rows, names, strict=True) if not row.is_of(subset))
        )
        told |= clips_of_two_subsets(chain(numbered, (use for use in elsewhere if use[0] in numbers)))
        return tuple(clips), tuple(missing), files.faults, told

    @property
    def _root(self) -> Path:
        return self.root or self.file.parent

    def _read(self) -> tuple[Sequence[str], list[_Row]]:
        """The names of the columns, and all rows."""
        required = ("path",) if self.has_truth else _REQUIRED
        lines = read_csv(self.file, "--file", "a CSV file in UTF-8")
        columns = check_columns(self.file, "--file", next(lines, (1, []))[1], required, _KNOWN)
        rows = each(lambda line: _row(columns, line[1], f"{self.file}, line {line[0]}", self.has_truth), lines)
        if not rows:
            raise UserError(f"--file {self.file}: has no rows; write one a clip below the header")
        labels: dict[str, str] = {}
        splits: dict[str, str] = {}
        for row in rows:
            labels.setdefault(row.label, row.where)
            splits.setdefault(row.split, row.where)
        refuse([*look_alikes(labels, "label"), *look_alikes(splits, "split")])
        return columns, rows

    def _names(self, rows: Sequence[_Row]) -> list[str]:
        """The names of the clips: with as much of the paths as tells those of one label and file name apart."""
        short = [f"{row.label}/{_file_name(row)}" for row in rows]
        root = Path.cwd() / self._root
        folder_of: dict[str, str] = {}
        folders: defaultdict[str, set[str]] = defaultdict(set)
        for row, name in zip(rows, short, strict=True):
            folder = _folder(root, row)
            first = folder_of.setdefault(name, folder)
            if first != folder:
                folders[name] |= {first, folder}
        shared = {name: os.path.commonpath(alike) for name, alike in folders.items()}
        return [
            f"{row.label}/{Path(os.path.relpath(_folder(root, row), shared[name]), _file_name(row))}"
            if name in shared
            else name
            for row, name in zip(rows, short, strict=True)
        ]

    def _find(self, files: FileFinder, rows: Sequence[_Row]) -> list[Found]:
        """Where the videos of the rows are."""

        def find(row: _Row) -> Found:
            try:
                return files.find(self._root / row.path)
            except UserError as error:
                raise UserError(*(f"{row.where}: {problem}" for problem in error.args)) from error

        return each(find, rows)

    def _others(
        self, files: FileFinder, rows: Iterable[tuple[_Row, str]]
    ) -> Iterator[tuple[int, tuple[ClipEntry, str]]]:
        """The clips of rows that are not asked for, with their names, as far as their videos are there."""
        for row, name in rows:
            with suppress(UserError):  # of names that differ too little: it is told where the row is asked for
                file = files.find(self._root / row.path)
                if file.reason is None:
                    yield file.number, (ClipEntry(name, file.path, row.label, row.start, row.end), row.split)


def _row(columns: Sequence[str], cells: Sequence[str], where: str, label_may_lack: bool) -> _Row:
    if len(cells) != len(columns):
        more_or_fewer = "more" if len(cells) > len(columns) else "fewer"
        raise UserError(f"{where}: has {more_or_fewer} cells than the header; correct it")
    cell = {column: text for column, text in zip(columns, cells, strict=True) if column in _KNOWN}
    refuse(
        f"{where}: {column} {text[:40]!r} holds a line break or another control character; is a quote not closed?"
        for column, text in cell.items()
        if has_control(text)
    )
    path, label = cell["path"], cell.get("label", "")
    if not path or not (is_class_name(label) or (label_may_lack and not label)):
        raise UserError(f"{where}: needs a path, and a label without '/'; correct it")
    start, end = (_frame_number(cell.get(column, ""), column, where) for column in ("start", "end"))
    if end is not None and end <= (start or 0):
        raise UserError(f"{where}: end {end} must be greater than start {start or 0}")
    return _Row(where, path, sys.intern(label), start, end, sys.intern(cell.get("split", "")))


def _frame_number(text: str, column: str, where: str) -> int | None:
    if not text:
        return None
    if not text.isdecimal() or len(text) > MOST_DIGITS:
        raise UserError(f"{where}: {column} must be a frame number from 0, found {text!r}")
    return int(text)


def _file_name(row: _Row) -> str:
    """The last part of a clip's name: the file's without extension, and the range."""
    name = clean(Path(row.path).stem)
    if row.start is not None or row.end is not None:
        name += f"_{row.start or 0}_{'end' if row.end is None else row.end}"
    return name


def _folder(root: Path, row: _Row) -> str:
    return os.path.normpath((root / row.path).parent)
