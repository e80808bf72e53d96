"""UCF101-24: 3,194 videos of 24 actions of UCF101, most of them trimmed, with boxes around everybody who acts.

The corrected annotations of Singh et al. are a pickle, ``pyannot.pkl``: of each video ``<class>/<clip>`` its number of
frames ``numf``, its ``label``, and a list of ``annotations``, one a tube: ``label``, the first frame ``sf`` from 0, the
one after the last ``ef``, and ``boxes`` (ef - sf, 4), x, y, width and height in pixels that count from 1.
"""

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from shards.errors import UserError, each, refuse
from shards.format.truth import BOX_DTYPE, SIDES
from shards.sources.clip_lists import ListedClip, locate_clips
from shards.sources.files.file_kinds import is_named_like_a_video
from shards.sources.label_files import read_lines, require_folder
from shards.sources.listing import Listing, Subset
from shards.sources.pickles import PickledArray, read_pickle
from shards.sources.texts import clean, is_class_name
from shards.sources.truths.listed import ListedBoxes, ListedTruth, VideoPromise

_PICKLE = "pyannot.pkl"
_UCF101_NAME = re.compile(r"v_(?P<class_name>\w+)_g\d+_c\d+", re.IGNORECASE)
_WANTED = f"the folder of {_PICKLE}, the corrected annotations of UCF101-24, and of testlist01.txt"


@dataclass(frozen=True, kw_only=True)
class Ucf10124Source:
    """The 24 classes of UCF101 that have boxes, of the corrected annotations."""

    root: Path
    """Folder of UCF101's videos: <root>/<class>/<clip>.avi, or all in one folder, or transcoded."""
    labels: Path
    """Folder of pyannot.pkl and testlist01.txt, that of UCF101 or of its 24 classes."""
    split: Literal[1, 2, 3] = 1
    """Which of the three splits of UCF101; results are usually given on the first."""
    subset: Subset = "train"
    """Which side of the split; the videos that are not in the test list are those to train on."""

    def listing(self) -> Listing:
        """The annotated videos of one side of the split, each with its boxes, and the segments that these fill."""
        require_folder(self.labels, "--labels", _WANTED)
        path = self.labels / _PICKLE
        content = read_pickle(path, "--labels", _WANTED)
        if not isinstance(content, dict) or not content:
            raise UserError(f"--labels: {path} holds no dictionary of videos; give {_WANTED}")
        videos = each(lambda item: _video(*item), content.items())
        classes = _classes(videos)
        test = self._read_test_list({video.name for video in videos})
        listed = (
            ListedClip(
                f"{video.name}.avi",
                video.name.partition("/")[0],
                "test" if video.name in test else "train",
                f"{_PICKLE}, video {video.name}",
                truth=video.truth,
            )
            for video in videos
        )

        def is_of_another_class(name: str) -> bool:
            match = _UCF101_NAME.fullmatch(name)
            return match is not None and match["class_name"].casefold() not in {name.casefold() for name in classes}

        located = locate_clips(self.root, listed, self.subset, is_of_another_class)
        return Listing("ucf101_24", str(self.split), self.subset, classes, *located)

    def _read_test_list(self, annotated: set[str]) -> set[str]:
        """Those of the ``annotated`` videos that are to be tested on."""
        path = self.labels / f"testlist{self.split:02d}.txt"
        names = {
            str(PurePosixPath(line).with_suffix("")) if is_named_like_a_video(line) else line
            for _, line in read_lines(path, "--labels", _WANTED)
        }
        if not names & annotated:
            raise UserError(f"--labels: {path} names none of the videos of {_PICKLE}; give {_WANTED}")
        return names & annotated


@dataclass(frozen=True)
class _Video:
    """What is said of one video."""

    name: str
    label: int
    truth: ListedTruth


def _video(name: Any, content: Any) -> _Video:
    where = f"{_PICKLE}, video {name}"
    match content:
        case {"numf": int(frame_count), "label": int(label), "annotations": [_, *_] as tubes}:
            pass
        case _:
            raise UserError(f"{where}: has no numf, label or annotations; fetch the file again")
    class_name, _, clip = clean(str(name)).partition("/")
    if not is_class_name(class_name) or not is_class_name(clip):
        raise UserError(f"{where}: expected <class>/<clip>; fetch the file again")
    rows = each(lambda numbered: _rows(*numbered, label, frame_count, where), enumerate(tubes))
    boxes = ListedBoxes(np.concatenate(rows), where)
    promise = VideoPromise(where, frame_count=frame_count)
    return _Video(f"{class_name}/{clip}", label, ListedTruth(boxes=boxes, segments_from_boxes=True, promise=promise))


def _rows(tube: int, content: Any, label: int, frame_count: int, where: str) -> NDArray:
    """The boxes of one tube, `BOX_DTYPE`."""
    where = f"{where}, tube {tube}"
    match content:
        case {"label": own, "sf": int(start), "ef": int(end), "boxes": PickledArray() as pickled} if own == label:
            pass
        case _:
            raise UserError(f"{where}: has no sf, ef or boxes, or another label than its video; fetch the file again")
    try:
        # In 64 bits: most are stored in 8, in which the sum of a place and a width is too large.
        corner_M4 = np.asarray(pickled).astype(np.int64)
    except (TypeError, ValueError) as error:
        raise UserError(f"{where}: its boxes cannot be read ({error}); fetch the file again") from error
    if not 0 <= start < end <= frame_count or corner_M4.shape != (end - start, 4):
        raise UserError(
            f"{where}: boxes of shape {corner_M4.shape} for frames {start} to {end} of {frame_count}; fetch the file "
            "again"
        )
    if (corner_M4[:, 2:] < 1).any():
        raise UserError(f"{where}: a box without any width or height; fetch the file again")
    corner_M4[:, :2] -= 1
    corner_M4[:, 2:] += corner_M4[:, :2]
    rows = np.zeros(end - start, BOX_DTYPE)
    rows["frame"], rows["tube"], rows["label"] = np.arange(start, end), tube, label
    for side, corner_M in zip(SIDES, corner_M4.T, strict=True):
        rows[side] = corner_M
    return rows


def _classes(videos: list[_Video]) -> tuple[str, ...]:
    """The names of the classes, which the names of the videos tell, in the order of their labels."""
    of_label: dict[int, str] = {}
    problems = []
    for video in videos:
        class_name = video.name.partition("/")[0]
        other = of_label.setdefault(video.label, class_name)
        if other != class_name:
            problems.append(f"{_PICKLE}, video {video.name}: label {video.label} is that of {other!r} too")
    refuse(problems)
    if sorted(of_label) != list(range(len(of_label))):
        raise UserError(f"{_PICKLE}: its labels are {sorted(of_label)}, with gaps; fetch the file again")
    return tuple(of_label[label] for label in range(len(of_label)))
