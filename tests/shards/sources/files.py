"""Files that sources find, and what they list."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any


def touch(*paths: Path) -> None:
    """Make empty files, with their folders."""
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def names(entries: Iterable[Any]) -> list[str]:
    """What the clips of a listing are called."""
    return [entry.name for entry in entries]
