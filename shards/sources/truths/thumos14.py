"""THUMOS'14: long videos of 20 sports, 200 of them to train on (the validation set) and 213 to test on.

Each subset has one text file a class, ``<class>_val.txt`` or ``<class>_test.txt``, with lines
``<video> <start> <end>``, in seconds. ``Ambiguous_val.txt`` and ``Ambiguous_test.txt`` are of stretches that are taken
out of the evaluation.
"""

from collections import defaultdict
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Literal

from shards.errors import UserError, each
from shards.sources.label_files import read_lines
from shards.sources.listing import Listing
from shards.sources.truths.listed import VideoPromise
from shards.sources.truths.untrimmed import NamedSegment, UntrimmedVideo, named_segment, read_videos, untrimmed_listing

CLASSES = (
    "BaseballPitch",
    "BasketballDunk",
    "Billiards",
    "CleanAndJerk",
    "CliffDiving",
    "CricketBowling",
    "CricketShot",
    "Diving",
    "FrisbeeCatch",
    "GolfSwing",
    "HammerThrow",
    "HighJump",
    "JavelinThrow",
    "LongJump",
    "PoleVault",
    "Shotput",
    "SoccerPenalty",
    "TennisSwing",
    "ThrowDiscus",
    "VolleyballSpiking",
)
AMBIGUOUS = "Ambiguous"
_WANTED = "the folder of THUMOS'14's files <class>_val.txt and <class>_test.txt, or a JSON file of its segments"
_SUBSET_OF_VIDEO = {"video_validation": "val", "video_test": "test"}


@dataclass(frozen=True, kw_only=True)
class Thumos14Source:
    """THUMOS'14: actions in long videos. It is usual to train on its subset val."""

    root: Path
    """Folder of the videos: <root>/video_validation_0000051.mp4, wherever below it."""
    labels: Path
    """Folder of the files of all classes, such as Billiards_val.txt, or one that holds the folders of both subsets; or
    a JSON file of the segments of both subsets, or of the one that is asked for."""
    subset: Literal["val", "test"] = "val"
    """Which subset."""

    def listing(self) -> Listing:
        """The videos of one subset that have an action; each is of the class of most of its segments."""
        if self.labels.is_dir():
            videos = self._read_texts()
        else:
            videos = read_videos(self.labels, "--labels", _WANTED, AMBIGUOUS)
        return untrimmed_listing("thumos14", self.root, self.subset, CLASSES, map(_with_own_subset, videos))

    def _read_texts(self) -> list[UntrimmedVideo]:
        segments: defaultdict[str, list[NamedSegment]] = defaultdict(list)
        for name, segment in chain.from_iterable(each(self._read_class, (*CLASSES, AMBIGUOUS))):
            segments[name].append(segment)
        return [
            UntrimmedVideo(name, self.subset, tuple(found), VideoPromise(found[0].where))
            for name, found in segments.items()
        ]

    def _read_class(self, class_name: str) -> list[tuple[str, NamedSegment]]:
        """The segments of one class, each with the name of its video."""
        name = f"{class_name}_{self.subset}.txt"
        files = [self.labels / name, *sorted(self.labels.glob(f"*/{name}"))]
        path = next((path for path in files if path.is_file()), files[0])

        def read(place: tuple[str, str]) -> tuple[str, NamedSegment]:
            where, line = place
            match line.split():
                case [video, start, end]:
                    where = where.removeprefix(f"{path.parent}/")
                    return video, named_segment((start, end), None if class_name == AMBIGUOUS else class_name, where)
            raise UserError(f"{where}: expected '<video> <start> <end>', found {line!r}; restore the file")

        return each(read, read_lines(path, "--labels", _WANTED))


def _with_own_subset(video: UntrimmedVideo) -> UntrimmedVideo:
    """The name of a video tells its subset, whatever a file calls it."""
    return replace(video, subset=_SUBSET_OF_VIDEO.get(video.name.rpartition("_")[0], video.subset))
