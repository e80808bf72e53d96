"""Which runs a transfer command consists of: every start on every pair of a training and a test set."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from scenebias.data.datasets import RemoteConfig, open_pair, require_same_classes
from scenebias.models.backbones import AnyBackbone
from scenebias.models.weights import WeightsMetadata, ensure_unseen, named_backbone, read_metadata, weights_at
from scenebias.reports.terminal import tell
from scenebias.run_folder.record import RECORD_NAME, leaves
from scenebias.training.options import WITHOUT_EFFECT
from shards.dataset import ShardDataset
from shards.errors import UserError
from shards.system.checksums import sha256_of

SCRATCH = "from scratch"
SAME_ROW = (*WITHOUT_EFFECT, "seed", "protocol")
"""Options of the pretraining that may differ between weights whose mean is taken."""


@dataclass(frozen=True)
class Start:
    """What a run starts from."""

    row: str
    """The row of the results that it belongs to."""
    number: int
    """Which of its row."""
    name: str
    """Of its folder."""
    weights: Path | None = None
    backbone: AnyBackbone | None = None
    """The video network of a random start, if it is to be that of other weights."""
    metadata: WeightsMetadata | None = None
    """What the weights say of themselves."""


@dataclass(frozen=True)
class Pair:
    """A training set and the test set that goes with it."""

    train: str
    val: str
    target: str
    """The data set of which this is a split."""
    split: str
    classes: tuple[str, ...]
    val_data: ShardDataset

    @property
    def name(self) -> str:
        """Of its folder."""
        return as_name(self.target, self.split)


@dataclass(frozen=True, kw_only=True)
class StartPlaces:
    """What to transfer to what, and where."""

    weights: tuple[Path, ...] = ()
    """Pretrained weights. Those that differ in the seed of their pretraining alone are one row of the results, and the
    second of them takes the seed after --seed, and so on. Without any the network starts at random."""
    scratch: bool = False
    """Also start at random, as many times as the row with the most weights: how much is pretraining worth?"""
    train: tuple[str, ...]
    """Packed data sets to train on: folders, or their URLs. Several splits of one data set count as their mean."""
    val: tuple[str, ...]
    """Packed data sets to test on, one for each of --train in the same order."""
    out: Path
    """Folder of the run, or of a folder for each where there are several; the same command continues what was
    interrupted, and adds the runs of more weights and data to those that are there."""


@dataclass(frozen=True)
class PlannedRun:
    """A start on a pair, in a folder of its own."""

    start: Start
    pair: Pair
    folder: Path
    trained_in: Path | None = None
    """The folder of an earlier one that trains the same on the same data, and tests on others."""


def planned_runs(
    places: StartPlaces, remote: RemoteConfig, *, force: bool, backbone: AnyBackbone | None = None
) -> list[PlannedRun]:
    """The runs of a command, pair by pair; a single one has all of ``--out``.

    ``backbone`` is what the user calls the network. Raises UserError where weights or data cannot be read or do not fit
    together, where weights have seen clips of a test set (unless forced), or are of a network of somebody's own code
    that the user does not call by name, or where ``--out`` holds a single run and there are several.
    """
    starts = find_starts(places.weights, scratch=places.scratch)
    for start in starts:
        if start.weights is not None and start.metadata is not None:
            named_backbone(start.weights, start.metadata, backbone)
    pairs = find_pairs(places.train, places.val, remote)
    check_unseen(starts, pairs, force=force)
    planned = [(start, pair) for pair in pairs for start in starts]
    if len(planned) == 1:
        return [PlannedRun(*planned[0], places.out)]
    if (places.out / RECORD_NAME).exists():
        raise UserError(f"--out {places.out} holds a single run: choose another folder for several")
    trainings: dict[tuple[str, str], Path] = {}
    runs = []
    for start, pair in planned:
        folder = places.out / pair.name / start.name
        first = trainings.setdefault((start.name, pair.train), folder)
        runs.append(PlannedRun(start, pair, folder, None if first == folder else first))
    return runs


def one_by_one(planned: Sequence[PlannedRun]) -> Iterator[PlannedRun]:
    """The same, each told before it begins where there are several."""
    for number, run in enumerate(planned):
        if len(planned) > 1:
            tell(f"run {number + 1} of {len(planned)}: {run.start.name} on {run.pair.name}")
        yield run


def as_name(*parts: str) -> str:
    """A file name of these parts, those that are empty left out; it leads to no other folder, whatever they hold."""
    return re.sub(r"[^\w.-]+", "-", "-".join(part for part in parts if part)).lstrip(".")


def find_starts(weights: Sequence[Path], *, scratch: bool) -> list[Start]:
    """The starts, row by row: from random weights first, as many as the longest row has, if ``scratch`` asks for it.

    Weights whose pretraining differs in the seed alone are one row, in the order of their seeds. It is named by their
    objective and, where rows share that, by the options in which they differ; weights that know of no objective have
    the names of their files. Without any weights the start is a random one. Raises UserError where weights cannot be
    read, or come twice.
    """
    found = [_Pretrained(path, read_metadata(path)) for path in weights]
    rows: dict[str, list[_Pretrained]] = {}
    for one in found:
        row = _row_name(one, [other for other in found if other.title == one.title])
        rows.setdefault(row, []).append(one)
    starts = []
    for row, members in rows.items():
        members.sort(key=lambda one: (one.seed or 0, one.digest))
        starts += [one.as_start(row, number) for number, one in enumerate(members)]
    names = [start.name for start in starts]
    for start in starts:
        if names.count(start.name) > 1:
            raise UserError(f"--weights {start.weights} come twice: give weights of different runs")
    if scratch or not weights:
        backbone = found[0].metadata.backbone if found else None
        count = max(map(len, rows.values()), default=1)
        starts = [Start(SCRATCH, number, f"scratch-{number}", backbone=backbone) for number in range(count)] + starts
    return starts


@dataclass(frozen=True)
class _Pretrained:
    """A weight file."""

    path: Path
    metadata: WeightsMetadata

    @cached_property
    def digest(self) -> str:
        return sha256_of(weights_at(self.path))[:8]

    @property
    def seed(self) -> int | None:
        schedule = self.metadata.configuration.get("schedule")
        return schedule.get("seed") if isinstance(schedule, Mapping) else None

    @property
    def title(self) -> str:
        objective = self.metadata.configuration.get("objective")
        if isinstance(objective, Mapping) and "name" in objective:
            return str(objective["name"])
        path = self.path
        return path.parent.name if path.stem == "weights" else path.name if path.is_dir() else path.stem

    @cached_property
    def setting(self) -> dict[str, Any]:
        """All that decides what the weights have learned, but for the seed."""
        options = leaves(dict(self.metadata.configuration))
        seen = [" ".join((one.dataset, one.split, one.subset)) for one in self.metadata.trained_on]
        return {
            "backbone": self.metadata.backbone,
            "trained_on": "; ".join(seen),
            **{name: value for name, value in options.items() if set(SAME_ROW).isdisjoint(name.split("."))},
        }

    def as_start(self, row: str, number: int) -> Start:
        name = as_name(self.title, "" if self.seed is None else f"seed{self.seed}", self.digest)
        return Start(row, number, name, self.path, metadata=self.metadata)


def _row_name(one: _Pretrained, namesakes: Sequence[_Pretrained]) -> str:
    names = sorted({name for other in namesakes for name in other.setting})
    differing = [name for name in names if any(other.setting.get(name) != one.setting.get(name) for other in namesakes)]
    said = [f"{name.rsplit('.', 1)[-1]} {one.setting.get(name, 'not known')}" for name in differing]
    return f"{one.title} ({', '.join(said)})" if said else one.title


def find_pairs(train: Sequence[str], val: Sequence[str], remote: RemoteConfig) -> list[Pair]:
    """The pairs, which go together by their position.

    Raises UserError where there are not as many of both, where a pair does not fit together, or where one split of a
    data set comes twice or with other classes than the rest.
    """
    if len(train) != len(val) or not train:
        raise UserError(
            f"--train names {len(train)} data sets and --val {len(val)}: give one or more training sets, and a test"
            " set for each in the same order"
        )
    pairs: dict[str, Pair] = {}
    for train_location, val_location in zip(train, val, strict=True):
        pair = _as_pair(*open_pair(train_location, val_location, remote), train_location, val_location)
        if pair.name in pairs:
            raise UserError(
                f"--val {pairs[pair.name].val} and {val_location} are both of {pair.target}, split {pair.split}: give"
                " each split once, or tell them apart by name when packing them (--dataset, --split)"
            )
        for other in pairs.values():
            if other.target == pair.target:
                require_same_classes(
                    pair.classes,
                    other.classes,
                    f"--val {val_location} has other classes than {other.val}, and both are of {pair.target}",
                    "pack both with the same list of classes, or tell them apart by name (--dataset)",
                )
        pairs[pair.name] = pair
    return list(pairs.values())


def _as_pair(train: ShardDataset, val: ShardDataset, train_location: str, val_location: str) -> Pair:
    manifest = val.manifest
    return Pair(train_location, val_location, manifest.dataset, manifest.split, manifest.classes, val)


def check_unseen(starts: Sequence[Start], pairs: Sequence[Pair], *, force: bool) -> None:
    """UserError where weights have seen clips of a test set, unless forced."""
    for start in starts:
        for pair in pairs:
            if start.weights is not None and start.metadata is not None:
                ensure_unseen(start.weights, start.metadata, pair.val_data, force=force)
