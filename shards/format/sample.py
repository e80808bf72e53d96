"""The contract of one stored sample: what its components are called, what they hold, and what must agree.

| component                                     | what                                                           |
|-----------------------------------------------|----------------------------------------------------------------|
| `frames.jpg` or `000.frames.jpg`, `001.…`, …  | the clip's parts: film strips,                                 |
| or `000.video.mp4`, `001.video.mp4`, …        | or video segments                                              |
| `masks.npy`                                   | uint8 (N, h, ceil(w / 8)), human masks; absent where none      |
| `scene.npy`                                   | float16 (365,), soft scene label, sums to 1; absent where none |
| `segments.json`                               | actions in time, `Segment`s; absent where nobody looked        |
| `boxes.npy`                                   | actors in frames, `BOX_DTYPE` (M,); absent where nobody looked |
| `cls`                                         | the action class, an ASCII integer                             |
| `json`                                        | ClipInfo                                                       |
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from typing import Self

import numpy as np
from numpy.typing import NDArray

from shards.codecs.masks import npy_array, npy_bytes, packed_width
from shards.codecs.parts import LazyParts
from shards.codecs.registry import FILMSTRIP, part_format
from shards.errors import UserError
from shards.format.truth import (
    NO_TRUTH,
    Truth,
    box_problems,
    duration_of,
    read_segments,
    segment_problems,
    segments_bytes,
)

SCENE_COUNT = 365  # classes of Places365
SCENE_SUM_TOLERANCE = 1e-2  # 365 roundings to float16

MASKS, SCENE, LABEL, INFO = "masks.npy", "scene.npy", "cls", "json"
SEGMENTS, BOXES = "segments.json", "boxes.npy"


@dataclass(frozen=True)
class Crop:
    """The part of a clip's frames that is stored, in pixels of its video, turned upright and not stretched."""

    left: int
    """Its first column."""
    top: int
    """Its first row."""
    width: int
    """Columns."""
    height: int
    """Rows."""
    on_person: bool
    """Whether it is around people; otherwise no mask shows any, and it is the centre of the frame."""

    def cut(self, mask_NHW: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """This part of masks (frames, height, width) that are as large as the video."""
        return mask_NHW[:, self.top : self.top + self.height, self.left : self.left + self.width]


@dataclass(frozen=True, kw_only=True)
class ClipInfo:
    """What is known of a clip beside its pixels."""

    name: str
    """"class/clip" without extension, as the data set calls it."""
    class_name: str
    """Action class."""
    fps: float
    """Frames a second of the source video."""
    frame_count: int
    """Stored frames, N."""
    width: int
    """Columns of a stored frame."""
    height: int
    """Rows of a stored frame."""
    mask_width: int = 0
    """Columns of a stored mask; 0 without masks."""
    mask_height: int = 0
    """Rows of a stored mask; 0 without masks."""
    person_share: float | None = None
    """Share of the frames whose mask has a person in it, in [0, 1]; None without masks."""
    source_sha256: str = ""
    """Checksum of the source video, in hexadecimal."""
    source_frames: tuple[int, int] | None = None
    """The clip is these frames of its source, ``start <= n < end``; None: all of them, or not known which."""
    codec: str = FILMSTRIP
    """How the frames are stored."""
    crop: Crop | None = None
    """The part of the source's frames that is stored; None: all of them."""
    key_frames_only: bool = False
    """Whether nothing is known of frames without a box, where there are boxes."""

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Read the `json` component; fields of later versions are passed over, and older ones had neither `codec` nor
        `source_frames`.

        Raises:
            ValueError: not JSON, or a field is missing.
        """
        value = json.loads(data)
        try:
            known = {"codec": FILMSTRIP, "crop": None, "source_frames": None, "key_frames_only": False} | value
            known["crop"] = known["crop"] and Crop(**known["crop"])
            if known["source_frames"] is not None:
                start, end = known["source_frames"]
                known["source_frames"] = (int(start), int(end))
            return cls(**{field.name: known[field.name] for field in fields(cls)})
        except (KeyError, TypeError) as error:
            raise ValueError(f"the json component lacks {error}") from error

    def to_json(self) -> bytes:
        value = asdict(self)
        for name, usual in (("crop", None), ("source_frames", None), ("key_frames_only", False)):
            if value[name] == usual:
                del value[name]
        return json.dumps(value, sort_keys=True, ensure_ascii=False).encode()


@dataclass(frozen=True, eq=False, kw_only=True)
class Sample:
    """One clip with its labels, as it goes into a shard."""

    label: int
    """Index of the action class."""
    info: ClipInfo
    """What is known of the clip."""
    parts: Sequence[bytes]
    """Film strips or video segments, as ``info.codec`` says, in order."""
    masks: NDArray[np.uint8] | None = None
    """uint8 (N, h, ceil(w / 8)) as `pack_masks` gives, or None."""
    scene: NDArray[np.float16] | None = None
    """float16 (365,), sums to 1, or None."""
    truth: Truth = NO_TRUTH
    """What is annotated within the clip."""

    def components(self) -> Mapping[str, bytes]:
        """Return the components in the order in which a shard holds them; parts are loaded when they are asked for.

        Raises:
            UserError: parts of the sample do not agree; the sentence names the clip.
        """
        problem = next(self.problems(), None)
        if problem is not None:
            raise UserError(f"clip {self.info.name!r} cannot be stored: {problem}")
        components: dict[str, bytes] = {}
        if self.masks is not None:
            components[MASKS] = npy_bytes(self.masks)
        if self.scene is not None:
            components[SCENE] = npy_bytes(self.scene)
        if self.truth.segments is not None:
            components[SEGMENTS] = segments_bytes(self.truth.segments)
        if self.truth.boxes is not None:
            components[BOXES] = npy_bytes(self.truth.boxes)
        components |= {LABEL: str(self.label).encode(), INFO: self.info.to_json()}
        names = part_names(self.info.codec, len(self.parts))
        return LazyComponents(
            {name: partial(self.parts.__getitem__, number) for number, name in enumerate(names)}
            | {name: partial(bytes, data) for name, data in components.items()}
        )

    @classmethod
    def from_components(cls, components: Mapping[str, bytes]) -> Self:
        """Read a sample back from its components; the parts are taken when they are asked for, and not looked into.

        Raises:
            ValueError: a component is missing or cannot be read.
        """
        if missing := {LABEL, INFO} - components.keys():
            raise ValueError(f"components are missing: {', '.join(sorted(missing))}")
        info = ClipInfo.from_json(components[INFO])
        return cls(
            label=int(components[LABEL]),
            info=info,
            parts=LazyParts([partial(components.__getitem__, name) for name in find_parts(components, info.codec)]),
            masks=npy_array(components[MASKS]) if MASKS in components else None,
            scene=npy_array(components[SCENE]) if SCENE in components else None,
            truth=truth_of(components, info),
        )

    def problems(self) -> Iterator[str]:
        """Tell, one clause each, what does not agree."""
        info = self.info
        if self.label < 0:
            yield f"label must be at least 0, got {self.label}"
        if not info.fps > 0:
            yield f"fps must be above 0, got {info.fps}"
        try:
            headers = [part_format(info.codec).header(part) for part in self.parts]
        except ValueError as error:
            yield str(error)
            return
        if (stored := sum(header.frame_count for header in headers)) != info.frame_count:
            yield f"its parts hold {stored} frames, its information says {info.frame_count}"
        for header in headers:
            if (header.width, header.height) != (info.width, info.height):
                yield (
                    f"a part has frames of {header.width}x{header.height}, "
                    f"its information says {info.width}x{info.height}"
                )
        yield from self._mask_problems()
        yield from self._scene_problems()
        yield from self._truth_problems()

    def _mask_problems(self) -> Iterator[str]:
        info = self.info
        if self.masks is None:
            if info.mask_width or info.mask_height or info.person_share is not None:
                yield "its information tells of masks, but there are none"
            return
        expected = (info.frame_count, info.mask_height, packed_width(info.mask_width))
        if self.masks.dtype != np.uint8 or self.masks.shape != expected or 0 in expected:
            yield f"masks must be uint8 {expected} and not empty, got {self.masks.dtype} {self.masks.shape}"
        if info.person_share is None or not 0 <= info.person_share <= 1:
            yield f"person_share must be in [0, 1] where there are masks, got {info.person_share}"

    def _scene_problems(self) -> Iterator[str]:
        if self.scene is None:
            return
        if self.scene.dtype != np.float16 or self.scene.shape != (SCENE_COUNT,):
            yield f"scene must be float16 ({SCENE_COUNT},), got {self.scene.dtype} {self.scene.shape}"
            return
        total = float(self.scene.sum(dtype=np.float64))
        if not np.all(self.scene >= 0) or not abs(total - 1) <= SCENE_SUM_TOLERANCE:
            yield f"scene must be probabilities that sum to 1, the sum is {total:.4f}"

    def _truth_problems(self) -> Iterator[str]:
        info, truth = self.info, self.truth
        if truth.segments is not None:
            yield from segment_problems(truth.segments, duration_of(info.frame_count, info.fps))
        if truth.boxes is not None:
            yield from box_problems(truth.boxes, info.frame_count, info.width, info.height)
        if truth.key_frames_only != info.key_frames_only or (info.key_frames_only and truth.boxes is None):
            yield "its information tells of key frames, but its boxes do not"


class LazyComponents(Mapping[str, bytes]):
    """The components of a sample by name, each loaded whenever it is asked for.

    Args:
        loads: What returns the bytes of each.
    """

    def __init__(self, loads: Mapping[str, Callable[[], bytes]]) -> None:
        self._loads = loads

    def __getitem__(self, name: str) -> bytes:
        return self._loads[name]()

    def __contains__(self, name: object) -> bool:
        return name in self._loads

    def __iter__(self) -> Iterator[str]:
        return iter(self._loads)

    def __len__(self) -> int:
        return len(self._loads)


def truth_of(components: Mapping[str, bytes], info: ClipInfo) -> Truth:
    """What is annotated within a clip, of whose ``components`` only those that tell it are needed.

    Raises:
        ValueError: one of them cannot be read.
    """
    return Truth(
        segments=read_segments(components[SEGMENTS]) if SEGMENTS in components else None,
        boxes=npy_array(components[BOXES]) if BOXES in components else None,
        key_frames_only=info.key_frames_only,
    )


def part_names(codec: str, count: int) -> list[str]:
    """The components that hold ``count`` parts; a film strip that is alone has no number."""
    component = part_format(codec).component
    if codec == FILMSTRIP and count == 1:
        return [component]
    return [f"{number:03d}.{component}" for number in range(count)]


def find_parts(names: Iterable[str], codec: str) -> list[str]:
    """Those of a sample's components that hold its parts, in order.

    Raises:
        ValueError: there are none, or an unknown codec.
    """
    component = part_format(codec).component
    found = sorted((name for name in names if name.endswith(component)), key=lambda name: (len(name), name))
    if not found:
        raise ValueError(f"components are missing: {component}")
    return found
