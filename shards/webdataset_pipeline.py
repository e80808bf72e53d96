"""The clips of a data set as a pipeline of the `webdataset` library: shard after shard, each from start to end."""

import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from shards.clip import Clip, masks_of_clip, scene_of_clip
from shards.codecs.parts import CodedFrames
from shards.codecs.registry import part_format
from shards.dataset import ShardDataset
from shards.errors import DamagedClipError, UserError
from shards.format.index import Member, read_shard
from shards.format.sample import Sample
from shards.storage.cache_config import DEFAULT_CACHE, CacheConfig

if TYPE_CHECKING:
    import webdataset

Splitter = Callable[[Iterable[dict[str, Any]]], Iterator[dict[str, Any]]]
"""Passes on the shards, one ``{"url": ...}`` each, that are one machine's; as `webdataset.split_by_node`."""


def open_webdataset(
    location: Path | str,
    cache: CacheConfig = DEFAULT_CACHE,
    *,
    shardshuffle: int = 0,
    seed: int | None = None,
    nodesplitter: Splitter | None = None,
) -> "webdataset.FluidWrapper":
    """Open a packed data set as a `webdataset` pipeline of `Clip`s, equal to those of ``ShardDataset.open(location)``.

    The workers of a `torch.utils.data.DataLoader` share the shards among them, and all that the library does with
    pipelines can follow: ``.shuffle(100)``, ``.map(...)``, ``.batched(...)``, ``.repeat()``.

    Args:
        location: A local folder or a URL, as of `ShardDataset.open`. Shards of a remote data set come through its
            cache, whole and compared with their checksums.
        cache: Where and how copies of a remote data set are kept.
        shardshuffle: Shuffle the shards by the library's own shuffle, in a buffer of so many of them; 0 keeps their
            order.
        seed: Seed of that shuffle, which is then the same in every epoch. None: another at every iteration.
        nodesplitter: Which shards are this machine's where several train together, such as
            `webdataset.split_by_node`. None: one machine, and an error where there are several.

    Raises:
        UserError: as of `ShardDataset.open`; and while iterating, a DamagedClipError that names the shard and the key
            of a sample that cannot be read, or a UserError for a whole shard.
    """
    import webdataset

    dataset = ShardDataset.open(location, cache)
    numbers = [str(number) for number in range(len(dataset.manifest.shards))]
    pipeline = webdataset.FluidWrapper(webdataset.SimpleShardList(numbers))
    pipeline.append(nodesplitter or webdataset.single_node_only)
    pipeline.append(webdataset.split_by_worker)
    if shardshuffle:
        pipeline.append(webdataset.shuffle(shardshuffle, seed=seed))
    pipeline.append(_ClipsOfShards(dataset))
    return pipeline


@dataclass(frozen=True)
class _ClipsOfShards:
    """The stage of a pipeline that makes clips of shards."""

    dataset: ShardDataset
    """The data set whose shards come by number."""

    def __call__(self, shards: Iterable[dict[str, Any]]) -> Iterator[Clip]:
        for shard in shards:
            yield from self._clips(int(shard["url"]))

    def _clips(self, number: int) -> Iterator[Clip]:
        dataset, place = self.dataset, self.dataset.store.describe(number)
        shard = dataset.store.open(number)
        samples = read_shard(shard.readable_path)
        try:
            for i, (key, members) in enumerate(samples, start=int(dataset.shard_starts[number])):
                yield self._decode(i, f"{place}, key {key}", members)
        except (tarfile.TarError, OSError) as error:
            raise UserError(f"{place} cannot be read ({error}); copy the shard or pack the data set again") from error

    def _decode(self, i: int, place: str, members: Sequence[Member]) -> Clip:
        try:
            places = self.dataset.places(i)
            components = {member.name: member.data for member in members}
            for name, data in components.items():
                if zlib.crc32(data) != places[name]["crc32"]:
                    raise ValueError(f"the checksum of {name} is wrong")
            return decode_components(components)
        except (KeyError, ValueError) as error:
            raise DamagedClipError(
                f"{place}: {error}; see how much is damaged with tools/inspect_shards.py --verify, and copy the shard"
                " or pack the data set again"
            ) from error


def decode_components(components: Mapping[str, bytes]) -> Clip:
    """Decode a sample from its members in the shard, by their names after the key.

    Raises:
        ValueError: a member is missing or damaged.
    """
    sample = Sample.from_components(components)
    part_of = part_format(sample.info.codec)
    frames = []
    for part in sample.parts:
        header = part_of.header(part)
        frames.append(part_of.decode(CodedFrames(part, np.arange(header.frame_count), range(header.height))))
    frames_NHWC = np.concatenate(frames)
    return Clip(
        frames=frames_NHWC,
        masks=masks_of_clip(sample.masks, sample.info.mask_width, len(frames_NHWC)),
        label=sample.label,
        scene=scene_of_clip(sample.scene),
        name=sample.info.name,
    )
