"""Any data set kept as one folder of videos a class."""

from dataclasses import dataclass
from pathlib import Path

from shards.errors import UserError
from shards.sources.listing import Listing, clips_in, read_classes, require_folder, utf8_name


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
        require_folder(self.root, "--root", "one folder of videos a class")
        folders = sorted(path for path in self.root.iterdir() if path.is_dir() and not path.name.startswith("."))
        for folder in folders:
            if folder.name != utf8_name(folder.name):
                raise UserError(f"--root {self.root}: the name of folder {folder.name!r} is not UTF-8: rename it")
        classes = read_classes(self.classes) if self.classes else tuple(folder.name for folder in folders)
        clips = tuple(entry for folder in folders for entry in clips_in(folder))
        if not clips:
            raise UserError(f"--root {self.root}: no video in it; the layout is <root>/<class>/<clip>.mp4")
        return Listing(self.dataset, self.split, self.subset, classes, clips)
