"""What must hold of training, in two processes, on data with a damaged clip: an end, never a hang."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from tests.forked import Rank, ranks, run_command

EPOCHS = 2


@pytest.fixture
def damaged(tiny_dataset: Path, tmp_path: Path) -> Path:
    """A copy in which the markers of clip 5 are gone: it can be read, but not cut."""
    folder = Path(shutil.copytree(tiny_dataset, tmp_path / "damaged"))
    row = np.load(folder / "samples.npy")[5]
    strip = np.load(folder / "strips.npy")[row["first_strip"]]
    shard = folder / json.loads((folder / "manifest.json").read_text())["shards"][row["shard"]]["name"]
    data = bytearray(shard.read_bytes())
    start = int(strip["offset"]) + int(strip["header_bytes"])
    scan = np.frombuffer(data, np.uint8)[start : start + int(strip["bytes"]) - int(strip["header_bytes"])]
    scan[(scan >= 0xD0) & (scan <= 0xD7)] = 0
    shard.write_bytes(data)
    return folder


@contextmanager
def pretraining_in_two_processes(train: Path, val: Path, out: Path, *options: str) -> Iterator[list[Rank]]:
    size = ["--frames", 8, "--size", 32, "--backbone", "small3d", "--epochs", EPOCHS, "--batch-size", 7]
    arguments = ["--objective", "baseline", *size, "--train", train, "--val", val, "--out", out, *options]
    with ranks(out.parent, 2, run_command, "scenebias.pretrain", arguments) as started:
        yield started


def test_a_damaged_clip_on_one_rank_ends_all_ranks_with_its_name(
    damaged: Path, tiny_test_dataset: Path, tmp_path: Path
) -> None:
    with pretraining_in_two_processes(damaged, tiny_test_dataset, tmp_path / "run") as both:
        printed = [rank.wait() for rank in both]
        assert all(rank.process.exitcode != 0 for rank in both)
    assert sum("sample 5, byte" in text for text in printed) == 1
    assert not (tmp_path / "run" / "result.json").exists()


def test_a_skipped_clip_is_counted_over_all_ranks_and_told_at_the_end(
    damaged: Path, tiny_test_dataset: Path, tmp_path: Path
) -> None:
    options = ("--on-fault", "skip", "--max-skipped-share", "0.2")
    with pretraining_in_two_processes(damaged, tiny_test_dataset, tmp_path / "run", *options) as both:
        printed = [rank.finish() for rank in both]
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["skipped_clips"] == EPOCHS
    assert [numbers["skipped_clips"] for numbers in result["history"]] == [1, 1]
    assert f"{EPOCHS} training clips could not be read and were skipped" in printed[0]
    assert sum("skipped: clip" in text for text in printed) == 1
