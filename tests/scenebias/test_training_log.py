"""The log of a run that is killed and resumed."""

import json
from pathlib import Path

from scenebias.training_log import TrainingLog


def lines(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


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
