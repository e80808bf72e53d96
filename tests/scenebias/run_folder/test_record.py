"""What a run writes down of itself, and what it refuses to continue."""

import json
from copy import deepcopy
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pytest

from scenebias.pretrain import PretrainConfig
from scenebias.run_folder.record import RunRecord, plain, with_current_names
from shards.errors import UserError


@dataclass(frozen=True)
class Inner:
    scales: tuple[float, ...] = (1.0, 0.5)


@dataclass(frozen=True)
class Config:
    out: Path
    epochs: int = 3
    inner: Inner = Inner()


def test_the_record_holds_the_resolved_configuration_and_versions(tmp_path: Path) -> None:
    RunRecord.of(Config(tmp_path), {"train": "abc"}, {"processes": 2}).write(tmp_path)
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["configuration"] == {"out": str(tmp_path), "epochs": 3, "inner": {"scales": [1.0, 0.5]}}
    assert record["data"] == {"train": "abc"}
    assert set(record["packages"]) >= {"torch", "nvidia-dali-cuda130", "numpy"}


def test_the_same_run_may_go_on_and_another_is_refused_with_what_changed(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"run\.json is damaged"):
        RunRecord.of(Config(tmp_path), {}, {"processes": 1}).changes_since(tmp_path)
    RunRecord.of(Config(tmp_path), {"train": "abc"}, {"processes": 1}).write(tmp_path)
    assert RunRecord.of(Config(tmp_path), {"train": "abc"}, {"processes": 1}).changes_since(tmp_path) == []
    with pytest.raises(UserError, match=r"another run \(epochs was 3 and is now 4\)"):
        RunRecord.of(Config(tmp_path, epochs=4), {"train": "abc"}, {"processes": 1}).changes_since(tmp_path)
    with pytest.raises(UserError, match=r"another run \(data.train was 'abc' and is now 'def'\)"):
        RunRecord.of(Config(tmp_path), {"train": "def"}, {"processes": 1}).changes_since(tmp_path)


def test_what_may_change_is_told_and_does_not_hide_what_may_not(tmp_path: Path) -> None:
    RunRecord.of(Config(tmp_path), {}, {"processes": 1}).write(tmp_path)
    moved = Config(Path("moved"), inner=Inner((2.0,)))
    told = RunRecord.of(moved, {}, {"processes": 1}).changes_since(tmp_path, ("out", "inner"))
    assert told == [
        "inner.scales was [1.0, 0.5] and is now [2.0]",
        f"out was {str(tmp_path)!r} and is now 'moved'",
    ]
    with pytest.raises(UserError, match=r"another run \(epochs was 3 and is now 4\)"):
        RunRecord.of(Config(Path("moved"), epochs=4), {}, {"processes": 1}).changes_since(tmp_path, ("out",))


def test_other_versions_of_packages_are_told_and_other_options_of_the_program_are_another_run(tmp_path: Path) -> None:
    RunRecord.of(Config(tmp_path), {}, {"processes": 1}).write(tmp_path)
    path = tmp_path / "run.json"
    record = json.loads(path.read_text())
    record["packages"]["torch"] = "1.0"
    path.write_text(json.dumps(record))
    assert RunRecord.of(Config(tmp_path), {}, {"processes": 2}).changes_since(tmp_path) == [
        "processes was 1 and is now 2",
        f"torch was '1.0' and is now {version('torch')!r}",
    ]
    del record["configuration"]["epochs"]
    record["configuration"]["loops"] = 3
    path.write_text(json.dumps(record))
    with pytest.raises(UserError, match=r"\(epochs was not known and is now 3; loops was 3 and is now not known\)"):
        RunRecord.of(Config(tmp_path), {}, {"processes": 1}).changes_since(tmp_path)


def test_a_run_of_before_there_was_an_option_has_its_default() -> None:
    now = plain(PretrainConfig(train="a", val="b", out=Path("c")))
    before = deepcopy(now)
    for name in ("stride_range", "crop_area", "crop_aspect"):
        del before["clip"][name]
    del before["evaluation"], before["augment"], before["schedule"]["repeated_augmentation"]
    assert with_current_names(before) == now


def test_plain_values_survive_json() -> None:
    value = plain({"a": Config(Path("x")), "b": (1, Path("y"))})
    assert json.loads(json.dumps(value)) == value


def test_a_record_that_may_not_be_read_is_not_called_damaged(tmp_path: Path) -> None:
    (tmp_path / "run.json").mkdir()
    with pytest.raises(UserError, match=r"run\.json cannot be read \(Is a directory\): mend that"):
        RunRecord.read(tmp_path)
