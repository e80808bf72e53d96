"""Checkpoints survive what happens to files."""

from pathlib import Path

import pytest
import torch

from scenebias.checkpoint import KEPT, CheckpointFolder, TrainingState


def state(step: int) -> TrainingState:
    tensors = {"w": torch.full((100,), float(step))}
    return TrainingState(0, step, tensors, {"state": {}, "param_groups": [{"lr": 0.1}]}, [{"epoch": 0, "top1": 0.5}])


def test_the_newest_is_loaded_as_it_was_saved(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path / "checkpoints")
    assert folder.load_newest() is None
    for step in (1, 2, 10):
        folder.save(state(step), step)
    loaded = folder.load_newest()
    assert loaded is not None
    assert (loaded.epoch, loaded.step, loaded.history) == (0, 10, [{"epoch": 0, "top1": 0.5}])
    assert torch.equal(loaded.model["w"], torch.full((100,), 10.0))


def test_only_the_last_ones_are_kept(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    for step in range(6):
        folder.save(state(step), step)
    assert len(list(tmp_path.iterdir())) == KEPT


@pytest.mark.parametrize("kept_share", [0.0, 0.3, 0.99])
def test_a_newest_one_cut_short_falls_back_to_the_one_before_with_a_warning(tmp_path: Path, kept_share: float) -> None:
    folder = CheckpointFolder(tmp_path)
    folder.save(state(1), 1)
    newest = folder.save(state(2), 2)
    data = newest.read_bytes()
    newest.write_bytes(data[: int(kept_share * len(data))])
    with pytest.warns(UserWarning, match=newest.name):
        loaded = folder.load_newest()
    assert loaded is not None
    assert loaded.step == 1


def test_a_checkpoint_that_would_run_code_is_not_loaded(tmp_path: Path) -> None:
    torch.save({"epoch": 0, "step": 0, "model": Path, "optimizer": {}, "history": []}, tmp_path / "step-000000001.pt")
    with pytest.warns(UserWarning, match="cannot be read"):
        assert CheckpointFolder(tmp_path).load_newest() is None
