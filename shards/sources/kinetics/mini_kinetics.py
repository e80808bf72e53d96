"""Mini-Kinetics-200: 85,000 clips of 200 actions out of Kinetics-400, listed as bare YouTube ids.

The lists name no classes: these come from annotations of Kinetics-400, joined by id.
"""

from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from shards.errors import UserError, refuse
from shards.sources.kinetics.annotations import Annotation, KineticsClip, read_annotations
from shards.sources.kinetics.kinetics400 import locate_annotated, require_annotations
from shards.sources.label_files import read_classes, read_lines, require_folder
from shards.sources.listing import UNKNOWN_CLASS, Listing
from shards.sources.remarks import OTHER_ROWS, other_rows, remarks

_WANTED = "the folder of Mini-Kinetics' train_ytid_list.txt and val_ytid_list.txt"


@dataclass(frozen=True, kw_only=True)
class MiniKinetics200Source:
    """Mini-Kinetics-200: its own lists of YouTube ids, with the classes of Kinetics-400's annotations."""

    root: Path
    """Folder of the videos: <id>_000001_000011.mp4 or <id>.mp4, in folders or not."""
    labels: Path
    """Folder of the lists: train_ytid_list.txt and val_ytid_list.txt."""
    annotations: tuple[Path, ...]
    """Annotation files of Kinetics-400, those of train and val: the official CSV or JSON, or lists of lines
    '<video> <label index>', which need --label-map."""
    subset: Literal["train", "val"] = "train"
    """Which of the two lists."""
    classes: Path | None = None
    """Text file of class names, one a line, in the order of the labels. Without it: the labels of all clips of both
    lists, sorted."""
    label_map: Path | None = None
    """Text file of the class names that the label indices of --annotations count. Without it: --classes."""

    def __post_init__(self) -> None:
        require_annotations(self.annotations)

    def listing(self) -> Listing:
        """The clips of one list, in its order; an id that no annotation names is missing, of unknown class."""
        require_folder(self.labels, "--labels", _WANTED)
        ids = self._read_ids()
        classes = read_classes(self.classes) if self.classes else None
        label_map = read_classes(self.label_map, "--label-map") if self.label_map else classes
        annotated = read_annotations(self.annotations, label_map)
        annotation_of = _by_id(annotated, ids)
        if not annotation_of:
            raise UserError("--annotations: they name none of the ids in --labels; give those of Kinetics-400")
        classes = classes or tuple(sorted({annotation.label for annotation in annotation_of.values()}))
        joined = {
            youtube_id: annotation_of.get(youtube_id)
            or Annotation(KineticsClip(youtube_id), UNKNOWN_CLASS, None, where)
            for youtube_id, (_, where) in ids.items()
        }
        wanted = [joined[youtube_id] for youtube_id, (subset, _) in ids.items() if subset == self.subset]
        located = locate_annotated(self.root, wanted, [*annotated, *joined.values()])
        others = (subset for subset, _ in ids.values() if subset != self.subset)
        told = located.remarks | remarks({OTHER_ROWS: other_rows(others)})
        return Listing("mini_kinetics", "1", self.subset, classes, *located._replace(remarks=told))

    def _read_ids(self) -> dict[str, tuple[str, str]]:
        """Map the YouTube ids of both lists to their subset and their line."""
        ids: dict[str, tuple[str, str]] = {}
        problems = []
        for subset in ("train", "val"):
            for where, line in read_lines(self.labels / f"{subset}_ytid_list.txt", "--labels", _WANTED):
                if KineticsClip.of_file(line) != KineticsClip(line):
                    problems.append(
                        f"{where}: expected a YouTube id of 11 characters, found {line!r}; restore the file"
                    )
                elif line in ids:
                    problems.append(
                        f"{where}: {line} is listed already, in {ids[line][1]}; remove one of the two lines"
                    )
                else:
                    ids[line] = (subset, where)
        refuse(problems)
        return ids


def _by_id(annotations: list[Annotation], ids: Container[str]) -> dict[str, Annotation]:
    """Map ``ids`` to their annotations. Of several parts of one video, all of one class, the first counts."""
    annotation_of: dict[str, Annotation] = {}
    problems = []
    for annotation in annotations:
        youtube_id = annotation.clip.youtube_id
        if youtube_id in ids:
            other = annotation_of.setdefault(youtube_id, annotation)
            if annotation.label != other.label:
                problems.append(
                    f"{annotation.where}: video {youtube_id} is {annotation.label!r} here, but {other.label!r} in "
                    f"{other.where}; Mini-Kinetics lists it only once, so remove one of the two lines"
                )
    refuse(problems)
    return annotation_of
