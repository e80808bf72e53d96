"""Actors in the frames of one's own videos, from a CSV file: one with a header, or of AVA's eight columns.

Array suffix: M boxes.
"""

import math
import sys
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from shards.errors import UserError, each, refuse
from shards.format.truth import BOX_DTYPE, SIDES
from shards.sources.label_files import check_columns, read_csv
from shards.sources.texts import is_class_name
from shards.sources.truths.listed import ListedBoxes

_WHEN = ("frame", "time_s")
_WHO = ("tube", "person_id")
_REQUIRED = ("video", *SIDES, "label")
COLUMNS = (*_REQUIRED, *_WHEN, *_WHO)
AVA_COLUMNS = ("video", "time_s", *SIDES, "label", "person_id")
WANTED = (
    f"a CSV file with the columns {','.join(_REQUIRED)}, frame or time_s, and mostly tube or person_id; "
    "or one of AVA, without a header"
)
LAST_FRAME = 2**31 - 1
_FIELDS = 8
_LINE, _MOMENT, _TUBE, _LABEL, *_CORNERS = range(_FIELDS)


@dataclass(frozen=True, eq=False)
class BoxTable:
    """The rows of one file, by what it calls the videos."""

    path: Path
    """The file."""
    columns: Sequence[str]
    """What its columns are called, in their order."""
    label_places: Mapping[str, str]
    """Every label, by its number in this file, and where it stands first."""
    numbers_of_video: dict[str, "array[float]"]
    """`_FIELDS` numbers of each of its rows, one after another; tube and label are numbers of this file."""

    @classmethod
    def read(cls, path: Path, option: str, classes: Sequence[str] | None) -> Self:
        """Read the file; where there are ``classes``, numbers in AVA's form count them from 1.

        Raises:
            UserError: it cannot be read, has other columns, or rows of it make no sense.
        """
        rows = read_csv(path, option, WANTED)
        first_line, first = next(rows, (1, []))
        is_ava = len(first) == len(AVA_COLUMNS) and _number(first[1]) is not None
        columns = AVA_COLUMNS if is_ava else check_columns(path, option, first, _REQUIRED, COLUMNS)
        if not is_ava and (len({*_WHEN} & {*columns}) != 1 or len({*_WHO} & {*columns}) > 1):
            raise UserError(
                f"{option} {path}: needs one column of frame and time_s, and at most one of tube and "
                f"person_id, found {','.join(columns)}"
            )
        reader = _RowReader(path, columns, classes if is_ava else None)
        each(reader.read, chain([(first_line, first)] if is_ava else [], rows))
        if not reader.numbers_of_video:
            raise UserError(f"{option} {path}: has no rows; give {WANTED}")
        table = cls(path, columns, reader.label_places, dict(reader.numbers_of_video))
        refuse(problem for video in table.numbers_of_video for problem in table._twice(video))
        return table

    @property
    def other_columns(self) -> list[str]:
        """Columns that are not read."""
        return [column for column in self.columns if column not in COLUMNS]

    def where(self, video: str) -> str:
        """Where a video is named first."""
        return f"{self.path.name}, line {int(self.numbers_of_video[video][_LINE])}"

    def class_counts(self, videos: Sequence[str]) -> Counter[str]:
        """In how many tubes an action is done, by class, of a video that is called so."""
        names = list(self.label_places)
        pairs = np.unique(self._rows(videos)[:, [_TUBE, _LABEL]], axis=0)
        return Counter(names[int(label)] for label in pairs[:, 1])

    def listed(self, videos: Sequence[str], labels: Mapping[str, int]) -> ListedBoxes:
        """The boxes of a video that is called so, of ``labels`` by class name."""
        row_MF = self._rows(videos)
        boxes = np.zeros(len(row_MF), BOX_DTYPE)
        label_of = np.array([labels[name] for name in self.label_places], np.int32)
        boxes["label"] = label_of[row_MF[:, _LABEL].astype(np.intp)]
        boxes["tube"] = np.unique(row_MF[:, _TUBE], return_inverse=True)[1]
        for side, corner_M in zip(SIDES, row_MF[:, _CORNERS].T, strict=True):
            boxes[side] = corner_M
        by_time = "time_s" in self.columns
        if not by_time:
            boxes["frame"] = row_MF[:, _MOMENT]
        return ListedBoxes(
            boxes,
            self.path.name,
            lines=row_MF[:, _LINE].astype(np.int64),
            times_s=row_MF[:, _MOMENT].copy() if by_time else None,
            in_shares=self.columns is AVA_COLUMNS,
        )

    def _rows(self, videos: Sequence[str]) -> NDArray[np.float64]:
        """float64 (M, `_FIELDS`); where no column tells actors, boxes of one place and moment are one actor."""
        found = [np.frombuffer(self.numbers_of_video[name]) for name in videos if name in self.numbers_of_video]
        row_MF = np.concatenate([np.zeros(0), *found]).reshape(-1, _FIELDS)
        if not {*_WHO} & {*self.columns}:
            row_MF[:, _TUBE] = np.unique(row_MF[:, [_MOMENT, *_CORNERS]], axis=0, return_inverse=True)[1].ravel()
        return row_MF

    def _twice(self, video: str) -> Iterator[str]:
        """A sentence for each row that says what another one does."""
        row_MF = self._rows([video])
        _, first, group = np.unique(row_MF[:, [_MOMENT, _TUBE, _LABEL]], axis=0, return_index=True, return_inverse=True)
        first_M = first[group.ravel()]
        for row in np.flatnonzero(first_M != np.arange(len(row_MF))):
            line, other = int(row_MF[row, _LINE]), int(row_MF[first_M[row], _LINE])
            yield (
                f"{self.path}, line {line}: a box of this video, moment, actor and label stands already in line "
                f"{other}; remove one of the two lines"
            )


