"""Clips of a copied data set that are spoilt on purpose."""

from pathlib import Path

import numpy as np

from shards.codecs.filmstrip import StripHeader


def shard_of(folder: Path, sample: int) -> Path:
    number = np.load(folder / "samples.npy")[sample]["shard"]
    return sorted(folder.glob("shard-*.tar"))[number]


def strip_of(folder: Path, sample: int) -> np.void:
    return np.load(folder / "strips.npy")[np.load(folder / "samples.npy")[sample]["first_strip"]]


def change(folder: Path, sample: int, place: int, value: bytes) -> None:
    """Write other bytes into a clip's strip."""
    path = shard_of(folder, sample)
    data = bytearray(path.read_bytes())
    start = int(strip_of(folder, sample)["offset"]) + place
    data[start : start + len(value)] = value
    path.write_bytes(data)


def break_marker(folder: Path, sample: int) -> None:
    """A strip that is read, but whose markers do not match its table."""
    strip = strip_of(folder, sample)
    data = shard_of(folder, sample).read_bytes()[int(strip["offset"]) :][: int(strip["bytes"])]
    header = StripHeader.parse(data)
    for end in header.offsets[1:].tolist():
        change(folder, sample, header.header_bytes + end - 2, b"\x00\x00")


def break_picture(folder: Path, sample: int) -> None:
    """A strip whose bytes are read and cut, and that no decoder takes: its size is not the index's."""
    strip = strip_of(folder, sample)
    data = shard_of(folder, sample).read_bytes()[int(strip["offset"]) :][: int(strip["header_bytes"])]
    frame_header = data.index(b"\xff\xc0")
    change(folder, sample, frame_header + 4, b"\x63")  # 99 bits a sample
