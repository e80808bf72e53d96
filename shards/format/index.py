"""Indexes of shards: where every component lies, so that a data set is opened by mapping a few files.

Beside a shard `x.tar` lie `x.idx`, DALI's own index (v1.2), and `x.index.npz`, ours. Over the whole data set lie
`samples.npy`, `strips.npy` and, where there are scene labels, `scenes.npy`, where segments or boxes, `truths.npy`: the
shards' indexes one after another; and `sources.npy`, which earlier versions did not write. The tar files are the truth;
`rebuild_index` makes every index from them. `strips` are the parts of the clips: film strips or video segments.
"""

import filecmp
import io
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate
from pathlib import Path
from tempfile import TemporaryDirectory
from tokenize import TokenError
from typing import Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from shards.codecs.parts import PartHeader
from shards.codecs.registry import part_format
from shards.errors import UserError
from shards.format.clip_sources import SOURCE_DTYPE, SOURCES_NAME, sources_in_shard
from shards.format.manifest import MANIFEST_NAME, Manifest
from shards.format.sample import (
    BOXES,
    INFO,
    LABEL,
    MASKS,
    SCENE,
    SCENE_COUNT,
    SEGMENTS,
    LazyComponents,
    Sample,
    find_parts,
)
from shards.system.atomic import atomic_write
from shards.system.locks import locked_folder

SHARD_PATTERN = "shard-*.tar"
SAMPLES_NAME, STRIPS_NAME, SCENES_NAME, TRUTHS_NAME = "samples.npy", "strips.npy", "scenes.npy", "truths.npy"

COMPONENT_DTYPE = np.dtype([("offset", "<u8"), ("bytes", "<u4"), ("crc32", "<u4")])  # all 0 where it is absent
STRIP_DTYPE = np.dtype([*COMPONENT_DTYPE.descr, ("header_bytes", "<u4"), ("frame_count", "<u4")])
# What a loader asks of many clips at once is int64, and every field is aligned: the columns of the mapped table are
# used as they are.
SAMPLE_DTYPE = np.dtype(
    [
        ("label", "<i8"),
        ("frame_count", "<i8"),
        ("frame_size", "<i8", (2,)),  # height and width
        ("first_strip", "<u8"),
        ("strip_count", "<u4"),
        ("shard", "<u4"),
        ("mask_height", "<u4"),
        ("mask_width", "<u4"),
        ("masks", COMPONENT_DTYPE),
        ("scene", COMPONENT_DTYPE),
        ("cls", COMPONENT_DTYPE),
        ("json", COMPONENT_DTYPE),
    ]
)
TRUTH_DTYPE = np.dtype([("segments", COMPONENT_DTYPE), ("boxes", COMPONENT_DTYPE)])


@dataclass(frozen=True)
class Member:
    """A component in its shard."""

    name: str
    """What follows the key and its dot in the name of the tar file's member."""
    offset: int
    """Where its bytes begin in the shard."""
    size: int
    """How many bytes it has."""
    load: Callable[[], bytes]
    """Returns them."""

    @property
    def data(self) -> bytes:
        """The bytes, loaded anew: all of a long clip need not fit into the memory."""
        return self.load()