class _RowReader:
    """Turns cells into numbers.

    Args:
        path: The file, for messages.
        columns: What its columns are called.
        classes: What numbers in the column of the label count, from 1; None: nothing, labels are names.
    """

    def __init__(self, path: Path, columns: Sequence[str], classes: Sequence[str] | None) -> None:
        self.numbers_of_video: defaultdict[str, array[float]] = defaultdict(lambda: array("d"))
        self._path, self._columns, self._classes = path, columns, classes
        self._moment = next(column for column in _WHEN if column in columns)
        who = next((column for column in _WHO if column in columns), "video")
        order = ("video", self._moment, who, "label", *SIDES)
        self._cells_of: Callable[[Sequence[str]], tuple[str, ...]] = itemgetter(*map(list(columns).index, order))
        self._tubes: dict[str, int] = {}
        self._labels: dict[str, int] = {}
        self.label_places: dict[str, str] = {}

    def read(self, row: tuple[int, Sequence[str]]) -> None:
        """Keep a row; a UserError where it makes no sense."""
        line, cells = row
        where = f"{self._path}, line {line}"
        if len(cells) != len(self._columns):
            raise UserError(f"{where}: has {len(cells)} cells instead of {len(self._columns)}; correct it")
        video, moment, tube, label, *corners = self._cells_of(cells)
        if not video or not tube:
            raise UserError(f"{where}: needs a video, and whose box it is; correct it")
        when = _number(moment)
        is_frame = self._moment == "frame"
        if when is None or not 0 <= when <= LAST_FRAME or (is_frame and when % 1):
            kind = "a frame number from 0" if is_frame else "a time in seconds from 0"
            raise UserError(f"{where}: {self._moment} must be {kind}, found {moment!r}")
        numbers = [number for number in map(_number, corners) if number is not None]
        if len(numbers) < len(corners):
            raise UserError(f"{where}: {', '.join(SIDES)} must be numbers, found {', '.join(corners)}")
        x1, y1, x2, y2 = numbers
        if not (x1 < x2 and y1 < y2):
            raise UserError(f"{where}: x1 must be less than x2, and y1 less than y2, found {', '.join(corners)}")
        if self._columns is AVA_COLUMNS and not (min(x1, y1) >= 0 and max(x2, y2) <= 1):
            raise UserError(
                f"{where}: without a header places are shares of the frame, 0 to 1, found {', '.join(corners)}; "
                f"give a header of {','.join(AVA_COLUMNS)} where they are pixels"
            )
        self.numbers_of_video[sys.intern(video)].extend(
            (line, when, self._tubes.setdefault(tube, len(self._tubes)), self._label(label, where), *numbers)
        )

    def _label(self, text: str, where: str) -> int:
        """The number of a label in this file."""
        name = text
        if self._classes is not None and text.isdecimal():
            if not 1 <= int(text) <= len(self._classes):
                raise UserError(f"{where}: label {text} is none of the {len(self._classes)} --classes, from 1 on")
            name = self._classes[int(text) - 1]
        if not is_class_name(name):
            raise UserError(f"{where}: needs a label without '/' or line breaks, found {text!r}; correct it")
        if name not in self._labels:
            self._labels[name] = len(self._labels)
            self.label_places[name] = where
        return self._labels[name]


def _number(text: str) -> float | None:
    """A finite number; None where the text is none."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
