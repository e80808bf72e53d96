"""Two commands that are given one folder, or one file: the second is refused at once, and the first ends well."""

import json
import time
from pathlib import Path

import pytest

from tests.forked import LONGEST_RUN_S, Rank, started

SMALL = ("--backbone", "small3d", "--frames", "8", "--size", "32", "--batch-size", "4")


def wait_for(path: Path, rank: Rank) -> None:
    deadline_s = time.monotonic() + LONGEST_RUN_S
    while not path.exists():
        assert rank.process.is_alive(), rank.output.read_text()
        assert time.monotonic() < deadline_s
        time.sleep(0.005)


@pytest.mark.parametrize(
    ("module", "option"), [("scenebias.pretrain", "--profile"), ("scenebias.transfer.command", "--scratch")]
)
def test_a_second_training_into_a_folder_is_refused_and_takes_nothing_of_the_first(
    tiny_dataset: Path, tiny_test_dataset: Path, tmp_path: Path, module: str, option: str
) -> None:
    out = tmp_path / "run"
    options = ("--train", tiny_dataset, "--val", tiny_test_dataset, "--epochs", 12, "--out", out, option, *SMALL)
    with started(tmp_path / "first.txt", module, *options) as first:
        wait_for(out / "log.jsonl", first)
        own = out / ".weights.safetensors.0badcafe.tmp"  # as the first could be writing it
        own.touch()
        for learning_rate in (0.001, 0.1):  # of the first, and another
            arguments = (*options, "--learning-rate", learning_rate)
            with started(tmp_path / "second.txt", module, *arguments) as second:
                told = second.finish(status=2)
            assert f"--out {out}: another process is training into it (process {first.process.pid} on " in told
            assert own.exists()
        first.finish()
    assert json.loads((out / "run.json").read_text())["configuration"]["optimization"]["learning_rate"] == 0.001
    assert not list(out.rglob(".lock"))


def test_a_killed_training_keeps_nobody_out(tiny_dataset: Path, tiny_test_dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    options = ("--train", tiny_dataset, "--val", tiny_test_dataset, "--epochs", 2, "--out", out, *SMALL)
    with started(tmp_path / "first.txt", "scenebias.pretrain", *options) as first:
        wait_for(out / "log.jsonl", first)
        first.process.kill()
        first.process.join(LONGEST_RUN_S)
        with started(tmp_path / "second.txt", "scenebias.pretrain", *options) as second:
            assert "weights in" in second.finish()
    assert (out / "weights.safetensors").exists()
    assert not list(out.rglob(".*"))
