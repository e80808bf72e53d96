"""Readers of the data sets' own lists: which clips belong to a subset of a split, and which are missing."""

from shards.sources.csv_file import CsvSource
from shards.sources.diving48 import Diving48Source
from shards.sources.folder import FolderSource
from shards.sources.hmdb51 import Hmdb51Source
from shards.sources.jhmdb import JhmdbSource
from shards.sources.kinetics.kinetics400 import Kinetics400Source
from shards.sources.kinetics.mini_kinetics import MiniKinetics200Source
from shards.sources.listing import ClipEntry, Listing, MissingClip, Source
from shards.sources.truths.activitynet import ActivityNetSource
from shards.sources.truths.thumos14 import Thumos14Source
from shards.sources.truths.ucf101_24 import Ucf10124Source
from shards.sources.ucf101 import Ucf101Source

__all__ = [
    "ActivityNetSource",
    "ClipEntry",
    "CsvSource",
    "Diving48Source",
    "FolderSource",
    "Hmdb51Source",
    "JhmdbSource",
    "Kinetics400Source",
    "Listing",
    "MiniKinetics200Source",
    "MissingClip",
    "Source",
    "Thumos14Source",
    "Ucf101Source",
    "Ucf10124Source",
]