@dataclass
class ShardIndex:
    """The index of one shard, grown sample by sample."""

    dali_lines: list[str] = field(default_factory=list)
    """The lines of `x.idx` below its first, one a sample."""
    samples: list[tuple] = field(default_factory=list)
    """Rows of `SAMPLE_DTYPE`."""
    strips: list[tuple] = field(default_factory=list)
    """Rows of `STRIP_DTYPE`, the parts of the samples one after another."""
    scenes: list[NDArray[np.float16]] = field(default_factory=list)
    """(365,) for every sample, zeros where it has no scene label."""
    truths: list[tuple] = field(default_factory=list)
    """Rows of `TRUTH_DTYPE`, one a sample."""

    @classmethod
    def read(cls, shard: Path) -> Self:
        """Make the index of a shard from the shard itself.

        Raises:
            ValueError: a component is missing or cannot be read.
            tarfile.TarError: as of `read_shard`.
        """
        index = cls()
        for key, members in read_shard(shard):
            index.add(key, members)
        return index

    def add(self, key: str, members: Sequence[Member]) -> None:
        """Add one sample, whose components lie in the shard in this order.

        Raises:
            ValueError: a component is missing or cannot be read.
        """
        sample = Sample.from_components(LazyComponents({member.name: member.load for member in members}))
        info = sample.info
        part_names = find_parts([member.name for member in members], info.codec)
        headers = dict.fromkeys(part_names, PartHeader(0, 0, 0))
        places = {}
        for member in members:
            data = member.load()
            places[member.name] = (member.offset, member.size, zlib.crc32(data))
            if member.name in headers:
                headers[member.name] = part_format(info.codec).header(data)
        self.samples.append(
            (
                sample.label,
                info.frame_count,
                (info.height, info.width),
                len(self.strips),
                len(headers),
                0,  # the shard's number, known when indexes are merged
                info.mask_height,
                info.mask_width,
                *(places.get(name, (0, 0, 0)) for name in (MASKS, SCENE, LABEL, INFO)),
            )
        )
        self.strips += [(*places[name], header.header_bytes, header.frame_count) for name, header in headers.items()]
        self.scenes.append(sample.scene if sample.scene is not None else np.zeros(SCENE_COUNT, np.float16))
        self.truths.append(tuple(places.get(name, (0, 0, 0)) for name in (SEGMENTS, BOXES)))
        self.dali_lines.append(
            " ".join(f"{member.name} {member.offset} {member.size} {key}.{member.name}" for member in members)
        )

    def count_with(self, component: Literal["masks", "scene", "segments", "boxes"]) -> int:
        """How many samples have a component."""
        rows, dtype = (self.samples, SAMPLE_DTYPE) if component in ("masks", "scene") else (self.truths, TRUTH_DTYPE)
        return int(np.count_nonzero(np.array(rows, dtype=dtype)[component]["bytes"]))

    def save(self, shard: Path) -> None:
        """Write `x.idx` and `x.index.npz` beside `x.tar`."""
        for suffix, content in self.files().items():
            with atomic_write(shard.with_suffix(suffix)) as file:
                file.write(content)

    def files(self) -> dict[str, bytes]:
        """The content of both files by suffix."""
        tables = {
            "samples": np.array(self.samples, dtype=SAMPLE_DTYPE),
            "strips": np.array(self.strips, dtype=STRIP_DTYPE),
            "scenes": np.array(self.scenes, dtype="<f2"),
        }
        if self.count_with("segments") or self.count_with("boxes"):
            tables["truths"] = np.array(self.truths, dtype=TRUTH_DTYPE)
        arrays = io.BytesIO()
        np.savez(arrays, **tables)  # type: ignore[arg-type]
        lines = "\n".join([f"v1.2 {len(self.dali_lines)}", *self.dali_lines, ""])
        return {".idx": lines.encode(), ".index.npz": arrays.getvalue()}


def merge_indexes(directory: Path, shards: Sequence[Path]) -> None:
    """Write the data set's index from the indexes of its ``shards``, in their order, one shard at a time."""
    sample_counts, strip_counts, has_scenes, has_truths = [], [], False, False
    for shard in shards:
        samples = _load(shard, "samples")
        has_truths |= _has_truths(shard)
        sample_counts.append(len(samples))
        strip_counts.append(int(samples["strip_count"].sum()))
        has_scenes |= bool(samples["scene"]["bytes"].any())
    first_strips = list(accumulate(strip_counts, initial=0))

    def samples_of(number: int) -> NDArray:
        samples = _load(shards[number], "samples")
        samples["shard"] = number
        samples["first_strip"] += first_strips[number]
        return samples

    numbers = range(len(shards))
    _write_rows(directory / SAMPLES_NAME, SAMPLE_DTYPE, (sum(sample_counts),), map(samples_of, numbers))
    strips = (_load(shard, "strips") for shard in shards)
    _write_rows(directory / STRIPS_NAME, STRIP_DTYPE, (sum(strip_counts),), strips)
    if has_scenes:
        scenes = (_load(shard, "scenes") for shard in shards)
        _write_rows(directory / SCENES_NAME, np.dtype("<f2"), (sum(sample_counts), SCENE_COUNT), scenes)
    if has_truths:
        truths = (
            _load(shard, "truths") if _has_truths(shard) else np.zeros(count, TRUTH_DTYPE)
            for shard, count in zip(shards, sample_counts, strict=True)
        )
        _write_rows(directory / TRUTHS_NAME, TRUTH_DTYPE, (sum(sample_counts),), truths)
    sources = (sources_in_shard(shard, _load(shard, "samples")) for shard in shards)
    _write_rows(directory / SOURCES_NAME, SOURCE_DTYPE, (sum(sample_counts),), sources)


