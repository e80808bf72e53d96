"""ActivityNet 1.3: 19,994 videos from YouTube, of 200 activities; those of the testing subset have no public labels."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from shards.sources.label_files import read_classes
from shards.sources.listing import Listing
from shards.sources.truths.untrimmed import UntrimmedVideo, read_videos, untrimmed_listing

_WANTED = "activity_net.v1-3.min.json, or another JSON file of ActivityNet's segments"
_ID_LETTERS = 11


@dataclass(frozen=True, kw_only=True)
class ActivityNetSource:
    """ActivityNet 1.3: activities in long videos."""

    root: Path
    """Folder of the videos: <root>/v_<YouTube id>.mp4, wherever below it."""
    labels: Path
    """The JSON file, such as activity_net.v1-3.min.json. One that tells no subsets must hold the wanted one alone."""
    subset: Literal["train", "val"] = "train"
    """Which subset."""
    classes: Path | None = None
    """Text file of class names, one a line, in the order of the labels. Without it: all labels of the file, sorted."""

    def listing(self) -> Listing:
        """The videos of one subset that have an activity; each is of the class of most of its segments."""
        videos = map(_with_file_name, read_videos(self.labels, "--labels", _WANTED))
        classes = read_classes(self.classes) if self.classes else None
        return untrimmed_listing("activitynet", self.root, self.subset, classes, videos)


def _with_file_name(video: UntrimmedVideo) -> UntrimmedVideo:
    """Files are called ``v_<id>``, and so are the videos in some JSON files; an id may begin with these letters too."""
    return replace(video, name=f"v_{video.name}") if len(video.name) == _ID_LETTERS else video
