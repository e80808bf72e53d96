"""Any data set kept as one folder of videos a class."""

from dataclasses import dataclass
from pathlib import Path

from shards.errors import UserError, refuse
from shards.sources.files.video_files import VideoTree, read_video_tree
from shards.sources.label_files import read_classes
from shards.sources.listing import NO_VIDEO, ClipEntry, Listing, MissingClip, utf8_name
from shards.sources.remarks import (
    FOLDERS_OF_FOLDERS,
    FOLDERS_WITHOUT_VIDEO,
    OTHER_COLUMNS,
    files_of_two_classes,
    remarks,
)
from shards.sources.texts import clean, look_alikes
from shards.sources.truths.own import TruthFiles, clip_name


@dataclass(frozen=True, kw_only=True)
class FolderSource(TruthFiles):
    """Videos as <root>/<class>/<clip>.mp4 (or .avi, .mkv, ...); with --segments or --boxes anywhere below <root>.

    Videos in folders below that of their class are clips of it too, named by their path: <class>/<folder>/<clip>.
    """

    root: Path
    """Folder that holds one folder of videos a class, or, with --segments or --boxes, the videos."""
    dataset: str = "folder"
    """Name of the data set, kept in the manifest."""
    split: str = "1"
    """Name of the split, kept in the manifest."""
    subset: str = "all"
    """Name of the subset, kept in the manifest: train, test, ..."""
    classes: Path | None = None
    """Text file of class names, one a line, in the order of the labels. Without it: the names of the folders that hold
    videos, sorted. Give it when the subsets do not all hold every class, or their labels would not agree."""

    def listing(self) -> Listing:
        """Every video in and below every class folder; or every one of which the files of truth speak."""
        tree = read_video_tree(self.root, "the folder that holds the videos")
        if self.has_truth:
            return self._annotated(tree)
        names = self._class_names(tree)
        clips = tuple(tree.clips(frozenset(names), deep=True))
        if not clips:
            raise UserError(f"--root {self.root}: no video in it; the layout is <root>/<class>/<clip>.mp4")
        with_video = {entry.class_name for entry in clips}
        return Listing(
            self.dataset,
            self.split,
            self.subset,
            read_classes(self.classes) if self.classes else tuple(sorted(with_video)),
            clips,
            unlisted=tree.unlisted(lambda video: "/" in video),
            remarks=remarks(
                {
                    FOLDERS_WITHOUT_VIDEO: (name for name in names if name not in with_video),
                    FOLDERS_OF_FOLDERS: sorted(with_video) if _hold_folders_alone(tree) else (),
                }
            )
            | files_of_two_classes((tree.file_id(entry), entry) for entry in clips),
        )

    def _annotated(self, tree: VideoTree) -> Listing:
        """The videos in which something happens."""
        truths = self.truths_of(tree.videos, read_classes(self.classes) if self.classes else None)
        clips = tuple(
            ClipEntry(clip_name(video.class_name, path), tree.path_of(path), video.class_name, truth=video.truth)
            for path, video in truths.videos.items()
            if video.class_name is not None
        )
        missing = (
            MissingClip(clip_name(class_name, name), self.root / name, class_name, f"{where}: {NO_VIDEO}")
            for name, (class_name, where) in truths.strangers.items()
        )
        kept = [path for path in truths.videos if truths.class_of(path) is not None]
        return Listing(
            self.dataset,
            self.split,
            self.subset,
            truths.classes,
            clips,
            tuple(missing),
            unlisted=tree.unlisted(lambda video: video in truths.videos),
            remarks=remarks({OTHER_COLUMNS: truths.other_columns})
            | truths.remarks(kept, (path for path in truths.videos if truths.class_of(path) is None))
            | files_of_two_classes((tree.file_id(entry), entry) for entry in clips),
            may_lack_classes=True,
        )

    def _class_names(self, tree: VideoTree) -> list[str]:
        """What the folders are called, which must differ in more than case and spaces."""
        folders = [folder for folder in tree.folders if folder and "/" not in folder]
        refuse(
            f"--root {self.root}: the name of folder {folder!r} is not UTF-8: rename it"
            for folder in folders
            if folder != utf8_name(folder)
        )
        holding = {video.partition("/")[0] for video in tree.videos if "/" in video}
        on_disk: dict[str, str] = {}
        problems = []
        for folder in sorted(folders, key=lambda folder: folder not in holding):
            other = on_disk.setdefault(clean(folder), folder)
            if other != folder and {folder, other} <= holding:
                problems.append(
                    f"--root {self.root}: folders {other!a} and {folder!a} are of one class, whose name they "
                    "write differently; put their videos into one"
                )
        places = {name: f"--root {self.root}" for name, folder in on_disk.items() if folder in holding}
        refuse([*problems, *look_alikes(places, "folder")])
        return list(on_disk)


def _hold_folders_alone(tree: VideoTree) -> bool:
    """Whether no class folder holds a video itself: then their folders may be the classes."""
    return not any(video.count("/") == 1 for video in tree.videos)
