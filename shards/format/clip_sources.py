"""The index `sources.npy`: of which frames of which video every clip of a data set is, so that data sets are compared
without reading their shards."""

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shards.format.sample import ClipInfo
from shards.material import WHOLE_END, Material

SOURCES_NAME = "sources.npy"
SOURCE_DTYPE = np.dtype([("sha256", "u1", (32,)), ("start_frame", "<i8"), ("end_frame", "<i8")])
"""A clip that is all of its video has the frames 0 to -1; all are 0 where the source is not known."""

UNKNOWN_SOURCE = (bytes(32), 0, 0)
_CHECKSUM_BYTES = 8


def source_of(info: ClipInfo) -> tuple[bytes, int, int]:
    """The row of a clip, in the order of `SOURCE_DTYPE`."""
    if not re.fullmatch("[0-9a-f]{64}", info.source_sha256):
        return UNKNOWN_SOURCE
    return bytes.fromhex(info.source_sha256), *(info.source_frames or (0, -1))


def source_rows(sources: list[tuple[bytes, int, int]]) -> NDArray:
    """The table of these rows, `SOURCE_DTYPE` (N,)."""
    rows = np.zeros(len(sources), SOURCE_DTYPE)
    for row, (sha256, start, end) in zip(rows, sources, strict=True):
        row["sha256"], row["start_frame"], row["end_frame"] = np.frombuffer(sha256, np.uint8), start, end
    return rows


def sources_in_shard(shard: Path, samples: NDArray) -> NDArray:
    """The rows of the clips of a shard whose index has the rows ``samples``; reads what is known of each clip."""
    sources = []
    with shard.open("rb") as file:
        for place in samples["json"]:
            file.seek(int(place["offset"]))
            sources.append(source_of(ClipInfo.from_json(file.read(int(place["bytes"])))))
    return source_rows(sources)


def material_of_rows(rows: NDArray) -> Material:
    """What the clips of a table are made of, in its order."""
    tail_N8 = np.ascontiguousarray(rows["sha256"][:, -_CHECKSUM_BYTES:])
    end_N = rows["end_frame"]
    return Material(
        source_N=tail_N8.view(">u8").reshape(-1).astype(np.uint64),
        start_N=np.minimum(rows["start_frame"], WHOLE_END),
        end_N=np.where(end_N < 0, WHOLE_END, np.minimum(end_N, WHOLE_END)),
    )
