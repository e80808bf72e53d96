"""What became of every clip that a data set should hold."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from shards.atomic import write_json
from shards.sources.listing import Listing


@dataclass(frozen=True)
class ClassCounts:
    """Clips of one class: ``wanted = packed + missing + broken``."""

    wanted: int
    packed: int
    missing: int
    broken: int


@dataclass(frozen=True)
class PackReport:
    """The outcome of one pack."""

    listing: Listing
    broken: Mapping[str, str]
    """Name of every clip that was set aside, and why."""
    without_masks: tuple[str, ...]
    """Packed clips for which the mask source, where one was given, has no file."""

    @property
    def packed_count(self) -> int:
        return len(self.listing.clips) - len(self.broken)

    def counts(self) -> dict[str, ClassCounts]:
        """The counts of every class, in the order of the labels."""
        found = Counter(entry.class_name for entry in self.listing.clips)
        missing = Counter(entry.class_name for entry in self.listing.missing)
        broken = Counter(entry.class_name for entry in self.listing.clips if entry.name in self.broken)
        return {
            name: ClassCounts(found[name] + missing[name], found[name] - broken[name], missing[name], broken[name])
            for name in self.listing.classes
        }

    def save(self, path: Path) -> None:
        """Write the report as JSON."""
        value: dict[str, Any] = {
            "dataset": self.listing.dataset,
            "split": self.listing.split,
            "subset": self.listing.subset,
            "packed": self.packed_count,
            "classes": {name: asdict(counts) for name, counts in self.counts().items()},
            "missing": sorted(entry.name for entry in self.listing.missing),
            "broken": dict(self.broken),
            "without_masks": sorted(self.without_masks),
        }
        write_json(path, value)
