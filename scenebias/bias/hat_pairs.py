"""HAT's lists of action swaps: which clip lends which human a background.

Of Chung et al., "Enabling Detailed Action Recognition Evaluation Through Video Dataset Augmentation", NeurIPS 2022; the
lists, of Kinetics-400, are in the folder data of their code, princetonvisualai/HAT.

Shape suffixes: N clips of a data set.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scenebias.annotators.clip_names import lookup_names
from scenebias.annotators.plain_pickle import read_plain_pickle
from shards.dataset import ShardDataset
from shards.errors import UserError


@dataclass(frozen=True)
class HatPairs:
    """The pairs of a list that can be made of a data set."""

    background_N: np.ndarray
    """int64, for each clip the one that lends it a background; -1 where there is none."""
    listed: int
    """Pairs that the list has, these among them."""


def read_pair_list(path: Path) -> dict[str, str]:
    """The pairs of a pickle of HAT's: by the name of the clip of the human that of the background, ``<class>/<clip>``.

    It is read without being run. HAT has ``[background, its frames, its class]`` for every human; the latter two are
    not read. Raises UserError for anything else.
    """
    content = read_plain_pickle(path)
    if isinstance(content, dict) and content and all(map(_is_pair, content.items())):
        return {human: value[0] for human, value in content.items()}
    raise UserError(f"{path}: no pairs of clips; give a list of HAT's, such as actionswap_rand_1.pickle")


def _is_pair(item: tuple[object, object]) -> bool:
    human, value = item
    return isinstance(human, str) and isinstance(value, list | tuple) and len(value) > 0 and isinstance(value[0], str)


def find_pairs(path: Path, data: ShardDataset, usable_N: np.ndarray) -> HatPairs:
    """The pairs of the list ``path`` of which both clips are in ``data`` and usable (bool).

    Clips are found by their names, and by the YouTube id alone where the data set calls them so. Raises UserError where
    there is no such pair.
    """
    pairs = read_pair_list(path)
    number_of = {data.info(sample).name: sample for sample in range(len(data))}
    background_N = np.full(len(data), -1, dtype=np.int64)
    in_data = 0
    for names in pairs.items():
        human, background = (
            next((number_of[name] for name in lookup_names(listed) if name in number_of), None) for listed in names
        )
        if human is None or background is None:
            continue
        in_data += 1
        if usable_N[human] and usable_N[background]:
            background_N[human] = background
    if (background_N < 0).all():
        raise UserError(
            f"{path}: of none of its {len(pairs)} pairs are both clips in {data.location} with effective human masks"
            f" (of {in_data} both are in it); give a list of this data set, or pack masks of its people"
        )
    return HatPairs(background_N, len(pairs))
