"""Random access to a packed data set: any frames of any clip, by a few reads of just their bytes."""

import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from tokenize import TokenError
from typing import Self, cast

import numpy as np
from numpy.typing import NDArray

from shards.codecs import Codec, part_format
from shards.errors import UserError
from shards.index import SAMPLE_DTYPE, SAMPLES_NAME, SCENES_NAME, STRIP_DTYPE, STRIPS_NAME, index_problems
from shards.manifest import Manifest
from shards.masks import packed_width
from shards.parts import CodedFrames, DamagedPartError, StoredPart
from shards.sample import INFO, LABEL, MASKS, SCENE, SCENE_COUNT, ClipInfo, Sample, part_names

OPEN_FILES = 256


@dataclass(frozen=True, eq=False)
class StoredClip:
    """Selected frames of one clip, still coded.

    Attributes:
        parts: One JPEG of T * H rows, or the video segments that hold the frames: one after another, their frames are
            the selected ones in order.
        masks: uint8 (T, h, ceil(w / 8)), or None where the clip has none.
    """

    parts: tuple[CodedFrames, ...]
    masks: NDArray[np.uint8] | None

    @property
    def strip(self) -> bytes:
        """The JPEG of a clip that is stored as film strips."""
        (part,) = self.parts
        return part.data


class ShardDataset:
    """A packed data set, opened by mapping its index; the shards are opened as they are read.

    Safe to use from several threads and after a fork; a pickled data set opens its directory again.

    Attributes:
        directory: Where the data set lies.
        manifest: Its manifest.
        codec: How the frames are stored.
        labels: int64 (N,), action classes.
        frame_counts: int64 (N,).
        frame_sizes: int64 (N, 2), height and width of the stored frames.
        shard_starts: int64 (shards + 1,), the first sample of every shard, then N.
        mask_count: Clips that have human masks.
        scene_count: Clips that have a scene label.
        scenes: float16 (N, 365), rows of zeros where a clip has no scene label; None where no clip has one.
    """

    def __init__(
        self, directory: Path, manifest: Manifest, samples: NDArray, strips: NDArray, scenes: NDArray[np.float16] | None
    ) -> None:
        self.directory = directory
        self.manifest = manifest
        self.codec = cast(Codec, manifest.codec)
        self._format = part_format(manifest.codec)
        self._samples = samples
        self._strips = strips
        self.scenes = scenes
        self.labels: NDArray[np.int64] = samples["label"].astype(np.int64)
        self.frame_counts: NDArray[np.int64] = samples["frame_count"].astype(np.int64)
        self.frame_sizes: NDArray[np.int64] = np.stack([samples["height"], samples["width"]], axis=1).astype(np.int64)
        self.shard_starts: NDArray[np.int64] = np.cumsum([0] + [shard.samples for shard in manifest.shards])
        self.mask_count = int(np.count_nonzero(samples["masks"]["bytes"]))
        self.scene_count = int(np.count_nonzero(samples["scene"]["bytes"]))
        self._shard_file: Callable[[int], _ShardFile] = lru_cache(maxsize=OPEN_FILES)(self._open_shard)

    @classmethod
    def open(cls, directory: Path) -> Self:
        """Open a packed data set.

        Raises:
            UserError: it is absent or incomplete, of an unknown codec, or a file of it is missing, cut short or of
                another data set.
        """
        manifest = Manifest.load(directory)
        try:
            part_format(manifest.codec)
        except ValueError as error:
            raise UserError(f"{directory} cannot be read: {error}; pack again with tools/make_shards.py") from error
        _check_shards(directory, manifest)
        count = manifest.sample_count
        samples = _map(directory / SAMPLES_NAME, SAMPLE_DTYPE, (count,))
        strips = _map(directory / STRIPS_NAME, STRIP_DTYPE, (int(samples["strip_count"].sum()),))
        has_scenes = samples["scene"]["bytes"].any()
        scenes = _map(directory / SCENES_NAME, np.dtype("<f2"), (count, SCENE_COUNT)) if has_scenes else None
        return cls(directory, manifest, samples, strips, scenes)

    def __reduce__(self) -> tuple:
        return type(self).open, (self.directory,)

    def __len__(self) -> int:
        return len(self._samples)

    @property
    def has_masks(self) -> bool:
        """Whether any clip has human masks."""
        return self.mask_count > 0

    @property
    def has_scenes(self) -> bool:
        """Whether any clip has a scene label."""
        return self.scene_count > 0

    def mask_size(self, i: int) -> tuple[int, int]:
        """Height and width of the masks of clip ``i``; (0, 0) where it has none."""
        return int(self._samples["mask_height"][i]), int(self._samples["mask_width"][i])

    def info(self, i: int) -> ClipInfo:
        """What is known of clip ``i``, read from its shard.

        Raises:
            UserError: the shard is cut short or damaged.
        """
        sample = self._samples[i]
        place = sample["json"]
        data = self._shard_file(int(sample["shard"])).read(int(place["offset"]), int(place["bytes"]))
        try:
            return ClipInfo.from_json(data)
        except ValueError as error:
            raise self._damaged(i, error) from error

    def read_clip(self, i: int, frame_indices: NDArray[np.int64]) -> StoredClip:
        """Fetch frames of clip ``i``, in any order and with any repetition, and their masks.

        Raises:
            ValueError: an index is outside the clip, or the selection exceeds the `MAX_STRIP_ROWS` of a film strip.
            UserError: the shard is cut short, or a part of the clip is damaged.
        """
        indices = np.asarray(frame_indices)
        sample = self._samples[i]
        shard = self._shard_file(int(sample["shard"]))
        parts = [
            StoredPart(frame_count, header_bytes, size, crc32, partial(shard.read_within, offset))
            for offset, size, crc32, header_bytes, frame_count in self._parts_of(sample).tolist()
        ]
        try:
            selected = self._format.select(parts, indices)
        except DamagedPartError as error:
            raise self._damaged(i, error) from error
        return StoredClip(selected, _read_masks(shard, sample, indices))

    def decode(self, i: int, clip: StoredClip) -> NDArray[np.uint8]:
        """Decode frames of clip ``i`` on the CPU, to look at them: uint8 RGB (T, H, W, 3).

        Raises:
            UserError: a part of the clip is damaged.
        """
        height = int(self.frame_sizes[i][0])
        try:
            return np.concatenate([self._format.decode(part, height) for part in clip.parts])
        except DamagedPartError as error:
            raise self._damaged(i, error) from error

    def verify(self) -> Iterator[str]:
        """Read every byte of every shard and every sample and yield a sentence for each problem found."""
        damaged = False
        for record in self.manifest.shards:
            if not record.matches(self.directory):
                yield f"{self.directory / record.name}: its SHA-256 is not the manifest's"
                damaged = True
        if not damaged:
            problems = list(
                index_problems(self.directory, [self.directory / record.name for record in self.manifest.shards])
            )
            yield from problems
            if problems:
                return  # the samples cannot be found by damaged indexes
        for i in range(len(self)):
            try:
                yield from (f"{self._describe(i)}: {problem}" for problem in self._problems(i))
            except UserError as error:
                yield f"{self._describe(i)}: {error}"

    def _describe(self, i: int) -> str:
        return f"{self.directory / self.manifest.shards[self._samples['shard'][i]].name}, sample {i}"

    def _damaged(self, i: int, error: Exception) -> UserError:
        return UserError(f"{self._describe(i)}: {error}; see how much is damaged with tools/inspect_shards.py --verify")

    def _problems(self, i: int) -> Iterator[str]:
        sample = self._samples[i]
        shard = self._shard_file(int(sample["shard"]))
        parts = self._parts_of(sample)
        places = dict(zip(part_names(self.codec, len(parts)), parts, strict=True))
        places |= {name: sample[field] for name, field in _FIELDS.items() if sample[field]["bytes"]}
        components = {name: shard.read(int(place["offset"]), int(place["bytes"])) for name, place in places.items()}
        damaged = [name for name, data in components.items() if zlib.crc32(data) != places[name]["crc32"]]
        if damaged:
            yield f"the checksum of {', '.join(damaged)} is wrong"
            return
        try:
            stored = Sample.from_components(components)
            for part in stored.parts:
                part_format(stored.info.codec).check(part)
        except ValueError as error:
            yield str(error)
            return
        yield from stored.problems()
        if stored.label != sample["label"]:
            yield f"its label is {stored.label}, the index says {sample['label']}"
        if self.scenes is not None and stored.scene is not None and not np.array_equal(stored.scene, self.scenes[i]):
            yield f"its scene label is not that of {SCENES_NAME}"

    def _parts_of(self, sample: np.void) -> NDArray:
        first = int(sample["first_strip"])
        return self._strips[first : first + int(sample["strip_count"])]

    def _open_shard(self, number: int) -> "_ShardFile":
        return _ShardFile(self.directory / self.manifest.shards[number].name)


