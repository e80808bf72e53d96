"""Several packed data sets as one: their clips numbered through, their classes joined by name or kept apart.

Shape suffixes: N clips of all, M data sets, A classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray

from shards.dataset import ShardDataset
from shards.errors import UserError
from shards.format.focus import Focus
from shards.format.sample import ClipInfo


@dataclass(frozen=True, eq=False)
class JoinedDataset:
    """One or more data sets; of a single one the classes, labels and numbers of clips are its own."""

    datasets: tuple[ShardDataset, ...]
    """In order."""
    classes: tuple[str, ...]
    """The A action classes, in the order of their labels."""
    head_classes: tuple[tuple[str, ...], ...] | None = None
    """Where classes are kept apart, those of each data set, as it calls them, one set after another; None: classes of
    one name are one class."""

    @classmethod
    def of(cls, datasets: Sequence[ShardDataset]) -> Self:
        """Join ``datasets``: the classes of the first in their order, then those that each of the others adds."""
        return cls(tuple(datasets), tuple(dict.fromkeys(name for dataset in datasets for name in dataset.classes)))

    @classmethod
    def apart(cls, datasets: Sequence[ShardDataset]) -> Self:
        """Keep the classes of ``datasets`` apart: each is called SET/CLASS, by the name of its set."""
        sets = tuple(zip(_names_of(datasets), (dataset.classes for dataset in datasets), strict=True))
        classes = tuple(f"{name}/{one}" for name, of_set in sets for one in of_set)
        return cls(tuple(datasets), classes, tuple(of_set for _, of_set in sets))

    def __post_init__(self) -> None:
        if not self.datasets:
            raise ValueError("datasets must name at least one data set")
        if self.head_classes is not None and len(self.head_classes) != len(self.datasets):
            raise ValueError(f"head_classes must be of {len(self.datasets)} data sets, got {len(self.head_classes)}")
        for number, dataset in enumerate(self.datasets):
            known = self.classes if self.head_classes is None else self.head_classes[number]
            unknown = [name for name in dataset.classes if name not in known]
            if unknown:
                raise UserError(
                    f"{dataset.location} has classes that are not among the {len(known)} to be recognised"
                    f" ({', '.join(unknown[:5])}): pack it with the same names of classes (tools/make_shards.py"
                    " --classes)"
                )

    def __len__(self) -> int:
        return int(self.starts[-1])

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """(M + 1,), the number of the first clip of every data set, then N."""
        return np.cumsum([0, *map(len, self.datasets)])

    @cached_property
    def names(self) -> tuple[str, ...]:
        """What to call the data sets: as briefly as tells them apart."""
        return _names_of(self.datasets)

    @property
    def location(self) -> str:
        """Where they lie, as they were asked for."""
        return " and ".join(str(dataset.location) for dataset in self.datasets)

    @property
    def focus(self) -> Focus:
        """What of each frame the first shows."""
        return self.datasets[0].manifest.focus

    @property
    def mask_count(self) -> int:
        """Clips that have human masks."""
        return sum(dataset.mask_count for dataset in self.datasets)

    @property
    def scene_count(self) -> int:
        """Clips that have a scene label."""
        return sum(dataset.scene_count for dataset in self.datasets)

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """(N,), action classes."""
        return np.concatenate([self.labels_of(number, dataset.labels) for number, dataset in enumerate(self.datasets)])

    def labels_of(self, number: int, label_K: NDArray[np.int64]) -> NDArray[np.int64]:
        """The joined labels (K,) of labels of one of the data sets."""
        return self._label_maps[number][label_K]

    @cached_property
    def _label_maps(self) -> list[NDArray[np.int64]]:
        return [
            np.array([self._label(number, name) for name in dataset.classes], dtype=np.int64)
            for number, dataset in enumerate(self.datasets)
        ]

    def _label(self, number: int, name: str) -> int:
        if self.head_classes is None:
            return self.classes.index(name)
        return int(np.flatnonzero(self.head_A == number)[0]) + self.head_classes[number].index(name)

    @cached_property
    def head_A(self) -> NDArray[np.int64]:
        """(A,), which data set's each class is where classes are kept apart; else zeros."""
        if self.head_classes is None:
            return np.zeros(len(self.classes), dtype=np.int64)
        return np.repeat(np.arange(len(self.head_classes)), [len(of_set) for of_set in self.head_classes])

    def place_of(self, i: int) -> tuple[int, int]:
        """Which data set clip ``i`` is of, and its number there."""
        number = int(np.searchsorted(self.starts, i, side="right")) - 1
        return number, i - int(self.starts[number])

    def describe(self, i: int) -> str:
        """As of `ShardDataset.describe`."""
        number, sample = self.place_of(i)
        return self.datasets[number].describe(sample)

    def info(self, i: int) -> ClipInfo:
        """As of `ShardDataset.info`."""
        number, sample = self.place_of(i)
        return self.datasets[number].info(sample)


def _names_of(datasets: Sequence[ShardDataset]) -> tuple[str, ...]:
    manifests = [dataset.manifest for dataset in datasets]
    brief = tuple(manifest.dataset for manifest in manifests)
    longer = tuple(
        "-".join(part for part in (manifest.dataset, manifest.split, manifest.subset) if part) for manifest in manifests
    )
    for names in (brief, longer):
        if all(names) and len(set(names)) == len(names):
            return names
    return tuple(str(dataset.location) for dataset in datasets)
