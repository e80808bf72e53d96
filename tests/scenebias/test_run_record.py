"""What a run writes down of itself, and what it refuses to continue."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from scenebias.run_record import check_same_run, plain, write_run_record
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
    write_run_record(tmp_path, Config(tmp_path), {"train": "abc"}, world_size=2)
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["configuration"] == {"out": str(tmp_path), "epochs": 3, "inner": {"scales": [1.0, 0.5]}}
    assert record["data"] == {"train": "abc"}
    assert set(record["packages"]) >= {"torch", "nvidia-dali-cuda130", "numpy"}


def test_the_same_run_may_go_on_and_another_is_refused_with_what_changed(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"run\.json is damaged"):
        check_same_run(tmp_path, Config(tmp_path), {})
    write_run_record(tmp_path, Config(tmp_path), {"train": "abc"}, world_size=1)
    check_same_run(tmp_path, Config(tmp_path), {"train": "abc"})
    check_same_run(tmp_path, Config(tmp_path / "moved"), {"train": "abc"}, may_change=("out",))
    with pytest.raises(UserError, match="epochs was 3 and is now 4"):
        check_same_run(tmp_path, Config(tmp_path, epochs=4), {"train": "abc"})
    with pytest.raises(UserError, match="train was 'abc' and is now 'def'"):
        check_same_run(tmp_path, Config(tmp_path), {"train": "def"})


def test_plain_values_survive_json() -> None:
    value = plain({"a": Config(Path("x")), "b": (1, Path("y"))})
    assert json.loads(json.dumps(value)) == value