_FIELDS = {MASKS: "masks", SCENE: "scene", LABEL: "cls", INFO: "json"}


class _ShardFile:
    """An open shard. It closes itself when the last thread that reads from it lets go of it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = os.open(path, os.O_RDONLY)

    def __del__(self) -> None:
        if hasattr(self, "_descriptor"):
            os.close(self._descriptor)

    def read(self, offset: int, size: int) -> bytes:
        data = os.pread(self._descriptor, size, offset)
        if len(data) != size:
            raise UserError(f"shard {self._path} is cut short; pack again with tools/make_shards.py --overwrite")
        return data

    def read_within(self, base: int, offset: int, size: int) -> bytes:
        return self.read(base + offset, size)


def _read_masks(shard: _ShardFile, sample: np.void, indices: NDArray[np.int64]) -> NDArray[np.uint8] | None:
    size = int(sample["masks"]["bytes"])
    if not size:
        return None
    shape = (int(sample["mask_height"]), packed_width(int(sample["mask_width"])))
    frame_bytes = shape[0] * shape[1]
    first, last = int(indices.min()), int(indices.max())
    values_start = int(sample["masks"]["offset"]) + size - int(sample["frame_count"]) * frame_bytes
    data = shard.read(values_start + first * frame_bytes, (last + 1 - first) * frame_bytes)
    return np.frombuffer(data, dtype=np.uint8).reshape(-1, *shape)[indices - first]


def _check_shards(directory: Path, manifest: Manifest) -> None:
    with os.scandir(directory) as entries:
        sizes = {entry.name: entry.stat().st_size for entry in entries if entry.name.endswith(".tar")}
    for shard in manifest.shards:
        size = sizes.get(shard.name)
        if size != shard.bytes:
            state = "is missing" if size is None else f"has {size} bytes, the manifest says {shard.bytes}"
            raise UserError(
                f"shard {directory / shard.name} {state}; "
                "copy it again, or pack again with tools/make_shards.py --overwrite"
            )


def _map(path: Path, dtype: np.dtype, shape: tuple[int, ...]) -> NDArray:
    try:
        mapped = np.lib.format.open_memmap(path, mode="r")
        if mapped.dtype != dtype or mapped.shape != shape:
            raise ValueError("it is no index of these shards")
    except (OSError, ValueError, SyntaxError, TokenError) as error:
        raise UserError(f"{path} cannot be read ({error}); run tools/inspect_shards.py --rebuild-index") from error
    return mapped.view(np.ndarray)  # as lazy as np.memmap, and faster to index
