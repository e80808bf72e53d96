"""What must not grow with the size of a data set or the length of a clip."""

import os
import re
import runpy
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shards.dataset import ShardDataset
from shards.format.sample import Sample
from tests.project import ROOT
from tools.trials.ready_samples import write_samples

simulate_dataset = runpy.run_path(str(ROOT / "tools" / "trials" / "open_scale.py"))["simulate_dataset"]

PART_FRAMES = 32


def resident_bytes(folder: Path) -> int:
    """How much of the mapped files of ``folder`` this process has in memory."""
    mappings = re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", Path("/proc/self/smaps").read_text(), flags=re.MULTILINE)
    ours = [mapping for mapping in mappings if str(folder) in mapping]
    assert ours, "nothing is mapped"
    return sum(int(kilobytes) * 1024 for mapping in ours for kilobytes in re.findall(r"^Rss: +(\d+) kB", mapping, re.M))


def test_opening_takes_no_more_for_more_samples(tmp_path):
    allocated = []
    for sample_count in (1_000, 200_000):
        directory = tmp_path / str(sample_count)
        directory.mkdir()
        simulate_dataset(directory, sample_count, 50)
        tracemalloc.start()
        dataset = ShardDataset.open(directory)
        allocated.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert len(dataset) == dataset.mask_count == dataset.scene_count == sample_count
    assert allocated[1] - allocated[0] < 200_000  # one number of each sample would be 1,600,000
    tables_bytes = sum((directory / name).stat().st_size for name in ("samples.npy", "strips.npy"))
    assert resident_bytes(directory) < tables_bytes / 4


def test_what_is_told_of_samples_is_mapped_and_cannot_be_written(tmp_path):
    simulate_dataset(tmp_path, 100, 3)
    dataset = ShardDataset.open(tmp_path)
    for table, width in ((dataset.labels, ()), (dataset.frame_counts, ()), (dataset.frame_sizes, (2,))):
        assert (table.dtype, table.shape) == (np.int64, (100, *width))
        with pytest.raises(ValueError, match="read-only"):
            table[0] = 0
        taken = table[np.array([7, 7, 99])]
        assert taken.flags.c_contiguous
        assert taken.flags.writeable


@pytest.fixture(params=["filmstrip", "h264"])
def repeating_clips(request, tmp_path, synthetic_sample):
    """A data set of two clips that are one part over and over: 5 parts, and 100 of 3,200 frames; opened."""
    sample = synthetic_sample(0, PART_FRAMES, width=64, codec=request.param, frames_per_part=PART_FRAMES)

    def repeated(repeats: int) -> Sample:
        info = replace(sample.info, frame_count=repeats * PART_FRAMES)
        masks = np.tile(sample.masks, (repeats, 1, 1))
        return replace(sample, parts=sample.parts * repeats, masks=masks, info=info)

    write_samples(tmp_path / "d", map(repeated, (5, 100)), ("clap",))
    return ShardDataset.open(tmp_path / "d")


def test_a_window_costs_the_same_reads_anywhere_in_a_clip_of_any_length(repeating_clips, monkeypatch):
    reads: list[int] = []
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda file, size, offset: reads.append(size) or pread(file, size, offset))

    def reads_of_window(clip: int, start: int) -> list[int]:
        reads.clear()
        repeating_clips.read_clip(clip, np.arange(start, start + 16))
        return reads.copy()

    shard_bytes = repeating_clips.manifest.shards[0].bytes
    for offset_in_part in (3, PART_FRAMES - 8):  # in one part, over two of them
        expected = reads_of_window(0, offset_in_part)
        assert 0 < sum(expected) < shard_bytes / 20
        for clip, part in ((0, 2), (0, 3), (1, 0), (1, 49), (1, 98)):
            assert reads_of_window(clip, part * PART_FRAMES + offset_in_part) == expected


def test_a_window_costs_about_the_same_reads_anywhere_in_a_long_strip(tmp_path, synthetic_sample, monkeypatch):
    write_samples(tmp_path / "d", [synthetic_sample(0, 1_000, width=64, frames_per_part=1_000)], ("clap",))
    dataset = ShardDataset.open(tmp_path / "d")
    sizes: list[int] = []
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda file, size, offset: sizes.append(size) or pread(file, size, offset))
    costs = []
    for start in (0, 492, 984):
        sizes.clear()
        dataset.read_clip(0, np.arange(start, start + 16))
        costs.append((len(sizes), sum(sizes)))
    calls, taken = zip(*costs, strict=True)
    assert len(set(calls)) == 1
    assert max(taken) < 1.1 * min(taken)
    assert max(taken) < dataset.manifest.shards[0].bytes / 20
