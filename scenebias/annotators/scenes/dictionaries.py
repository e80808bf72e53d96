"""Soft scene labels as SDN publishes them: pickled dictionaries of Places365 probabilities.

Shape suffixes: N clips, S scene categories.
"""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scenebias.annotators.clip_names import lookup_names
from scenebias.annotators.pickled_dictionary import read_pickled_dictionary
from scenebias.annotators.scenes.categories import are_probabilities
from shards.errors import UserError
from shards.format.sample import SCENE_COUNT
from shards.sources.listing import ClipEntry
from shards.sources.texts import clean


class SceneDictionaries:
    """The ``.npy`` files of a folder, or one such file: each a dictionary, saved with ``np.save``, of some classes.

    class -> clip, or the YouTube id of its video -> 'probs', float (365,), or float (n, 365) of n frames, of which the
    mean is the label. What else is there ('pred_cls', the most probable categories) is not read. The pickles are read
    without being run; one file is in memory at a time, and the labels of ``entries`` are kept, as float16.
    """

    def __init__(self, path: Path, entries: Sequence[ClipEntry]) -> None:
        """Read all files.

        Raises:
            UserError: there is no such file, one holds something else, two label the same clip, or a label is no
                probability vector.
        """
        self._files = tuple(sorted(path.glob("*.npy"))) if path.is_dir() else (path,)
        if not self._files:
            raise UserError(f"--scenes {path}: no .npy file in this folder; give SDN's dictionaries, or 'none'")
        self._probability_NS = np.empty((len(entries), SCENE_COUNT), dtype=np.float16)
        self._rows: dict[str, int] = {}
        wanted: defaultdict[str, list[ClipEntry]] = defaultdict(list)
        for entry in entries:
            wanted[entry.name.partition("/")[0]].append(entry)
        for file in self._files:
            for class_name, labels in read_pickled_dictionary(file).items():
                if not isinstance(labels, dict):
                    raise UserError(f"--scenes {file}: {class_name!r} holds no clips; it must map class, then clip")
                self._add(file, labels, wanted.get(clean(str(class_name)), []))

    def settings(self) -> dict[str, str]:
        """What decides the labels beside the files."""
        return {"format": "SceneDictionaries"}

    def files(self) -> tuple[Path, ...]:
        """All dictionaries."""
        return self._files

    def __contains__(self, entry: ClipEntry) -> bool:
        return entry.name in self._rows

    def vector(self, entry: ClipEntry) -> NDArray[np.floating]:
        """Return the probabilities of ``entry``, float16 (365,); a KeyError where there are none."""
        return self._probability_NS[self._rows[entry.name]]

    def _add(self, file: Path, labels: dict[str, Any], entries: Sequence[ClipEntry]) -> None:
        """Keep the labels of ``entries`` that are among ``labels``, those of one class."""
        for entry in entries:
            clips = [name.partition("/")[2] for name in lookup_names(entry.name)]
            clip = next((clip for clip in clips if clip in labels), None)
            if clip is None:
                continue
            if entry.name in self._rows:
                raise UserError(f"--scenes {file}: {entry.name} has a label in another file too; keep one of the two")
            try:
                probability_S = _mean_over_frames(labels[clip]["probs"])
            except (KeyError, TypeError, ValueError) as error:
                raise UserError(
                    f"--scenes {file}: the label of {entry.name} cannot be read ({error}); it must have 'probs', "
                    f"float ({SCENE_COUNT},) or (frames, {SCENE_COUNT})"
                ) from error
            if not are_probabilities(probability_S[np.newaxis]).all():
                raise UserError(
                    f"--scenes {file}: 'probs' of {entry.name} is no probability vector; apply the softmax to it"
                )
            self._rows[entry.name] = len(self._rows)
            self._probability_NS[self._rows[entry.name]] = probability_S


def _mean_over_frames(probs: object) -> NDArray[np.float64]:
    """Return (365,) of an array (365,) or (frames, 365)."""
    probs_NS = np.atleast_2d(np.asarray(probs))
    if probs_NS.dtype.kind != "f" or probs_NS.shape != (len(probs_NS), SCENE_COUNT) or not len(probs_NS):
        raise ValueError(f"'probs' are {probs_NS.dtype} {probs_NS.shape}")
    return probs_NS.mean(axis=0, dtype=np.float64)
