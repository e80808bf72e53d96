"""Hard scene labels: one category a clip, in a JSON file."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scenebias.annotators.clip_names import lookup_names
from scenebias.annotators.scenes.categories import plain_category, read_scene_categories
from shards.errors import UserError
from shards.format.sample import SCENE_COUNT
from shards.sources.listing import ClipEntry


class HardSceneLabels:
    """A JSON object from clip, as ``<class>/<clip>`` or ``<clip>`` alone, to the number or the name of a category.

    Numbers are 0 to 364, in the order of ``categories_places365.txt``; names need that file, and may have the folder of
    their first letter (``/a/airfield`` is ``airfield``). A label becomes the vector that is 1 there and 0 elsewhere.
    """

    def __init__(self, path: Path, entries: Sequence[ClipEntry], categories_path: Path | None = None) -> None:
        """Read the whole file.

        Raises:
            UserError: a file cannot be read, lists a clip twice, has a label that is no category, or one for a clip
                name that several of ``entries`` share.
        """
        self._path = path
        self._categories_path = categories_path
        categories = read_scene_categories(categories_path) if categories_path else ()
        numbers = {name: number for number, name in enumerate(categories)}
        try:
            labels = json.loads(path.read_bytes(), object_pairs_hook=_unique)
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(
                f"--scenes {path}: cannot be read ({error}); give a JSON object from clip to category, or 'none'"
            ) from error
        if not isinstance(labels, dict):
            raise UserError(f"--scenes {path}: no JSON object; write one from clip to category")
        self._categories = {clip: self._category(clip, label, numbers) for clip, label in labels.items()}
        shared = Counter(entry.name.rpartition("/")[2] for entry in entries)
        for clip, count in shared.items():
            if count > 1 and clip in self._categories:
                raise UserError(f"--scenes {path}: {count} clips are called {clip!r}; write <class>/<clip> there")

    def settings(self) -> dict[str, str]:
        """What decides the labels beside the files."""
        return {"format": "HardSceneLabels"}

    def files(self) -> tuple[Path, ...]:
        """The labels, and the categories where they were given."""
        return (self._path, self._categories_path) if self._categories_path else (self._path,)

    def __contains__(self, entry: ClipEntry) -> bool:
        return any(name in self._categories for name in _names(entry))

    def vector(self, entry: ClipEntry) -> NDArray[np.floating]:
        """Return 1 at the category of ``entry`` and 0 elsewhere, float16 (365,); a KeyError where there is none."""
        name = next((name for name in _names(entry) if name in self._categories), entry.name)
        one_hot_S = np.zeros(SCENE_COUNT, dtype=np.float16)
        one_hot_S[self._categories[name]] = 1
        return one_hot_S

    def _category(self, clip: str, label: Any, numbers: dict[str, int]) -> int:
        """Return the number of the category that ``label`` means."""
        if type(label) is int and 0 <= label < SCENE_COUNT:
            return label
        if isinstance(label, str) and not numbers:
            raise UserError(
                f"--scenes {self._path}: the label of {clip} is a name, {label!r}; give the order of the categories as "
                "--scene-categories categories_places365.txt"
            )
        if isinstance(label, str) and plain_category(label) in numbers:
            return numbers[plain_category(label)]
        raise UserError(
            f"--scenes {self._path}: the label of {clip}, {label!r}, is no category of Places365; "
            f"write its number, 0 to {SCENE_COUNT - 1}, or its name"
        )


def _names(entry: ClipEntry) -> Iterator[str]:
    """Under which names the label of ``entry`` is looked up, in this order."""
    yield from lookup_names(entry.name)
    for name in lookup_names(entry.name):
        yield name.rpartition("/")[2]


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object as a dictionary; a ValueError where a name is repeated."""
    content = dict(pairs)
    if len(content) < len(pairs):
        name, count = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"{name!r} is listed {count} times")
    return content
