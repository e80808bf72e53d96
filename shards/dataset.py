"""Random access to a packed data set: any frames of any clip, by a few reads of just their bytes."""

import zlib
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from functools import cache, cached_property, partial
from operator import index
from pathlib import Path
from typing import Self, SupportsIndex, cast

import numpy as np
from numpy.typing import NDArray

from shards.clip import Clip, StoredClip, masks_of_clip, scene_of_clip
from shards.codecs.masks import packed_width
from shards.codecs.parts import DamagedPartError, StoredPart
from shards.codecs.registry import Codec, part_format
from shards.errors import DamagedClipError, UserError
from shards.format.clip_sources import UNKNOWN_SOURCE, material_of_rows, source_of, source_rows
from shards.format.index import SCENES_NAME, Indexes, check_rows, index_problems, map_indexes, map_sources
from shards.format.manifest import Manifest
from shards.format.sample import (
    BOXES,
    INFO,
    LABEL,
    MASKS,
    SCENE,
    SEGMENTS,
    ClipInfo,
    LazyComponents,
    Sample,
    part_names,
    truth_of,
)
from shards.format.truth import NO_TRUTH, Truth
from shards.material import Material
from shards.storage.cache_config import DEFAULT_CACHE, CacheConfig
from shards.storage.downloads import RemoteFiles, local_path
from shards.storage.remote_indexes import fetch_indexes, forget_indexes
from shards.storage.remote_store import RemoteShards
from shards.storage.store import Batch, LocalShards, OpenShard, ShardStore

Read = Callable[[int, int], bytes]
"""Reads so many bytes from an offset in a component."""
Component = Callable[[int, int, int], Read]
"""Makes a reader of the component with an offset in the shard, a size and a checksum."""


