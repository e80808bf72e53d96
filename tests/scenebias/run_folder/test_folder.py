"""The folder of a run: how far the run has come, and what it came to."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scenebias.run_folder.folder import RunFolder, RunResult
from shards.errors import UserError
from shards.system.locks import LOCK_NAME

EPOCH = {"top1": 0.5, "top5": 0.9, "clips": 4.0, "skipped_clips": 0, "skipped_steps": 0}


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=5))
def test_a_result_is_the_last_epoch_s_numbers_and_what_all_have_skipped(skipped: list[tuple[int, int]]) -> None:
    history = [
        EPOCH | {"epoch": number, "top1": number / 10, "skipped_clips": clips, "skipped_steps": steps}
        for number, (clips, steps) in enumerate(skipped)
    ]
    result = RunResult.of_epochs(history)
    assert result.final == {"top1": (len(skipped) - 1) / 10, "top5": 0.9, "clips": 4.0}
    assert result.history == history
    assert result.skipped_clips == sum(clips for clips, _ in skipped)
    assert result.skipped_steps == sum(steps for _, steps in skipped)
    assert ("were skipped" in result.line) == any(clips or steps for clips, steps in skipped)


def test_a_result_comes_back_from_its_file_and_a_damaged_one_says_so(tmp_path: Path) -> None:
    folder, result = RunFolder(tmp_path), RunResult.of_epochs([EPOCH | {"epoch": 0}])
    folder.write_result(result)
    assert folder.read_result() == result
    for content in ("", "[]", "{}", '{"final": {}, "history": [], "skipped_clips": 0, "skipped_steps": 0}'):
        folder.result.write_text(content)
        with pytest.raises(UserError, match=r"result\.json is damaged"):
            folder.read_result()


def test_a_run_is_complete_with_its_weights_and_its_result(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    assert not folder.is_complete
    assert not folder.has_begun()
    with folder.held("training into"):
        folder.write_result(RunResult.of_epochs([EPOCH | {"epoch": 0}]))
    assert not folder.is_complete
    folder.weights.touch()
    assert folder.is_complete


def test_a_folder_of_other_things_is_refused_and_leftovers_go(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UserError, match="holds other files"):
        RunFolder(tmp_path).has_begun()
    with pytest.raises(UserError, match="is a file"):
        RunFolder(tmp_path / "notes.txt").has_begun()
    with pytest.raises(UserError, match="is a file"), RunFolder(tmp_path / "notes.txt").held("training into"):
        pass
    run = RunFolder(tmp_path / "run")
    with run.held("training into"):
        (run.path / ".weights.safetensors.1.tmp").touch()
        assert not run.has_begun()
        run.remove_leftovers()
        assert [path.name for path in run.path.iterdir()] == [LOCK_NAME]
    assert not run.path.exists()


def test_a_folder_that_cannot_be_written_is_refused_unless_its_run_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere
    folder = RunFolder(tmp_path)
    with pytest.raises(UserError, match="cannot be written to: choose another folder"), folder.held("training into"):
        pass
    folder.result.touch()
    folder.weights.touch()
    with folder.held("training into"):
        assert not (tmp_path / LOCK_NAME).exists()