def rebuild_index(directory: Path) -> None:
    """Make every index of a data set from its tar files alone, the same to the byte as its writer made them.

    Raises:
        UserError: the directory has no shards, a shard cannot be read, they are not those of the manifest, where there
            is one, or another process writes to the directory.
    """
    shards = find_shards(directory)
    with locked_folder(directory, str(directory), "writing to"):
        if (directory / MANIFEST_NAME).exists():
            _check_against_manifest(directory, shards)
        for shard in shards:
            _index_of(shard).save(shard)
        merge_indexes(directory, shards)


def index_problems(directory: Path, shards: Sequence[Path]) -> Iterator[str]:
    """Make every index anew in memory, or in a temporary folder, and yield a sentence for each that differs."""
    remedy = "is not the index of these shards; run tools/inspect_shards.py --rebuild-index"
    sound = True
    for shard in shards:
        for suffix, content in _index_of(shard).files().items():
            path = shard.with_suffix(suffix)
            if not path.is_file() or path.read_bytes() != content:
                sound = False
                yield f"{path} {remedy}"
    if not sound:
        return  # the others are made from these
    with TemporaryDirectory() as temporary:
        merge_indexes(Path(temporary), shards)
        for path in sorted(Path(temporary).iterdir()):
            if path.name == SOURCES_NAME and not (directory / path.name).exists():
                continue  # an earlier version packed it
            if not (directory / path.name).is_file() or not filecmp.cmp(path, directory / path.name, shallow=False):
                yield f"{directory / path.name} {remedy}"


def _index_of(shard: Path) -> ShardIndex:
    try:
        index = ShardIndex.read(shard)
        if not index.samples:
            raise ValueError("it holds no sample")
    except (tarfile.TarError, ValueError) as error:
        raise UserError(f"shard {shard} cannot be read ({error}); pack the data set again") from error
    return index


def read_shard(shard: Path) -> Iterator[tuple[str, list[Member]]]:
    """Yield each sample of a shard: its key and its components, to be loaded before the next one is asked for.

    Raises:
        tarfile.TarError: the file is not a whole tar file, or holds something else.
    """
    key = ""
    members: list[Member] = []
    with tarfile.open(shard, "r:") as tar:
        for entry in tar:
            if not entry.isreg():
                raise tarfile.ReadError(f"its member {entry.name!r} is no plain file")
            entry_key, _, name = entry.name.partition(".")
            if not entry_key.isdecimal():
                raise tarfile.ReadError(f"its member {entry.name!r} is no component of a sample")
            if members and entry_key != key:
                yield key, members
                members = []
            key = entry_key
            members.append(Member(name, entry.offset_data, entry.size, partial(_load_member, tar, entry)))
        if members:
            yield key, members


