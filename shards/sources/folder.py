"""Any data set kept as one folder of videos a class."""

from dataclasses import dataclass
from pathlib import Path

from shards.errors import UserError
from shards.sources.label_files import read_classes
from shards.sources.listing import Listing, utf8_name
from shards.sources.video_files import read_video_tree


@dataclass(frozen=True, kw_only=True)
class FolderSource:
    """Videos as <root>/<class>/<clip>.mp4 (or .avi, .mkv, ...)."""

    root: Path
    """Folder that holds one folder of videos a class."""
    dataset: str = "folder"
    """Name of the data set, kept in the manifest."""
    split: str = "1"
    """Name of the split, kept in the manifest."""
    subset: str = "all"
    """Name of the subset, kept in the manifest: train, test, ..."""
    classes: Path | None = None
    """Text file of class names, one a line, in the order of the labels. Without it: the folders' names, sorted. Give
    it when the subsets do not all hold every class, or their labels would not agree."""

    def listing(self) -> Listing:
        """Every video of every class folder."""
        tree = read_video_tree(self.root, "the folder that holds one folder of videos a class")
        folders = [folder for folder in tree.folders if folder and "/" not in folder]
        for folder in folders:
            if folder != utf8_name(folder):
                raise UserError(f"--root {self.root}: the name of folder {folder!r} is not UTF-8: rename it")
        classes = read_classes(self.classes) if self.classes else tuple(folders)
        clips = tuple(tree.clips(frozenset(folders)))
        if not clips:
            raise UserError(f"--root {self.root}: no video in it; the layout is <root>/<class>/<clip>.mp4")
        unlisted = tree.unlisted(lambda video: video.count("/") == 1)
        return Listing(self.dataset, self.split, self.subset, classes, clips, unlisted=unlisted)
