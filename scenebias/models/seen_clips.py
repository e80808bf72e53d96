"""Which clips weights have been trained on, and why data cannot fairly test them.

Weights keep a fingerprint of every clip that they have seen, through all stages: 8 bytes for one that is all of its
video, 16 for a part of one. What they saw before they kept it, in an earlier version or another program, is known by
the names of the data sets alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from shards.dataset import ShardDataset
from shards.material import WHOLE_END, Material
from shards.shared_clips import SharedClips

WHOLE = "all"
"""The subset that holds all others of its split."""
_WHOLE_VIDEOS, _PART_VIDEOS, _PART_RANGES = "whole_videos", "part_videos", "part_ranges"
_WHOLE_OF = {"mini_kinetics": "kinetics400", "jhmdb": "hmdb51"}
"""Data sets whose subsets are parts of those subsets of another."""
_ENCODED_ANEW = frozenset({"hmdb51", "jhmdb"})
"""Two of these whose videos are the same, and their files not: no fingerprint tells."""


@dataclass(frozen=True)
class TrainedOn:
    """A data set that weights have seen: the fields of its manifest that tell it from others."""

    dataset: str
    split: str
    subset: str
    digest: str

    def __str__(self) -> str:
        return " ".join(part for part in (self.dataset, self.split, self.subset) if part)


def identity_of(dataset: ShardDataset) -> TrainedOn:
    """What tells ``dataset`` from others in a weight file."""
    manifest = dataset.manifest
    return TrainedOn(manifest.dataset, manifest.split, manifest.subset, manifest.digest)


@dataclass(frozen=True, eq=False)
class SeenClips:
    """The fingerprint of the clips that weights were trained on."""

    data: tuple[str, ...]
    """Digests of the data sets of which it holds every clip."""
    material: Material
    """The frames that were seen, merged."""

    @classmethod
    def after(cls, earlier: "SeenClips | None", train: ShardDataset) -> "SeenClips":
        """What weights have seen that were trained on ``train`` after what they saw before."""
        before = cls((), Material.empty()) if earlier is None else earlier
        clips = train.material
        known = (train.manifest.digest,) if clips.is_known and train.manifest.digest not in before.data else ()
        return cls((*before.data, *known), before.material.joined_with(clips))

    def tensors(self) -> dict[str, Tensor]:
        """The material, for a weight file: whole videos int64 (V,); parts of others int64 (N,) and int32 (N, 2)."""
        material = self.material
        is_whole_N = (material.start_N == 0) & (material.end_N == WHOLE_END)
        # All numbers are unsigned, and stored as what safetensors and torch know in any version.
        range_N2 = np.stack([material.start_N, material.end_N], axis=1).astype(np.uint32).view(np.int32)
        return {
            _WHOLE_VIDEOS: torch.from_numpy(material.source_N[is_whole_N].view(np.int64)),
            _PART_VIDEOS: torch.from_numpy(material.source_N[~is_whole_N].view(np.int64)),
            _PART_RANGES: torch.from_numpy(range_N2[~is_whole_N]),
        }

    @classmethod
    def of_tensors(cls, data: Sequence[str], tensors: Mapping[str, Tensor]) -> Self:
        """Read back what `tensors` gave; KeyError or ValueError where it is something else."""
        whole_N, part_N, range_N2 = (tensors[name].numpy() for name in (_WHOLE_VIDEOS, _PART_VIDEOS, _PART_RANGES))
        kinds = [(array.dtype, array.shape[1:]) for array in (whole_N, part_N, range_N2)]
        if kinds != [(np.int64, ()), (np.int64, ()), (np.int32, (2,))] or len(part_N) != len(range_N2):
            raise ValueError("its list of clips is damaged")
        range_N2 = range_N2.view(np.uint32).astype(np.int64)
        material = Material(
            np.concatenate([whole_N, part_N]).view(np.uint64),
            np.concatenate([np.zeros(len(whole_N), np.int64), range_N2[:, 0]]),
            np.concatenate([np.full(len(whole_N), WHOLE_END), range_N2[:, 1]]),
        )
        return cls(tuple(data), material.merged)


@dataclass(frozen=True)
class Verdict:
    """Whether data can fairly test weights."""

    reason: str | None
    """Why they cannot, as a clause; None: nothing speaks against it."""
    remedy: str
    """What to do about it but for forcing it."""
    doubt: str | None
    """What of it rests on names alone, as a clause; None: it was told by the clips."""


def judge(trained_on: Sequence[TrainedOn], seen: SeenClips | None, dataset: ShardDataset) -> Verdict:
    """Whether weights that have seen this can be tested on ``dataset``: by its clips, and by names where it must be."""
    data = identity_of(dataset)
    by_clip = seen.data if seen is not None and dataset.material.is_known else ()
    by_name = [one for one in trained_on if one.digest not in by_clip or {one.dataset, data.dataset} == _ENCODED_ANEW]
    doubt = _doubt(by_name, trained_on, seen, data)
    if seen is not None and len(shared := SharedClips.find(dataset, seen.material)):
        same = any(one.digest == data.digest for one in trained_on)
        which = f"these very shards ({data}), {shared}" if same else str(shared)
        return Verdict(
            f"the weights were trained on {which}", "choose other weights, or data without these clips", None
        )
    remedy = (
        "choose weights that have not seen it, tell data sets apart by name when packing them (--dataset, --subset)"
    )
    return Verdict(seen_reason(by_name, data), remedy, doubt)


def seen_reason(trained_on: Sequence[TrainedOn], data: TrainedOn) -> str | None:
    """Why, by their names, ``data`` cannot test weights that were ``trained_on`` others, as a clause; None if it can.

    It cannot if the weights were trained on the very same shards or subset (of Mini-Kinetics: on that of Kinetics-400,
    of JHMDB: on that of HMDB51, and the other way round), or on any subset of another split of the same data set: such
    splits (UCF101, HMDB51) deal the same videos anew into training and test.
    """
    for seen in trained_on:
        if seen.digest == data.digest:
            return f"the weights were trained on these very shards ({seen})"
        if _WHOLE_OF.get(seen.dataset, seen.dataset) != _WHOLE_OF.get(data.dataset, data.dataset):
            continue
        if seen.split != data.split:
            return f"the weights were trained on {seen}, which shares videos with {data}"
        if seen.subset == data.subset or WHOLE in (seen.subset, data.subset):
            return f"the weights were trained on {seen}"
    return None


def _doubt(
    by_name: Sequence[TrainedOn], trained_on: Sequence[TrainedOn], seen: SeenClips | None, data: TrainedOn
) -> str | None:
    if not trained_on and seen is None:
        return "the weights do not say what they were trained on"
    if not by_name:
        return None
    names = ", ".join(dict.fromkeys(map(str, by_name)))
    if all({one.dataset, data.dataset} == _ENCODED_ANEW for one in by_name):
        return f"JHMDB's videos are HMDB51's, encoded anew, so {data} is compared with {names} by name alone"
    if seen is not None and all(one.digest in seen.data for one in by_name):
        return f"which videos the clips of {data} are of is not known, so it is compared with {names} by name alone"
    return f"the weights do not say which clips of {names} they have seen, so {data} is compared with it by name alone"
