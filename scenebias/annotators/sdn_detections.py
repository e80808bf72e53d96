"""Convert the human detections of SDN into one file of boxes a clip, as ``BoxMasks`` reads them.

"Why Can't I Dance in the Mall?" (NeurIPS 2019) publishes the detections of Mini-Kinetics, made with Detectron, as one
pickled dictionary a subset, ``detection_train_merged_rearranged.npy``: class -> YouTube id -> frame number from 1 ->
'human_boxes', float (n, 5): x1, y1, x2, y2 and score, in pixels of frames scaled to 240 rows. A later release of the
same group wraps the dictionary: 'dets' is it, and 'video_res_info' is (-1, rows). Every frame of a clip has its number
there, so that the largest is their count.

A dictionary of all clips would have to be read whole by each process that packs; files of one clip are read as needed.
The conversion takes the memory that SDN's own code takes to load it, nearly 1 kB a frame.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from scenebias.annotators.pickled_dictionary import read_pickled_dictionary
from scenebias.commands import Command
from shards.errors import UserError
from shards.system.atomic import atomic_write
from shards.system.locks import locked_folder

SDN_FRAME_HEIGHT = 240


@dataclass(frozen=True, kw_only=True)
class ConvertDetections:
    """Write the detections of SDN as one file of boxes a clip, for make_shards --masks."""

    detections: Annotated[Path, tyro.conf.Positional]
    """A pickled dictionary of SDN, such as detection_train_merged_rearranged.npy. It is read without being run."""
    out: Annotated[Path, tyro.conf.Positional]
    """Folder for the files <class>/<clip>.json."""


def main(config: ConvertDetections) -> None:
    """Write the detections of SDN as one file of boxes a clip, for make_shards --masks."""
    count = convert_detections(config.detections, config.out)
    print(f"wrote the boxes of {count} clips; give them to make_shards as --masks {config.out}")


def convert_detections(path: Path, folder: Path) -> int:
    """Write ``folder/<class>/<clip>.json`` for every clip in ``path``, and return how many there are.

    Raises:
        UserError: the file is no such dictionary, or a file cannot be written.
    """
    content = read_pickled_dictionary(path)
    height, classes = SDN_FRAME_HEIGHT, content
    try:
        if "dets" in content:
            height, classes = int(content["video_res_info"][1]), content["dets"]
        count = 0
        with locked_folder(folder, str(folder), "writing to"):
            for class_name, clips in classes.items():
                for clip, frames in clips.items():
                    if not frames:
                        continue
                    target = folder / _plain_name(class_name) / f"{_plain_name(clip)}.json"
                    document = _document(frames, height)
                    target.parent.mkdir(exist_ok=True)
                    with atomic_write(target) as file:
                        file.write(json.dumps(document).encode())
                    count += 1
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise UserError(
            f"{path}: not laid out as the detections of SDN are ({error!r}); it must map class, clip and frame number "
            "to 'human_boxes'"
        ) from error
    except OSError as error:
        raise UserError(f"{folder} cannot be written ({error.strerror}): choose another folder") from error
    return count


def _document(frames: dict[int, dict[str, Any]], height: int) -> dict[str, Any]:
    """The boxes of one clip as ``BoxMasks`` describes them."""
    found = list(_boxes(frames))
    return {
        "frame_count": max(frames),
        "height": height,
        "frames": [frame for frame, *_ in found],
        "boxes": [box for _, box, _ in found],
        "scores": [score for *_, score in found],
    }


def _boxes(frames: dict[int, dict[str, Any]]) -> Iterator[tuple[int, list[float], float]]:
    """Yield frame number from 0, box and score of every detection."""
    for number, detections in sorted(frames.items()):
        boxes_n5 = np.asarray(detections["human_boxes"]).astype(np.float64)
        if boxes_n5.shape != (len(boxes_n5), 5):
            raise ValueError(f"boxes of shape {boxes_n5.shape}")
        # Detectron's x2 and y2 are the last pixels of a box; ours are where it ends.
        boxes_n5[:, 2:4] += 1
        for *box, score in boxes_n5.tolist():
            yield number - 1, [round(edge, 2) for edge in box], float(f"{score:.9g}")


def _plain_name(name: object) -> str:
    """Return ``name`` if it is the name of a file or folder and leads nowhere else."""
    if not isinstance(name, str) or name in ("", ".", "..") or "/" in name or "\0" in name:
        raise ValueError(f"{name!r} is no name of a class or clip")
    return name


COMMAND = Command(
    main=main,
    options=ConvertDetections,
    example="python -m scenebias.annotators.sdn_detections detection_train_merged_rearranged.npy "
    "data/masks/mini-kinetics",
)

if __name__ == "__main__":
    COMMAND.run()
