"""Readers of the data sets' own lists: which clips belong to a subset of a split, and which are missing."""

from shards.sources.csv_file import CsvSource
from shards.sources.folder import FolderSource
from shards.sources.jhmdb import JhmdbSource
from shards.sources.listing import ClipEntry, Listing, Source

__all__ = ["ClipEntry", "CsvSource", "FolderSource", "JhmdbSource", "Listing", "Source"]
