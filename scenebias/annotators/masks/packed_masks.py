"""Human masks of a data set that is packed already: those of a network are made once, and serve any further pack.

Shape suffixes: N frames, H rows, W columns of the decoded video.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shards.codecs.masks import npy_array, resize_masks, unpack_masks
from shards.dataset import ShardDataset
from shards.errors import UserError
from shards.format.focus import WHOLE_FRAMES
from shards.format.manifest import MANIFEST_NAME
from shards.format.sample import MASKS
from shards.sources.listing import ClipEntry
from shards.sources.texts import clean


@dataclass(frozen=True)
class PackedMasks:
    """The masks of a packed data set by the names of its clips; of whole frames, and as fine as they were stored."""

    folder: Path

    @staticmethod
    def are_in(folder: Path) -> bool:
        """Whether ``folder`` is a packed data set."""
        return (folder / MANIFEST_NAME).is_file()

    def settings(self) -> dict[str, str]:
        """What decides which masks are read."""
        return {"format": type(self).__name__, "digest": _packed(self.folder).dataset.manifest.digest}

    def files(self, entry: ClipEntry) -> Sequence[Path]:
        """The shard that holds the masks of ``entry``; empty where there are none."""
        packed = _packed(self.folder)
        number = packed.numbers.get(entry.name)
        if number is None or not packed.dataset.mask_sizes(number).all():
            return ()
        return (self.folder / packed.dataset.manifest.shards[packed.shard_of(number)].name,)

    def has_masks(self, entry: ClipEntry) -> bool:
        """Whether there are masks of ``entry``."""
        return bool(self.files(entry))

    def load(self, entry: ClipEntry, frame_count: int, height: int, width: int, fps: float) -> NDArray[np.bool_] | None:
        """Return the masks of ``entry`` as bool (frame_count, height, width), or None where it has none.

        Raises:
            UserError: the clip was packed with another number of frames, or its masks are damaged.
        """
        if not self.files(entry):
            return None
        packed = _packed(self.folder)
        dataset, number = packed.dataset, packed.numbers[entry.name]
        if (count := int(dataset.frame_counts[number])) != frame_count:
            raise UserError(
                f"{self.folder}: {entry.name} has {count} frames there and {frame_count} here; give masks of this very"
                " video"
            )
        place = dataset.places(number)[MASKS]
        data = dataset.store.open(packed.shard_of(number)).read(int(place["offset"]), int(place["bytes"]))
        if zlib.crc32(data) != place["crc32"]:
            raise dataset.damaged(number, "the checksum of its masks is wrong")
        mask_NHW = unpack_masks(npy_array(data), int(dataset.mask_sizes(number)[1]))
        return resize_masks(mask_NHW, (height, width))


@dataclass(frozen=True, eq=False)
class _Packed:
    """An opened data set."""

    dataset: ShardDataset
    numbers: dict[str, int]
    """Its clips by name."""

    def shard_of(self, number: int) -> int:
        return int(np.searchsorted(self.dataset.shard_starts, number, side="right")) - 1


@lru_cache(maxsize=1)
def _packed(folder: Path) -> _Packed:
    # Once a process: the name of every clip is read from its shard.
    dataset = ShardDataset.open(folder)
    if dataset.manifest.focus != WHOLE_FRAMES:
        raise UserError(f"--masks {folder}: shows {dataset.manifest.focus}; give masks of whole frames")
    return _Packed(dataset, {clean(dataset.info(i).name): i for i in range(len(dataset))})
