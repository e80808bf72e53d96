"""What a loader that takes part in the benchmark is given, and what it gives.

Shape suffixes: B clips, T frames, S rows and columns of the network's input, C colours.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from dali_pipelines.decoding_config import DecodingConfig
from dali_pipelines.windows import ClipConfig, Windows
from scenebias.benchmark.loading.windows import ClipWindow
from scenebias.benchmark.measuring import CountedPass
from shards.dataset import ShardDataset


class ClipItem(NamedTuple):
    """A clip as the model wants it, or with a leading B a batch of them."""

    sample: Tensor
    """int64, its number in the data set."""
    clip: Tensor
    """uint8 (T, S, S, C)."""
    mask: Tensor | None
    """bool (T, S, S), where people are; None where our loader finds none in the whole data set. The loader that stores
    masked clips gives the masked clip instead."""
    scene: Tensor | None
    """float32 (365,); None as with the masks."""
    label: Tensor
    """int64."""


Pass = Callable[[], Iterator[ClipItem]]
"""Goes over all measured windows once, in batches, or again and again; to be called many times."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """The same for all loaders."""

    dataset: ShardDataset
    clip: ClipConfig
    batches: list[Windows]
    windows: list[ClipWindow]
    """Those of ``batches``, one by one."""
    videos: dict[str, Path] | None
    """The original video of every clip, by the clip's name; None where there are none."""
    folder: Path
    """For what a loader stores; it is removed when all is measured."""
    device: torch.device
    batch_size: int
    workers: int
    prefetch: int
    decoding: DecodingConfig = field(default_factory=DecodingConfig)
    """Of our loader."""

    def in_folder(self, name: str) -> "Setting":
        """The same with a folder of its own."""
        folder = self.folder / name
        folder.mkdir()
        return replace(self, folder=folder)

    def video_of(self, window: ClipWindow) -> Path:
        """Its original video."""
        assert self.videos is not None, "loaders that need videos are left out where there are none"
        return self.videos[window.name]


def counted(run: Pass, device: torch.device) -> CountedPass:
    """Take the batches of ``run`` to ``device``, where they are not there yet, and count their clips."""

    def count() -> Iterator[int]:
        for batch in run():
            moved = [values.to(device, non_blocking=True) for values in batch if values is not None]
            yield len(moved[0])

    return count
