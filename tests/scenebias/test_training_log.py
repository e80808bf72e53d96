"""What a run writes down, and what it refuses to continue."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from scenebias.training_log import TrainingLog, check_same_run, plain, write_run_record
from shards.errors import UserError


@dataclass(frozen=True)
class Inner:
    scales: tuple[float, ...] = (1.0, 0.5)


@dataclass(frozen=True)
class Config:
    out: Path
    epochs: int = 3
    inner: Inner = Inner()


def lines(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def test_the_record_holds_the_resolved_configuration_and_versions(tmp_path: Path) -> None:
    write_run_record(tmp_path, Config(tmp_path), {"train": "abc"}, world_size=2)
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["configuration"] == {"out": str(tmp_path), "epochs": 3, "inner": {"scales": [1.0, 0.5]}}
    assert record["data"] == {"train": "abc"}
    assert set(record["packages"]) >= {"torch", "nvidia-dali-cuda130", "numpy"}


def test_the_same_run_may_go_on_and_another_is_refused_with_what_changed(tmp_path: Path) -> None:
    check_same_run(tmp_path, Config(tmp_path), {})
    write_run_record(tmp_path, Config(tmp_path), {"train": "abc"}, world_size=1)
    check_same_run(tmp_path, Config(tmp_path), {"train": "abc"})
    check_same_run(tmp_path, Config(tmp_path / "moved"), {"train": "abc"}, may_change=("out",))
    with pytest.raises(UserError, match="epochs was 3 and is now 4"):
        check_same_run(tmp_path, Config(tmp_path, epochs=4), {"train": "abc"})
    with pytest.raises(UserError, match="train was 'abc' and is now 'def'"):
        check_same_run(tmp_path, Config(tmp_path), {"train": "def"})


def test_a_resumed_log_drops_what_came_after_the_checkpoint_and_a_line_cut_short(tmp_path: Path) -> None:
    log = TrainingLog(tmp_path, 0)
    for step in range(4):
        log.write("step", step, {"loss": float(step)})
    log.write("epoch", 2, {"top1": 0.5})
    log.close()
    with open(tmp_path / "log.jsonl", "a") as file:
        file.write('{"kind": "step", "glob')
    log = TrainingLog(tmp_path, 2)
    log.write("step", 2, {"loss": 20.0})
    log.close()
    assert [(e["kind"], e["global_step"], e.get("loss")) for e in lines(tmp_path)] == [
        ("step", 0, 0.0),
        ("step", 1, 1.0),
        ("epoch", 2, None),
        ("step", 2, 20.0),
    ]


def test_plain_values_survive_json() -> None:
    value = plain({"a": Config(Path("x")), "b": (1, Path("y"))})
    assert json.loads(json.dumps(value)) == value