class ShardDataset:
    """A packed data set, opened by mapping its index; the shards are opened as they are read.

    ``dataset[i]`` is a whole decoded `Clip`, so a `torch.utils.data.DataLoader` takes the data set as it is, with any
    start method of its workers. What a loader needs goes further down: `read_clip` fetches any frames, still coded.

    Opening looks at the size of every shard and at no sample. What is told of every sample is mapped, read-only, and
    shared by all processes of a machine.

    Safe to use from several threads and after a fork; a pickled data set opens its location again.
    """

    location: Path | str
    """Where the data set lies, as it was asked for: a local folder or a URL."""
    directory: Path
    """The local folder of its indexes and, unless it is remote, of its shards."""
    manifest: Manifest
    """Its manifest."""
    store: ShardStore
    """Where the shards are read from, by number."""
    codec: Codec
    """How the frames are stored."""
    labels: NDArray[np.int64]
    """(N,), action classes."""
    frame_counts: NDArray[np.int64]
    """(N,)."""
    frame_sizes: NDArray[np.int64]
    """(N, 2), height and width of the stored frames."""
    shard_starts: NDArray[np.int64]
    """(shards + 1,), the first sample of every shard, then N."""
    mask_count: int
    """Clips that have human masks."""
    scene_count: int
    """Clips that have a scene label."""
    scenes: NDArray[np.float16] | None
    """(N, 365), rows of zeros where a clip has no scene label; None where no clip has one."""

    def __init__(
        self,
        directory: Path,
        manifest: Manifest,
        indexes: Indexes,
        *,
        store: ShardStore,
        location: Path | str,
        cache: CacheConfig,
    ) -> None:
        self.location = location
        self.directory = directory
        self.store = store
        self._cache = cache
        self.manifest = manifest
        self.codec = cast(Codec, manifest.codec)
        self._format = part_format(manifest.codec)
        self._indexes = indexes
        self._samples = samples = indexes.samples
        self._strips = indexes.strips
        self.scenes = indexes.scenes
        self.labels = samples["label"]
        self.frame_counts = samples["frame_count"]
        self.frame_sizes = samples["frame_size"]
        self.shard_starts = np.cumsum([0] + [shard.samples for shard in manifest.shards])
        self.mask_count = manifest.mask_count
        self.scene_count = manifest.scene_count

    @classmethod
    def open(cls, location: Path | str, cache: CacheConfig = DEFAULT_CACHE) -> Self:
        """Open a packed data set.

        Args:
            location: A local folder, or the URL of one: any that fsspec knows (`s3://`, `gs://`, `https://`). Of a
                remote data set the indexes are copied at once and the shards when they are needed.
            cache: Where and how copies of a remote data set are kept.

        Raises:
            UserError: it is absent or incomplete, of an unknown codec, or a file of it is missing, cut short or of
                another data set; a remote one cannot be fetched, or a shard of it is larger than the cache may be.
        """
        directory = local_path(location)
        if directory is not None:
            manifest = Manifest.load(directory)
            _check_codec(location, manifest)
            return cls.of_manifest(directory, manifest, location, cache)
        files = RemoteFiles(str(location), cache)
        directory, manifest = fetch_indexes(files, cache.directory)
        _check_codec(location, manifest)
        store: ShardStore = RemoteShards(files, manifest.shards, cache)
        try:
            indexes = map_indexes(directory, manifest)
        except UserError as error:
            forget_indexes(directory)  # they may be mended where they come from
            raise UserError(f"{location}: {error}") from error
        return cls(directory, manifest, indexes, store=store, location=location, cache=cache)

    @classmethod
    def of_manifest(
        cls, directory: Path, manifest: Manifest, location: Path | str | None = None, cache: CacheConfig = DEFAULT_CACHE
    ) -> Self:
        """The data set of shards in ``directory`` that ``manifest`` describes, which need not be written there yet."""
        store = LocalShards(directory, manifest.shards)
        indexes = map_indexes(directory, manifest)
        return cls(directory, manifest, indexes, store=store, location=location or directory, cache=cache)

    def __reduce__(self) -> tuple:
        return type(self).open, (self.location, self._cache)

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, i: SupportsIndex) -> Clip:
        """Read and decode all of clip ``i``; a negative one counts from the end.

        Raises:
            IndexError: there is no such clip.
            TypeError: not an integer; for a part of the data set take `torch.utils.data.Subset`.
            UserError: the clip is damaged, or its shard cannot be fetched.
        """
        try:
            number = range(len(self))[index(i)]
        except IndexError as error:
            raise IndexError(f"clip {i} of {len(self)}") from error
        except TypeError as error:
            raise TypeError(
                f"a clip is named by an integer, not by {i!r}; for several take [dataset[i] for i in range(...)], or"
                " torch.utils.data.Subset"
            ) from error
        return self._read_whole(number)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the action classes, in the order of their labels."""
        return self.manifest.classes

    @property
    def has_masks(self) -> bool:
        """Whether any clip has human masks."""
        return self.mask_count > 0

    @property
    def has_scenes(self) -> bool:
        """Whether any clip has a scene label."""
        return self.scene_count > 0

    def mask_sizes(self, i: int | NDArray[np.int64]) -> NDArray[np.int64]:
        """Height and width of the masks of clips, int64 (..., 2); (0, 0) where a clip has none."""
        return np.stack([self._samples["mask_height"][i], self._samples["mask_width"][i]], axis=-1).astype(np.int64)

    def info(self, i: int) -> ClipInfo:
        """What is known of clip ``i``, read from its shard.

        Raises:
            UserError: the shard is cut short or damaged.
        """
        try:
            return self._read_info(i)
        except (ValueError, OSError) as error:
            raise self.damaged(i, str(error)) from error

    @property
    def has_segments(self) -> bool:
        """Whether actions are marked in time within any clip."""
        return any(shard.segments for shard in self.manifest.shards)

    @property
    def has_boxes(self) -> bool:
        """Whether actors are marked by boxes within any clip."""
        return any(shard.boxes for shard in self.manifest.shards)

    def truth(self, i: int) -> Truth:
        """What is annotated within clip ``i``, read from its shard, its checksums compared.

        Raises:
            UserError: the shard is cut short or damaged.
        """
        places = self._truth_places(i)
        if not places:
            return NO_TRUTH
        try:
            shard = self.store.open(int(self._samples["shard"][i]))
            components = {
                name: _checked_component(shard, *place.tolist())(0, int(place["bytes"]))
                for name, place in places.items()
            }
            return truth_of(components, self._read_info(i))
        except (ValueError, OSError) as error:
            raise self.damaged(i, str(error)) from error

    @cached_property
    def material(self) -> Material:
        """Which frames of which videos the clips are, in their order.

        Of a local data set of an earlier version it is read from the shards, and a part of a video counts as all of it;
        of a remote one nothing is known.

        Raises:
            UserError: the index is damaged, or of another data set.
        """
        rows = map_sources(self.directory, self.manifest)
        if rows is None:
            is_local = isinstance(self.store, LocalShards)
            rows = source_rows([self._source_of(i) if is_local else UNKNOWN_SOURCE for i in range(len(self))])
        return material_of_rows(rows)

    def _source_of(self, i: int) -> tuple[bytes, int, int]:
        try:
            return source_of(self.info(i))
        except UserError:  # damage is told where the clip is read
            return UNKNOWN_SOURCE

    def places(self, i: int) -> dict[str, np.void]:
        """Where the components of clip ``i`` lie in its shard, by name: their ``offset``, ``bytes`` and ``crc32``."""
        sample = self._samples[i]
        parts = self._parts_of(sample)
        places = dict(zip(part_names(self.codec, len(parts)), parts, strict=True))
        places |= {name: sample[field] for name, field in _FIELDS.items() if sample[field]["bytes"]}
        return places | self._truth_places(i)

    def _truth_places(self, i: int) -> dict[str, np.void]:
        if self._indexes.truths is None:
            return {}
        row = self._indexes.truths[i]
        return {name: row[field] for name, field in _TRUTH_FIELDS.items() if row[field]["bytes"]}

    def read_clip(
        self, i: int, frame_indices: NDArray[np.int64], rows: range | None = None, *, check_crc: bool = False
    ) -> StoredClip:
        """Fetch frames of clip ``i``, in any order and with any repetition, and their masks.

        ``rows`` are those that are wanted of every frame, all of them by default; of film strips no more are given
        than it takes to decode these (see `CodedFrames.rows`). Masks come whole. ``check_crc`` reads all of the clip
        and compares its checksums first: a flipped bit may change pixels without making them undecodable.

        Raises:
            ValueError: an index is outside the clip, or the selection exceeds the `MAX_STRIP_ROWS` of a film strip.
            DamagedClipError: the shard is missing or cut short, or the clip is damaged; the sentence names the shard,
                the sample and where it lies.
            UserError: the shard cannot be fetched.
        """
        indices = np.asarray(frame_indices)
        sample = self._samples[i]
        with self._naming_damage(i):
            shard = self.store.open(int(sample["shard"]))
            component = partial(_checked_component if check_crc else _component, shard)
            all_rows = range(int(sample["frame_size"][0]))
            selected = self._format.select(
                self._stored_parts(sample, component), indices, all_rows if rows is None else rows
            )
            return StoredClip(selected, _read_masks(component(*sample["masks"].tolist()), sample, indices))

    def decode(self, i: int, clip: StoredClip) -> NDArray[np.uint8]:
        """Decode frames of clip ``i`` on the CPU, to look at them: uint8 RGB (T, H, W, 3).

        Raises:
            UserError: a part of the clip is damaged.
        """
        with self._naming_damage(i):
            return np.concatenate([self._format.decode(part) for part in clip.parts])

    def damaged(self, i: int, reason: str) -> DamagedClipError:
        """The error that names clip ``i``, where it lies, and what to do."""
        try:
            name = f"clip {self._read_info(i).name!r}"
        except (UserError, ValueError, OSError):  # what is known of it may be damaged as well
            name = "a clip"
        offset = int(self._parts_of(self._samples[i])["offset"][0])
        return DamagedClipError(
            f"{name} in {self.describe(i)}, byte {offset}: {reason}; see how much is damaged with"
            " tools/inspect_shards.py --verify, and copy the shard or pack the data set again"
        )

    def _read_info(self, i: int) -> ClipInfo:
        sample = self._samples[i]
        place = sample["json"]
        return ClipInfo.from_json(self.store.open(int(sample["shard"])).read(int(place["offset"]), int(place["bytes"])))

    def reading_ahead(
        self, batches: Iterable[Batch], samples_of: Callable[[Batch], NDArray[np.int64]] = np.asarray
    ) -> Generator[Batch, None, None]:
        """Yield ``batches`` unchanged, while the shards of a remote data set are fetched before they are needed.

        For whoever reads one batch after another: a batch counts as read when the next one is asked for. Batches are
        drawn in the caller's thread, as far ahead as the budget of the cache allows; of a local data set, one by one.
        What cannot be fetched is an error only where it is read. The threads that fetch end with the iterator, so
        close it (`contextlib.closing`) if it may be left before its end.

        Args:
            batches: What is read, in order.
            samples_of: The sample numbers of a batch, of any shape, in the order in which they are read.
        """
        shard_of_sample = self._samples["shard"]
        return self.store.reading_ahead(batches, lambda batch: shard_of_sample[samples_of(batch)].ravel().tolist())

    def check_index(self) -> None:
        """Look at every row of the index, but at no clip; a UserError where one cannot be right."""
        check_rows(self.directory, self._indexes, self.manifest)

    def verify(self) -> Iterator[str]:
        """Read every byte of every shard and every sample and yield a sentence for each problem found.

        Of a remote data set the cached copies are read, which are fetched first where they are not there; the indexes
        beside its shards are not looked at.
        """
        damaged = False
        for number, record in enumerate(self.manifest.shards):
            try:
                file = self.store.open(number)
                if file.sha256() != record.sha256:
                    damaged = True
                    yield f"{file.path}: its SHA-256 is not the manifest's"
            except (UserError, OSError) as error:  # it cannot be fetched, or is gone
                damaged = True
                yield str(error)
        if not damaged and isinstance(self.store, LocalShards):
            problems = list(
                index_problems(self.directory, [self.directory / record.name for record in self.manifest.shards])
            )
            yield from problems
            if problems:
                return  # the samples cannot be found by damaged indexes
        for i in range(len(self)):
            try:
                yield from (f"{self.describe(i)}: {problem}" for problem in self._problems(i))
            except (DamagedPartError, UserError, OSError) as error:
                yield f"{self.describe(i)}: {error}"

    def describe(self, i: int) -> str:
        """Where clip ``i`` lies, for messages: its shard and its number."""
        return f"{self.store.describe(int(self._samples['shard'][i]))}, sample {i}"

    def _problems(self, i: int) -> Iterator[str]:
        sample = self._samples[i]
        shard = self.store.open(int(sample["shard"]))
        places = self.places(i)
        components = LazyComponents(
            {name: partial(shard.read, int(place["offset"]), int(place["bytes"])) for name, place in places.items()}
        )
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
        if (most := stored.truth.largest_label) >= len(self.classes):
            yield f"a segment or a box has label {most}, but there are {len(self.classes)} classes"
        if self.scenes is not None and stored.scene is not None and not np.array_equal(stored.scene, self.scenes[i]):
            yield f"its scene label is not that of {SCENES_NAME}"

    def _read_whole(self, i: int) -> Clip:
        """Read clip ``i`` part by part: a film strip cannot take all frames of a long clip."""
        sample = self._samples[i]
        frames_NHWC = np.empty((int(sample["frame_count"]), *sample["frame_size"].tolist(), 3), np.uint8)
        with self._naming_damage(i):
            shard = self.store.open(int(sample["shard"]))
            start = 0
            for part in self._stored_parts(sample, partial(_checked_component, shard)):
                every_frame = np.arange(part.frame_count)
                (coded,) = self._format.select([part], every_frame, range(part.frame_height))
                frames_NHWC[start : start + part.frame_count] = self._format.decode(coded)
                start += part.frame_count
            masks = _checked_component(shard, *sample["masks"].tolist())
            packed = _read_masks(masks, sample, np.arange(len(frames_NHWC)))
        scene = self.scenes[i] if self.scenes is not None and sample["scene"]["bytes"] else None
        return Clip(
            frames=frames_NHWC,
            masks=masks_of_clip(packed, int(sample["mask_width"]), len(frames_NHWC)),
            label=int(sample["label"]),
            scene=scene_of_clip(scene),
            name=self.info(i).name,
        )

    def _stored_parts(self, sample: np.void, component: Component) -> list[StoredPart]:
        height = int(sample["frame_size"][0])
        return [
            StoredPart(frame_count, height, header_bytes, size, crc32, component(offset, size, crc32))
            for offset, size, crc32, header_bytes, frame_count in self._parts_of(sample).tolist()
        ]

    @contextmanager
    def _naming_damage(self, i: int) -> Iterator[None]:
        """Raise what is found of clip ``i`` as a DamagedClipError."""
        try:
            yield
        except DamagedPartError as error:
            raise self.damaged(i, str(error)) from error
        except OSError as error:
            raise self.damaged(i, f"it cannot be read ({error})") from error

    def _parts_of(self, sample: np.void) -> NDArray:
        first = int(sample["first_strip"])
        return self._strips[first : first + int(sample["strip_count"])]


_TRUTH_FIELDS = {SEGMENTS: "segments", BOXES: "boxes"}
_FIELDS = {MASKS: "masks", SCENE: "scene", LABEL: "cls", INFO: "json"}


def _component(shard: OpenShard, offset: int, size: int, crc32: int) -> Read:
    """Reads ranges of a component."""
    del size, crc32
    return partial(shard.read_within, offset)


def _checked_component(shard: OpenShard, offset: int, size: int, crc32: int) -> Read:
    """Reads all of a component when the first range is asked for, and compares its checksum."""

    @cache
    def whole() -> bytes:
        data = shard.read(offset, size)
        if zlib.crc32(data) != crc32:
            raise DamagedPartError(f"the checksum of the {size} bytes at {offset} is wrong")
        return data

    return lambda start, count: whole()[start : start + count]


def _read_masks(read: Read, sample: np.void, indices: NDArray[np.int64]) -> NDArray[np.uint8] | None:
    size = int(sample["masks"]["bytes"])
    if not size:
        return None
    shape = (int(sample["mask_height"]), packed_width(int(sample["mask_width"])))
    frame_bytes = shape[0] * shape[1]
    first, last = int(indices.min()), int(indices.max())
    values_start = size - int(sample["frame_count"]) * frame_bytes
    data = read(values_start + first * frame_bytes, (last + 1 - first) * frame_bytes)
    return np.frombuffer(data, dtype=np.uint8).reshape(-1, *shape)[indices - first]


def _check_codec(location: Path | str, manifest: Manifest) -> None:
    try:
        part_format(manifest.codec)
    except ValueError as error:
        raise UserError(f"{location} cannot be read: {error}; pack again with tools/make_shards.py") from error
