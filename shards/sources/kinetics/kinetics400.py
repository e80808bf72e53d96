"""Kinetics-400: some 306,000 clips of ten seconds, each out of another YouTube video, of 400 actions.

Videos are found by YouTube id and time, wherever below the root they lie: ``<id>_000001_000011.mp4`` as the common
downloaders write them, in a folder a class or a subset. ``<id>.mp4`` is taken for the trimmed clip as well, where there
is no file with the times in its name.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from shards.errors import UserError, each
from shards.sources.clip_lists import LocatedClips
from shards.sources.files.video_files import VideoTree, read_video_tree
from shards.sources.kinetics.annotations import Annotation, KineticsClip, read_annotations
from shards.sources.label_files import read_classes
from shards.sources.listing import NO_VIDEO, UNKNOWN_CLASS, ClipEntry, Listing, MissingClip
from shards.sources.remarks import OTHER_ROWS, REPLACED, files_of_two_classes, other_rows, remarks


@dataclass(frozen=True, kw_only=True)
class Kinetics400Source:
    """Kinetics-400, or another Kinetics, by its annotation files."""

    root: Path
    """Folder of the videos: <id>_000001_000011.mp4 or <id>.mp4, in folders or not."""
    annotations: tuple[Path, ...]
    """Annotation files: the official CSV (label,youtube_id,time_start,time_end,split) or JSON, or lists of lines
    '<video> <label index>', which need --classes. Give the same files for every subset, or the labels may differ."""
    subset: Literal["train", "val", "test"] = "train"
    """Which clips: those that the annotations put there. Files that do not say it hold the subset alone."""
    classes: Path | None = None
    """Text file of class names, one a line, in the order of the labels. Without it: all labels annotated, sorted."""

    def __post_init__(self) -> None:
        require_annotations(self.annotations)

    def listing(self) -> Listing:
        """The clips of one subset, in the order of the annotations."""
        classes = read_classes(self.classes) if self.classes else None
        annotated = read_annotations(self.annotations, classes)
        wanted = [annotation for annotation in annotated if annotation.subset in (None, self.subset)]
        if not wanted:
            there = sorted({annotation.subset or "" for annotation in annotated})
            raise UserError(
                f"--subset {self.subset}: the annotations have no clip of it, only of {there}; add its file"
            )
        classes = classes or tuple(sorted({annotation.label for annotation in annotated}))
        located = locate_annotated(self.root, wanted, annotated)
        others = (annotation.subset or "" for annotation in annotated if annotation.subset not in (None, self.subset))
        told = located.remarks | remarks({OTHER_ROWS: other_rows(others)})
        return Listing("kinetics400", "1", self.subset, classes, *located._replace(remarks=told))


def require_annotations(paths: tuple[Path, ...]) -> None:
    """Raise a ValueError unless there is a file."""
    if not paths:
        raise ValueError("annotations must name at least one file")


def locate_annotated(root: Path, wanted: Sequence[Annotation], annotated: Sequence[Annotation]) -> LocatedClips:
    """Find the videos of ``wanted``, in their order. One without a label counts as missing.

    Args:
        root: Folder of the videos.
        wanted: What to look for.
        annotated: All clips that are known; a video of any other is unlisted.

    Raises:
        UserError: ``root`` is no folder, or it is open which file a clip is, or which clip a file.
    """
    tree = read_video_tree(root, "the folder that holds the videos")
    known = {annotation.clip for annotation in annotated}
    parts_of = Counter(clip.youtube_id for clip in known)
    files: defaultdict[str, list[tuple[KineticsClip, str]]] = defaultdict(list)
    listed: set[str] = set()
    for video in tree.videos:
        part = KineticsClip.of_file(video)
        if part and part.youtube_id in parts_of:
            files[part.youtube_id].append((part, video))
            if part.seconds is None or part in known or KineticsClip(part.youtube_id) in known:
                listed.add(video)
    replaced: list[str] = []

    def locate(annotation: Annotation) -> ClipEntry | MissingClip:
        clip, label = annotation.clip, annotation.label
        there = files.get(clip.youtube_id, [])
        videos = _find(tree, clip, there, parts_of[clip.youtube_id])
        replaced.extend(f"{tree.shown(other)}, by {tree.shown(videos[0])}" for other in videos[1:])
        path = tree.path_of(videos[0]) if videos else root / label / f"{clip.stem}.mp4"
        if label == UNKNOWN_CLASS:
            return MissingClip(clip.stem, path, label, "no annotation names its class")
        if videos:
            return ClipEntry(f"{label}/{clip.stem}", path, label)
        reason = f"only another part of its video is there, {tree.shown(there[0][1])}" if there else NO_VIDEO
        return MissingClip(f"{label}/{clip.stem}", path, label, reason)

    located = each(locate, wanted)
    clips = tuple(entry for entry in located if isinstance(entry, ClipEntry))
    return LocatedClips(
        clips,
        tuple(entry for entry in located if isinstance(entry, MissingClip)),
        tree.unlisted(listed.__contains__),
        remarks({REPLACED: replaced}) | files_of_two_classes((tree.file_id(entry), entry) for entry in clips),
    )


def _find(
    tree: VideoTree, clip: KineticsClip, files: list[tuple[KineticsClip, str]], annotated_parts: int
) -> list[str]:
    """The one of the ``files`` of a YouTube video that is ``clip``, then those that it replaces.

    That is the one with the same times, else one without times; the one that is there, if ``clip`` is without times. Of
    several, the one in the folder of replacements is it.
    """
    exact = [video for part, video in files if part == clip]
    videos = exact or [video for part, video in files if clip.seconds is None or part.seconds is None]
    if len(videos) > 1:
        videos.sort(key=_is_replacement, reverse=True)
        if not _is_replacement(videos[0]) or _is_replacement(videos[1]):
            raise UserError(
                f"--root {tree.root}: clip {clip.stem} is there twice, as {tree.shown(videos[0])} and "
                f"{tree.shown(videos[1])}; remove one"
            )
    if videos and not exact and annotated_parts > 1:
        raise UserError(
            f"--root {tree.root}: {tree.shown(videos[0])} may be any of the {annotated_parts} annotated parts of its "
            "video; rename it to <id>_<start>_<end> with six digits each"
        )
    return videos


def _is_replacement(video: str) -> bool:
    """Whether a video lies where CVDF's archives put those that replace corrupt ones."""
    return any(folder.startswith("replacement") for folder in video.split("/")[:-1])
