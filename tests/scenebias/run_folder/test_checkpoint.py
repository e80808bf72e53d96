"""Checkpoints survive what happens to files, and tell which files are not theirs."""

import hashlib
import io
import resource
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from scenebias.run_folder.checkpoint import CheckpointConfig, CheckpointFolder, TrainingState
from shards.errors import UserError


def state(epoch: int, step: int, top1: tuple[float, ...] = ()) -> TrainingState:
    return TrainingState(
        epoch=epoch,
        step=step,
        model={"w": torch.full((100,), 100.0 * epoch + step)},
        optimizer={"state": {0: {"momentum_buffer": torch.ones(3)}}, "param_groups": [{"lr": 0.1, "params": [0]}]},
        scaler={},
        counts={"skipped_clips": 3},
        history=[{"epoch": epoch, "top1": share} for epoch, share in enumerate(top1)],
    )


def steps_in(folder: Path) -> list[tuple[int, int]]:
    return sorted((int(path.name[6:11]), int(path.name[17:25])) for path in folder.iterdir())


def test_the_newest_is_loaded_as_it_was_saved(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path / "checkpoints")
    assert folder.load_newest() is None
    assert not folder.holds_any
    for step in (1, 2, 10):
        folder.save(state(1, step, (0.5,)))
    loaded = folder.load_newest()
    assert loaded is not None
    assert torch.equal(loaded.model["w"], torch.full((100,), 110.0))
    assert torch.equal(loaded.optimizer["state"][0]["momentum_buffer"], torch.ones(3))
    assert replace(loaded, model={}, optimizer={}) == replace(state(1, 10, (0.5,)), model={}, optimizer={})
    assert folder.holds_any


def test_the_same_state_is_the_same_file(tmp_path: Path) -> None:
    first, again = (CheckpointFolder(tmp_path / name).save(state(1, 2)) for name in "ab")
    assert first.name == again.name
    assert first.read_bytes() == again.read_bytes()


@settings(max_examples=20, deadline=None)
@given(top1=st.lists(st.sampled_from([0.25, 0.5, 0.75]), max_size=6), keep=st.integers(2, 4))
def test_the_last_ones_and_the_best_are_kept(
    tmp_path_factory: pytest.TempPathFactory, top1: list[float], keep: int
) -> None:
    path = tmp_path_factory.mktemp("checkpoints")
    folder = CheckpointFolder(path, keep)
    positions = []
    for epoch in range(len(top1) + 1):
        for step in (0, 5, 9):
            folder.save(state(epoch, step, tuple(top1[:epoch])))
            positions.append((epoch, step))
            best = {(top1.index(max(top1[:epoch])) + 1, 0)} if epoch else set()
            assert steps_in(path) == sorted({*positions[-keep:], *best})


def test_what_a_kill_left_of_a_write_is_removed_by_the_next(tmp_path: Path) -> None:
    (tmp_path / ".epoch-00000-step-00000003-0123456789abcdef.pt.77.tmp").write_bytes(b"half")
    folder = CheckpointFolder(tmp_path)
    assert folder.load_newest() is None
    folder.save(state(0, 4))
    assert steps_in(tmp_path) == [(0, 4)]


def change_of(data: bytes, kind: str) -> bytes:
    middle = len(data) // 2
    return {
        "empty": b"",
        "cut": data[: int(0.9 * len(data))],
        "one bit": data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :],
        "zeroed end": data[:-4096] + bytes(4096),
        "longer": data + b"\0",
    }[kind]


@pytest.mark.parametrize("kind", ["empty", "cut", "one bit", "zeroed end", "longer"])
def test_a_damaged_newest_one_falls_back_to_the_one_before_with_a_warning(tmp_path: Path, kind: str) -> None:
    folder = CheckpointFolder(tmp_path)
    folder.save(state(0, 1))
    newest = folder.save(state(0, 2))
    newest.write_bytes(change_of(newest.read_bytes(), kind))
    with pytest.warns(UserWarning, match=f"{newest.name} is damaged: trying the one before"):
        loaded = folder.load_newest()
    assert loaded is not None
    assert loaded.step == 1


