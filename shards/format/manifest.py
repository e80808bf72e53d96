"""The manifest of a packed data set: what it is, what it was made from, and what is not in it. Written last."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self, get_args, get_origin, get_type_hints

from shards.errors import UserError
from shards.format.focus import WHOLE_FRAMES, Focus
from shards.system.atomic import write_json
from shards.system.checksums import sha256_of

MANIFEST_NAME = "manifest.json"
FORMAT_VERSION = 2
# What the digest leaves out; what of each frame is stored, the checksums of the shards tell.
_LATER_COUNTS = ("segments", "boxes")
_CIRCUMSTANCES = ("provenance", "missing", "broken", "focus")


@dataclass(frozen=True, kw_only=True)
class ShardRecord:
    """One tar file of the data set."""

    name: str
    """Its file name."""
    bytes: int
    """Its size."""
    samples: int
    """Stored clips."""
    masks: int
    """Those of them that have human masks."""
    scenes: int
    """Those of them that have a scene label."""
    sha256: str
    """Its checksum, in hexadecimal."""
    segments: int = 0
    """Those of its clips in which actions are marked in time."""
    boxes: int = 0
    """Those of its clips in which actors are marked by boxes."""

    def matches(self, directory: Path) -> bool:
        """Whether the file in ``directory`` still has the bytes that were written; reads all of it."""
        return sha256_of(directory / self.name) == self.sha256


@dataclass(frozen=True, kw_only=True)
class AbsentClip:
    """A clip of the listing that is not in the shards."""

    name: str
    """"class/clip" without extension."""
    class_name: str
    """Action class; empty where no list tells it."""
    reason: str
    """Why it is absent."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A packed data set."""

    dataset: str
    """For example "ucf101"."""
    split: str
    """Split of the data set, for example "1"."""
    subset: str
    """For example "train" or "test"."""
    classes: tuple[str, ...]
    """Names of the action classes, in the order of their labels."""
    frame_height: int
    """Rows of a stored frame."""
    quality: int
    """JPEG quality of film strips; of video, its constant rate factor."""
    class_counts: tuple[int, ...] = ()
    """Stored clips by class, in the order of ``classes``; filled in by the writer."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """What the clips were packed from and with: options, versions."""
    missing: tuple[AbsentClip, ...] = ()
    """Clips of the listing whose files were not found."""
    broken: tuple[AbsentClip, ...] = ()
    """Clips whose files could not be decoded or annotated."""
    shards: tuple[ShardRecord, ...] = ()
    """The tar files, in order; filled in by the writer."""
    codec: str = "filmstrip"
    """How frames are stored."""
    format_version: int = FORMAT_VERSION
    """Version of this format."""
    focus: Focus = WHOLE_FRAMES
    """What of each frame is stored."""

    @property
    def sample_count(self) -> int:
        """Stored clips."""
        return sum(shard.samples for shard in self.shards)

    @property
    def mask_count(self) -> int:
        """Stored clips that have human masks."""
        return sum(shard.masks for shard in self.shards)

    @property
    def scene_count(self) -> int:
        """Stored clips that have a scene label."""
        return sum(shard.scenes for shard in self.shards)

    @property
    def has_truth(self) -> bool:
        """Whether actions or actors are marked within any clip."""
        return any(shard.segments or shard.boxes for shard in self.shards)

    @property
    def has_sources(self) -> bool:
        """Whether the packer says that `sources.npy` lies beside it; earlier versions wrote none."""
        return bool(self.provenance.get("sources"))

    @property
    def digest(self) -> str:
        """SHA-256 of what is stored, through the shards' checksums: the same wherever and whenever it was packed."""
        content = {name: value for name, value in self._values().items() if name not in _CIRCUMSTANCES}
        canonical = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def save(self, directory: Path) -> None:
        """Write `manifest.json`, whose presence says that the data set is complete."""
        value = self._values()
        if self.focus == WHOLE_FRAMES:
            del value["focus"]
        write_json(directory / MANIFEST_NAME, value)

    def _values(self) -> dict[str, Any]:
        """All fields as JSON values, without counts that earlier versions did not have and that are 0."""
        value = asdict(self)
        for record in value["shards"]:
            for name in _LATER_COUNTS:
                if not record[name]:
                    del record[name]
        return value

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read `manifest.json`.

        Raises:
            UserError: it is absent, not JSON, of another version, or lacks a field or has one of another type.
        """
        path = directory / MANIFEST_NAME
        try:
            value = json.loads(path.read_bytes())
        except (FileNotFoundError, NotADirectoryError) as error:
            raise UserError(
                f"{directory} is not a packed data set (it has no {MANIFEST_NAME}); run tools/make_shards.py"
            ) from error
        except ValueError as error:
            raise UserError(
                f"{path} is not JSON ({error}); pack again with tools/make_shards.py --overwrite"
            ) from error
        version = value.get("format_version") if isinstance(value, dict) else None
        if version != FORMAT_VERSION:
            raise UserError(
                f"{path} has format version {version}, this program reads {FORMAT_VERSION}; "
                "pack again with tools/make_shards.py --overwrite"
            )
        try:
            value["classes"] = tuple(value["classes"])
            value["class_counts"] = tuple(value["class_counts"])
            value["shards"] = tuple(ShardRecord(**record) for record in value["shards"])
            value["missing"] = tuple(AbsentClip(**clip) for clip in value["missing"])
            value["broken"] = tuple(AbsentClip(**clip) for clip in value["broken"])
            if "focus" in value:
                value["focus"] = Focus(**value["focus"])
            manifest = cls(**value)
            for record in (manifest, *manifest.shards, *manifest.missing, *manifest.broken):
                _check_types(record)
            if len(manifest.class_counts) != len(manifest.classes):
                raise ValueError(f"{len(manifest.class_counts)} class_counts of {len(manifest.classes)} classes")
            return manifest
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{path} lacks or misnames a field, or one is damaged ({error}); "
                "pack again with tools/make_shards.py --overwrite"
            ) from error


# Worked out once: there are many records.
_FIELD_TYPES: dict[type, dict[str, Any]] = {kind: get_type_hints(kind) for kind in (ShardRecord, AbsentClip, Manifest)}


def _check_types(record: object) -> None:
    """Raise a TypeError that names a field whose value, or an element of it, is not what the dataclass says."""
    for name, hint in _FIELD_TYPES[type(record)].items():
        value, container = getattr(record, name), get_origin(hint) or hint
        elements = value if container is tuple else ()
        if not isinstance(value, container) or not all(isinstance(element, get_args(hint)[0]) for element in elements):
            raise TypeError(f"{name} is {value!r}")
