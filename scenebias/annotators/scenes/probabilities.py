"""Soft scene labels of all clips in one NumPy file.

Shape suffixes: N clips, S scene categories.
"""

import zipfile
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scenebias.annotators.clip_names import lookup_names
from scenebias.annotators.scenes.categories import are_probabilities, check_category_order
from shards.errors import UserError
from shards.format.sample import SCENE_COUNT
from shards.sources.listing import ClipEntry

ROWS_PER_CHECK = 4096  # the checks of 300,000 clips must not copy them all


class SceneFile:
    """A ``.npz`` file with ``clips``, N strings ``<class>/<clip>``, and ``probs``, float (N, 365); rows sum to 1.

    float16 is enough, and stays in memory as it is. ``categories``, 365 strings, may say the order of the categories.
    """

    def __init__(self, path: Path, categories: Sequence[str] | None = None) -> None:
        """Read the whole file; ``categories`` is the order that its own must have, if it has any.

        Raises:
            UserError: the file is missing, holds something else, names a clip twice, has its categories in another
                order, or a row is no probability vector.
        """
        self._path = path
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
                clips_N, self._probability_NS = content["clips"], content["probs"]
                order_S = content.get("categories")
        # NumPy: TypeError for a .npy; ZipFile: RuntimeError for an encrypted file.
        except (
            *(OSError, EOFError, KeyError, ValueError, TypeError, RuntimeError, MemoryError),
            *(zipfile.BadZipFile, zlib.error),
        ) as error:
            raise UserError(
                f"--scenes {path}: cannot be read ({error}); give an .npz file with 'clips' and 'probs', or 'none'"
            ) from error
        kinds = (clips_N.dtype.kind, self._probability_NS.dtype.kind)
        if kinds != ("U", "f") or self._probability_NS.shape != (*clips_N.shape, SCENE_COUNT) or clips_N.ndim != 1:
            raise UserError(
                f"--scenes {path}: 'clips' must be n strings and 'probs' float (n, {SCENE_COUNT}), found "
                f"{clips_N.dtype} {clips_N.shape} and {self._probability_NS.dtype} {self._probability_NS.shape}; "
                "write it again"
            )
        if order_S is not None and categories is not None:
            check_category_order([str(name) for name in order_S.flat], categories, f"--scenes {path}")
        names = clips_N.tolist()
        for start in range(0, len(names), ROWS_PER_CHECK):
            proper_N = are_probabilities(self._probability_NS[start : start + ROWS_PER_CHECK])
            if not proper_N.all():
                name = names[start + proper_N.argmin()]
                raise UserError(f"--scenes {path}: the row of {name} is no probability vector; write it again")
        self._rows = {name: row for row, name in enumerate(names)}
        if len(self._rows) < len(names):
            name, count = Counter(names).most_common(1)[0]
            raise UserError(f"--scenes {path}: {name} is listed {count} times; keep one row a clip")

    def settings(self) -> dict[str, str]:
        """What decides the labels beside the file."""
        return {"format": "SceneFile"}

    def files(self) -> tuple[Path, ...]:
        """The file."""
        return (self._path,)

    def __contains__(self, entry: ClipEntry) -> bool:
        return any(name in self._rows for name in lookup_names(entry.name))

    def vector(self, entry: ClipEntry) -> NDArray[np.floating]:
        """Return the probabilities of ``entry``, float (365,); a KeyError where there are none."""
        name = next((name for name in lookup_names(entry.name) if name in self._rows), entry.name)
        return self._probability_NS[self._rows[name]]