def test_one_that_cannot_be_read_is_passed_over_and_gone_once_the_run_has_come_as_far(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    folder.save(state(0, 1))
    newest = folder.save(state(0, 5))
    newest.unlink()
    newest.symlink_to(newest)
    with pytest.warns(UserWarning, match="cannot be read"):
        assert folder.load_newest() is not None
    folder.save(state(0, 2))
    assert steps_in(tmp_path) == [(0, 1), (0, 2)]


def test_a_run_does_not_begin_anew_where_all_are_damaged(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    folder.save(state(0, 1)).write_bytes(b"")
    with pytest.warns(UserWarning, match="damaged"), pytest.raises(UserError, match=r"no checkpoint in .* can be read"):
        folder.load_newest()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"epoch": 0, "step": 0, "model": {}}, "it holds epoch, step, model in place of counts, epoch, .*scaler, step"),
        ({**vars(state(0, 1)), "plans": 1}, "it holds .*plans in place of"),
        ([1, 2], "it holds list in place of"),
    ],
)
def test_an_undamaged_file_with_other_content_is_refused_by_name(tmp_path: Path, content: object, words: str) -> None:
    file = io.BytesIO()
    torch.save(content, file)
    name = f"epoch-00000-step-00000001-{hashlib.sha256(file.getvalue()).hexdigest()[:16]}.pt"
    (tmp_path / name).write_bytes(file.getvalue())
    with pytest.raises(UserError, match=f"{name} was not written by this version of the program .{words}"):
        CheckpointFolder(tmp_path).load_newest()


def test_a_file_whose_name_holds_no_checksum_is_refused_by_name(tmp_path: Path) -> None:
    torch.save({"epoch": 0, "step": 0, "model": {}}, tmp_path / "step-000000001.pt")
    with pytest.raises(UserError, match=r"step-000000001\.pt was not written by this version .*no checksum"):
        CheckpointFolder(tmp_path).load_newest()


def test_a_checkpoint_that_would_run_code_is_not_loaded(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    folder.save(replace(state(0, 1), model={"w": Path("x")}))
    with pytest.raises(UserError, match="was not written by this version"):
        folder.load_newest()


def test_a_checkpoint_goes_back_into_what_it_was_taken_from_and_into_nothing_else(tmp_path: Path) -> None:
    model, scaler = nn.Linear(3, 2), torch.amp.GradScaler("cpu")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    scaler.scale(model(torch.ones(4, 3)).sum()).backward()
    scaler.step(optimizer)
    scaler.update(3.0)
    folder = CheckpointFolder(tmp_path)
    parts = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "scaler": scaler.state_dict()}
    folder.save(replace(state(0, 1), **parts))
    loaded = folder.load_newest()
    assert loaded is not None

    other, other_scaler = nn.Linear(3, 2), torch.amp.GradScaler("cpu")
    other_optimizer = torch.optim.SGD(other.parameters(), lr=0.7, momentum=0.9)
    loaded.restore(other, other_optimizer, other_scaler)
    assert torch.equal(other.weight, model.weight)
    assert other_scaler.get_scale() == 3.0
    momentum = [
        optimizer.state[model.weight]["momentum_buffer"],
        other_optimizer.state[other.weight]["momentum_buffer"],
    ]
    assert torch.equal(*momentum)

    for unfit, unfit_optimizer in (
        (nn.Linear(3, 4), optimizer),
        (nn.Sequential(nn.Linear(3, 2)), optimizer),
        (nn.Linear(3, 2), torch.optim.SGD([model.weight], lr=0.1)),
    ):
        with pytest.raises(UserError, match="epoch 0, step 1 does not fit this version"):
            loaded.restore(unfit, unfit_optimizer, scaler)


def test_a_checkpoint_that_cannot_be_written_leaves_those_before_it(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    folder.save(state(0, 1))
    size_limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # as if the disk were full
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, size_limits[1]))
    try:
        with pytest.raises(UserError, match=r"step-00000002-.* cannot be written \(File too large\): make room for"):
            folder.save(state(0, 2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, size_limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert steps_in(tmp_path) == [(0, 1)]


@pytest.mark.parametrize(("name", "value"), [("checkpoint_every_steps", 0), ("keep_checkpoints", 1)])
def test_unfit_options_are_refused_by_name(name: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"{name} must be at least"):
        CheckpointConfig(**{name: value})
