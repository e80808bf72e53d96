"""The samples of the shards as a sequential reader meets them."""

import tarfile
from collections.abc import Iterator
from itertools import groupby
from typing import IO, cast

import numpy as np

from scenebias.benchmark.loading.setting import Setting
from shards.format.sample import MASKS


def stored_samples(setting: Setting) -> Iterator[tuple[int, dict[str, bytes]]]:
    """Number and components of every sample that is measured, in the order of the shards."""
    dataset = setting.dataset
    wanted = {window.sample for window in setting.windows}
    shards = np.unique(np.searchsorted(dataset.shard_starts, sorted(wanted), side="right") - 1)
    for shard in shards.tolist():
        with tarfile.open(dataset.directory / dataset.manifest.shards[shard].name) as tar:
            for key, members in groupby(tar, lambda member: member.name.partition(".")[0]):
                if int(key) in wanted:
                    yield int(key), {member.name.partition(".")[2]: _content(tar, member) for member in members}


def stored_masks(setting: Setting) -> dict[int, bytes]:
    """The .npy file of every measured sample that has masks."""
    return {number: components[MASKS] for number, components in stored_samples(setting) if MASKS in components}


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    with cast(IO[bytes], tar.extractfile(member)) as file:
        return file.read()
