"""What became of every clip that a data set should hold."""

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from shards.errors import UserError
from shards.sources.listing import UNKNOWN_CLASS, ClipEntry, Listing, utf8_name
from shards.sources.remarks import Remarks
from shards.sources.texts import some
from shards.system.atomic import write_json


@dataclass(frozen=True)
class ClassCounts:
    """Clips of one class."""

    wanted: int
    """Clips of the listing: ``packed + missing + broken``."""
    packed: int
    """Those that are in the shards."""
    missing: int
    """Those whose video cannot be had."""
    broken: int
    """Those that were set aside."""


@dataclass(frozen=True)
class PackReport:
    """The outcome of one pack."""

    listing: Listing
    """What should have been packed."""
    broken: Mapping[str, str]
    """Name of every clip that was set aside, and why."""
    without_masks: tuple[str, ...]
    """Packed clips for which the mask source, where one was given, has no file."""
    without_scenes: tuple[str, ...]
    """Packed clips for which the scene source, where one was given, has no label."""
    without_person: tuple[str, ...] = ()
    """Packed clips whose masks show nobody to focus on, where that was asked for: they show the centre."""
    truth_problems: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """What of the labels within packed clips did not fit their videos, and what was done, by kind."""
    shared: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Packed clips that share frames of a video with each data set from which they should be apart, by its location."""
    equal_files: Remarks = field(default_factory=dict)
    """What the checksums of the videos tell of the packed clips."""

    @property
    def broken_clips(self) -> list[ClipEntry]:
        """The clips that were set aside."""
        return [entry for entry in self.listing.clips if entry.name in self.broken]

    @property
    def remarks(self) -> Remarks:
        """What should be known of lists and files. What the checksums tell stands for what the lists tell of it."""
        return {**self.listing.remarks, **self.equal_files}

    @property
    def packed_count(self) -> int:
        return len(self.listing.clips) - len(self.broken)

    @property
    def empty_classes(self) -> list[str]:
        """Classes of which no clip was packed."""
        return [name for name, counts in self.counts().items() if name != UNKNOWN_CLASS and not counts.packed]

    def counts(self) -> dict[str, ClassCounts]:
        """The counts of every class, in the order of the labels; last, those of missing clips of `UNKNOWN_CLASS`."""
        found = Counter(entry.class_name for entry in self.listing.clips)
        missing = Counter(entry.class_name for entry in self.listing.missing)
        broken = Counter(entry.class_name for entry in self.broken_clips)
        names = (*self.listing.classes, *([UNKNOWN_CLASS] if missing[UNKNOWN_CLASS] else []))
        return {
            name: ClassCounts(found[name] + missing[name], found[name] - broken[name], missing[name], broken[name])
            for name in names
        }

    def save(self, path: Path) -> None:
        """Write the report as JSON; files are named from the folder that all clips have in common."""
        path_of = {entry.name: Path(str(entry.path)).absolute() for entry in self.listing.clips}
        root = os.path.commonpath([path.parent for path in path_of.values()])
        value: dict[str, Any] = {
            "dataset": self.listing.dataset,
            "split": self.listing.split,
            "subset": self.listing.subset,
            "packed": self.packed_count,
            "classes": {name: asdict(counts) for name, counts in self.counts().items()},
            "empty_classes": self.empty_classes,
            "missing": {entry.name: entry.reason for entry in self.listing.missing},
            "broken": {
                name: {"file": utf8_name(str(path_of[name].relative_to(root))), "reason": self.broken[name]}
                for name in (entry.name for entry in self.broken_clips)
            },
            "without_masks": sorted(self.without_masks),
            "without_scenes": sorted(self.without_scenes),
            "without_person": sorted(self.without_person),
            "unlisted": list(self.listing.unlisted),
            "remarks": {kind: list(items) for kind, items in self.remarks.items()},
            "shared": {location: sorted(names) for location, names in self.shared.items()},
        }
        if any(entry.truth for entry in self.listing.clips):
            value["truth"] = {kind: sorted(sentences) for kind, sentences in self.truth_problems.items()}
        write_json(path, value)


def strict_error(broken: Mapping[str, str]) -> UserError:
    """What ``--strict`` says of broken clips."""
    return UserError(f"--strict: broken: {some_broken(broken)}; replace or remove the videos")


def by_kind(problems: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """The sentences of pairs of a kind and a sentence, by kind."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for kind, sentence in problems:
        found[kind].append(sentence)
    return dict(sorted(found.items()))


def refuse_misfits(problems: Mapping[str, Sequence[str]]) -> None:
    """Raise what ``--strict`` says of labels that do not fit their videos, if there are any."""
    for kind, sentences in sorted(problems.items()):
        raise UserError(f"--strict: {kind}: {some(sorted(sentences))}; correct the labels")


def refuse_shared(shared: Mapping[str, Sequence[str]]) -> None:
    """Raise what ``--strict`` says of clips that another data set has too, if there are any."""
    for location, names in shared.items():
        if names:
            raise UserError(f"--strict: also in {location}: {some(names)}; leave them out of one")


def some_broken(broken: Mapping[str, str]) -> str:
    """The first few broken clips, with their reasons, and how many there are."""
    return some([f"{name} ({reason})" for name, reason in broken.items()])
