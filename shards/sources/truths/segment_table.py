"""Actions in time in one's own videos, from a CSV file."""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from shards.errors import UserError, each
from shards.sources.label_files import check_columns, read_csv
from shards.sources.texts import is_class_name
from shards.sources.truths.untrimmed import NamedSegment

COLUMNS = ("video", "start_s", "end_s", "label")
WANTED = f"a CSV file with the columns {','.join(COLUMNS)}"


@dataclass(frozen=True)
class SegmentTable:
    """The rows of one file, by what it calls the videos."""

    path: Path
    """The file."""
    of_video: Mapping[str, Sequence[NamedSegment]]
    """The segments of each video."""
    other_columns: Sequence[str]
    """Columns that are not read."""

    @classmethod
    def read(cls, path: Path, option: str) -> Self:
        """Read the file.

        Raises:
            UserError: it cannot be read, has other columns, or rows of it make no sense.
        """
        rows = read_csv(path, option, WANTED)
        columns = check_columns(path, option, next(rows, (1, []))[1], COLUMNS, COLUMNS)

        def read(row: tuple[int, Sequence[str]]) -> tuple[str, NamedSegment]:
            line, cells = row
            where = f"{path}, line {line}"
            if len(cells) != len(columns):
                raise UserError(f"{where}: has {len(cells)} cells instead of {len(columns)}; correct it")
            return _segment(dict(zip(columns, cells, strict=True)), where, f"{path.name}, line {line}")

        of_video: defaultdict[str, list[NamedSegment]] = defaultdict(list)
        for video, segment in each(read, rows):
            of_video[video].append(segment)
        if not of_video:
            raise UserError(f"{option} {path}: has no rows; give {WANTED}")
        return cls(path, of_video, [column for column in columns if column not in COLUMNS])

    @property
    def label_places(self) -> dict[str, str]:
        """Every label, and where it stands first."""
        return dict(reversed([*self._labels()]))

    def _labels(self) -> Iterator[tuple[str, str]]:
        for segments in self.of_video.values():
            for segment in segments:
                if segment.class_name is not None:
                    yield segment.class_name, str(self.path.with_name(segment.where))


def _segment(cell: Mapping[str, str], where: str, short_where: str) -> tuple[str, NamedSegment]:
    video, label = cell["video"], cell["label"]
    if not video or (label and not is_class_name(label)):
        raise UserError(f"{where}: needs a video, and a label without '/' or none at all; correct it")
    try:
        start_s, end_s = float(cell["start_s"]), float(cell["end_s"])
    except ValueError:
        start_s = end_s = math.nan
    if not (0 <= start_s < end_s < math.inf):
        raise UserError(
            f"{where}: start_s and end_s must be seconds from 0, the end after the start, found "
            f"{cell['start_s']} and {cell['end_s']}; correct them"
        )
    return video, NamedSegment(start_s, end_s, label or None, short_where)
