"""Several data sets to train on, or to evaluate on: opened, compared and shared out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from scenebias.data.datasets import RemoteConfig, open_pair, require_scenes, shared_clips_note
from shards.errors import UserError
from shards.joined_dataset import JoinedDataset
from shards.mixture_order import apportion
from shards.shared_clips import SharedClips

Heads = Literal["joined", "separate"]


@dataclass(frozen=True, kw_only=True)
class MixtureConfig:
    """How several data sets are trained on; by default each clip of each comes once an epoch."""

    mix: tuple[float, ...] = ()
    """For each --train its weight, such as 0.5 0.3 0.2: its share of all steps. An epoch then has as many clips as all
    --train together: those of a small one may come several times in it, and not all of a large one."""
    repeat: tuple[int, ...] = ()
    """For each --train, how often each of its clips comes in an epoch, such as 1 4."""
    heads: Heads = "joined"
    """joined: one action head for the classes of all --train, joined by name; separate: one head for each --train, on
    the same features and with a weight file of its own, and --val names one for each."""

    def __post_init__(self) -> None:
        if self.heads not in get_args(Heads):
            raise ValueError(f"heads must be one of {', '.join(get_args(Heads))}, got {self.heads!r}")
        if self.mix and self.repeat:
            raise ValueError("mix and repeat both say how often clips come: give one of them")
        if not all(0 < weight < float("inf") for weight in self.mix):
            raise ValueError(f"mix must be weights above 0, got {self.mix}")
        if not all(times >= 1 for times in self.repeat):
            raise ValueError(f"repeat must be whole numbers from 1 on, got {self.repeat}")

    def require_sets(self, train_sets: int, val_sets: int) -> None:
        """Raise ValueError where a data set lacks its number, or a head what it is validated on."""
        if self.heads == "separate" and not 1 < train_sets == val_sets:
            raise ValueError(
                f"heads separate needs several --train, and a --val for each in their order, got {train_sets} and"
                f" {val_sets}"
            )
        for name, numbers in (("mix", self.mix), ("repeat", self.repeat)):
            if numbers and (train_sets == 1 or len(numbers) != train_sets):
                raise ValueError(
                    f"{name} must have a number for each of several --train, got {len(numbers)} for {train_sets}"
                )

    def clips_per_epoch(self, train: JoinedDataset) -> tuple[int, ...]:
        """How many clips of each data set an epoch has; UserError where one would have none."""
        sizes = tuple(map(len, train.datasets))
        if self.repeat:
            return tuple(times * size for times, size in zip(self.repeat, sizes, strict=True))
        if not self.mix:
            return sizes
        counts = apportion(sum(sizes), self.mix)
        for name, count in zip(train.names, counts, strict=True):
            if not count:
                raise UserError(f"--mix leaves {name} no clip of the {sum(sizes)} of an epoch: give it a larger weight")
        return counts


def open_joined(
    train_locations: Sequence[str], val_locations: Sequence[str], remote: RemoteConfig, heads: Heads = "joined"
) -> tuple[JoinedDataset, JoinedDataset]:
    """The training and the validation data, each of one or several data sets, with the classes of the training data.

    Raises:
        UserError: a class to be validated is none that is trained, views differ, or the same clips are given twice.
    """
    if len(train_locations) == len(val_locations) == 1:
        one, other = open_pair(train_locations[0], val_locations[0], remote)
        return JoinedDataset.of([one]), JoinedDataset.of([other])
    train_sets, val_sets = ([remote.open(place) for place in places] for places in (train_locations, val_locations))
    given = [*(("--train", one) for one in train_sets), *(("--val", one) for one in val_sets)]
    for (option, one), (other_option, other) in combinations(given, 2):
        if one.manifest.digest == other.manifest.digest:
            remedy = "give the test clips" if option != other_option else "give them once"
            remedy += ", and --mix or --repeat" if other_option == "--train" else ""
            raise UserError(
                f"{other_option} {other.location} holds the very clips of {option} {one.location}: {remedy}"
            )
    (option, first), *others = given
    for other_option, other in others:
        if other.manifest.focus != first.manifest.focus:
            raise UserError(
                f"{other_option} {other.location} shows {other.manifest.focus}, but {option} {first.location} shows"
                f" {first.manifest.focus}: pack both alike"
            )
    train = JoinedDataset.of(train_sets) if heads == "joined" else JoinedDataset.apart(train_sets)
    return train, JoinedDataset(tuple(val_sets), train.classes, train.head_classes)


def mixture_notes(train: JoinedDataset, val: JoinedDataset) -> Iterator[str]:
    """Sentences on clips that are in two of the data sets, and on training clips that lack what others have."""
    for one, other in product(train.datasets, val.datasets):
        if (note := shared_clips_note(one, other)) is not None:
            yield note
    for one, other in combinations(train.datasets, 2):
        if len(shared := SharedClips.find(other, one.material)):
            yield f"--train {other.location} shares {shared} with --train {one.location}: they come with both"
    for what, counts in (
        ("human masks: their masked versions", [one.mask_count for one in train.datasets]),
        ("scene labels: they", [one.scene_count for one in train.datasets]),
    ):
        without = [str(one.location) for one, count in zip(train.datasets, counts, strict=True) if not count]
        if without and any(counts):
            yield f"clips of --train {' and '.join(without)} have no {what} take no part in the losses that need them"


def epoch_line(train: JoinedDataset, counts: Sequence[int], steps: int) -> str:
    """What an epoch of several data sets is, for a person."""
    sets = zip(train.names, counts, train.datasets, strict=True)
    parts = [
        f"{count} of the {len(dataset)} of {name}"
        if count <= len(dataset)
        else f"{count} of {name}, which has {len(dataset)}"
        for name, count, dataset in sets
    ]
    return f"an epoch has {sum(counts)} clips in {steps} steps: {', '.join(parts)}"


def labelled_scenes(train: JoinedDataset) -> dict[int, NDArray[np.float16]]:
    """The scene labels (K, 365) of those data sets that have any, by their places in ``train``.

    Raises:
        UserError: some clips of such a data set have none, or no data set has any.
    """
    labelled = [number for number, one in enumerate(train.datasets) if one.scene_count]
    return {number: require_scenes(train.datasets[number]) for number in labelled or [0]}
