"""Any data set kept as one folder of videos a class."""

from dataclasses import dataclass
from pathlib import Path

from shards.errors import UserError
from shards.sources.listing import ClipEntry, Listing, read_classes, require_folder, videos_in


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
        classes = read_classes(self.classes) if self.classes else tuple(folder.name for folder in folders)
        clips = tuple(
            ClipEntry(f"{folder.name}/{path.stem}", path, folder.name)
            for folder in folders
            for path in videos_in(folder)
        )
        if not clips:
            raise UserError(f"--root {self.root}: no video in it; the layout is <root>/<class>/<clip>.mp4")
        return Listing(self.dataset, self.split, self.subset, classes, clips)