def _load_member(tar: tarfile.TarFile, entry: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(entry)
    assert file is not None
    return file.read()


def find_shards(directory: Path) -> list[Path]:
    """Return the shards of a directory in order; a UserError if there are none."""
    shards = sorted(directory.glob(SHARD_PATTERN))
    if not shards:
        raise UserError(f"{directory} holds no shards ({SHARD_PATTERN}); run tools/make_shards.py")
    return shards


def _check_against_manifest(directory: Path, shards: Sequence[Path]) -> None:
    """Refuse shards that the manifest does not describe: an index of damaged bytes would make them look sound."""
    records = Manifest.load(directory).shards
    remedy = "copy the data set again, or pack again with tools/make_shards.py --overwrite"
    if [shard.name for shard in shards] != [record.name for record in records]:
        raise UserError(f"{directory}: its {len(shards)} shards are not the {len(records)} of its manifest; {remedy}")
    for record in records:
        if not record.matches(directory):
            raise UserError(f"shard {directory / record.name} is damaged: its SHA-256 is not the manifest's; {remedy}")


def _load(shard: Path, field: str) -> NDArray:
    """Read one array of a shard's index."""
    with np.load(shard.with_suffix(".index.npz"), allow_pickle=False) as index:
        return index[field]


def _has_truths(shard: Path) -> bool:
    """Whether a shard's index tells of segments or boxes."""
    with np.load(shard.with_suffix(".index.npz"), allow_pickle=False) as index:
        return "truths" in index


def _write_rows(path: Path, dtype: np.dtype, shape: tuple[int, ...], chunks: Iterable[NDArray]) -> None:
    """Write a .npy file of ``shape``, whose rows come in ``chunks``: all of them need not fit into the memory."""
    with atomic_write(path) as file:
        descr = np.lib.format.dtype_to_descr(dtype)
        np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
        for rows in chunks:
            file.write(rows.astype(dtype, copy=False).tobytes())


class Indexes(NamedTuple):
    """The mapped index of a data set of N clips."""

    samples: NDArray
    """`SAMPLE_DTYPE` (N,)."""
    strips: NDArray
    """`STRIP_DTYPE` (strips,)."""
    scenes: NDArray[np.float16] | None
    """(N, 365); None where no clip has a scene label."""
    truths: NDArray | None
    """`TRUTH_DTYPE` (N,); None where no clip has segments or boxes."""


def map_indexes(directory: Path, manifest: Manifest) -> Indexes:
    """Map the index of a data set.

    Raises:
        UserError: a file is missing, damaged, or of another data set.
    """
    count = manifest.sample_count
    samples = _map(directory / SAMPLES_NAME, SAMPLE_DTYPE, (count,))
    last = samples[-1:]
    strip_count = int((last["first_strip"] + last["strip_count"]).sum())
    strips = _map(directory / STRIPS_NAME, STRIP_DTYPE, (strip_count,))
    scene_shape = (count, SCENE_COUNT)
    scenes = _map(directory / SCENES_NAME, np.dtype("<f2"), scene_shape) if manifest.scene_count else None
    truths = _map(directory / TRUTHS_NAME, TRUTH_DTYPE, (count,)) if manifest.has_truth else None
    return Indexes(samples, strips, scenes, truths)


def map_sources(directory: Path, manifest: Manifest) -> NDArray | None:
    """Map the sources of a data set's clips, `SOURCE_DTYPE` (N,); None where an earlier version packed it.

    Raises:
        UserError: the file is damaged, or of another data set.
    """
    path = directory / SOURCES_NAME
    return _map(path, SOURCE_DTYPE, (manifest.sample_count,)) if path.exists() else None


def check_rows(directory: Path, indexes: Indexes, manifest: Manifest) -> None:
    """Compare all rows of `map_indexes` with the manifest; no clip is read.

    Raises:
        UserError: a clip's row names a shard, a class, a part or bytes that there are none of.
    """
    samples, strips, _, truths = indexes
    shard_bytes = np.array([shard.bytes for shard in manifest.shards])
    numbers = samples["shard"].astype(np.int64)
    first, count = samples["first_strip"].astype(np.float64), samples["strip_count"].astype(np.float64)
    is_wrong = (numbers != np.repeat(np.arange(len(shard_bytes)), [shard.samples for shard in manifest.shards])) | (
        (samples["label"] < 0) | (samples["label"] >= len(manifest.classes))
    )
    is_wrong |= (samples["frame_count"] < 1) | (samples["frame_size"] < 1).any(axis=1) | (count < 1)
    is_wrong |= first + count > len(strips)
    ends = [
        samples[name]["offset"].astype(np.float64) + samples[name]["bytes"]
        for name in ("masks", "scene", "cls", "json")
    ]
    if truths is not None:
        ends += [truths[name]["offset"].astype(np.float64) + truths[name]["bytes"] for name in ("segments", "boxes")]
    is_wrong |= np.max(ends, axis=0) > shard_bytes[np.minimum(numbers, len(shard_bytes) - 1)]
    if is_wrong.any():
        raise _unreadable(directory / SAMPLES_NAME, f"what it says of clip {int(is_wrong.argmax())} cannot be")


def _unreadable(path: Path, reason: object) -> UserError:
    return UserError(f"{path} cannot be read ({reason}); run tools/inspect_shards.py --rebuild-index")


def _map(path: Path, dtype: np.dtype, shape: tuple[int, ...]) -> NDArray:
    try:
        mapped = np.lib.format.open_memmap(path, mode="r")
        if mapped.dtype != dtype or mapped.shape != shape:
            raise ValueError("it is no index of these shards")
    except (OSError, ValueError, SyntaxError, TokenError) as error:
        raise _unreadable(path, error) from error
    return mapped.view(np.ndarray)  # as lazy as np.memmap, and faster to index
