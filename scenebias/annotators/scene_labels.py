"""Ready-made soft scene labels: Places365 probabilities that some scene network gave each clip."""

import zipfile
import zlib
from collections import Counter
from pathlib import Path

import numpy as np

from shards.errors import UserError
from shards.sample import SCENE_COUNT, SCENE_SUM_TOLERANCE
from shards.sources.listing import ClipEntry


class SceneFile:
    """A ``.npz`` file with ``clips``, n strings ``<class>/<clip>``, and ``probs``, float (n, 365); rows sum to 1."""

    def __init__(self, path: Path) -> None:
        """Read the whole file.

        Raises:
            UserError: the file is missing, holds something else, names a clip twice, or a row is no probability vector.
        """
        self.path = path
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
                clips, self._probability_NS = content["clips"], content["probs"]
        except (OSError, EOFError, KeyError, ValueError, TypeError, zipfile.BadZipFile, zlib.error) as error:
            raise UserError(
                f"--scenes {path}: cannot be read ({error}); give an .npz file with 'clips' and 'probs', or 'none'"
            ) from error
        kinds = (clips.dtype.kind, self._probability_NS.dtype.kind)
        if kinds != ("U", "f") or self._probability_NS.shape != (*clips.shape, SCENE_COUNT) or clips.ndim != 1:
            raise UserError(
                f"--scenes {path}: 'clips' must be n strings and 'probs' float (n, {SCENE_COUNT}), found {clips.dtype} "
                f"{clips.shape} and {self._probability_NS.dtype} {self._probability_NS.shape}; write it again"
            )
        totals = self._probability_NS.sum(axis=1, dtype=np.float64)
        off = ~(np.abs(totals - 1) <= SCENE_SUM_TOLERANCE) | ~(self._probability_NS >= 0).all(axis=1)
        if off.any():
            raise UserError(
                f"--scenes {path}: the row of {clips[off.argmax()]} is no probability vector; write it again"
            )
        self._rows = {name: row for row, name in enumerate(clips.tolist())}
        if len(self._rows) < len(clips):
            name, count = Counter(clips.tolist()).most_common(1)[0]
            raise UserError(f"--scenes {path}: {name} is listed {count} times; keep one row a clip")

    def __contains__(self, entry: ClipEntry) -> bool:
        return entry.name in self._rows

    def vector(self, entry: ClipEntry) -> np.ndarray:
        """Return the probabilities of ``entry``, float (365,).

        Raises:
            UserError: the file holds none for this clip.
        """
        row = self._rows.get(entry.name)
        if row is None:
            raise UserError(
                f"--scenes {self.path}: no scene vector for {entry.name}, but {len(self._rows)} for other clips; "
                "label the scenes of these very videos, or give 'none'"
            )
        return self._probability_NS[row]
