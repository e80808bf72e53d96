"""The log of a run that is killed and resumed."""

import json
from pathlib import Path

import pytest

from scenebias.run_folder.log import TrainingLog


def lines(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("finished_epochs", [0, 1])
def test_a_resumed_log_drops_what_came_after_the_checkpoint_and_a_line_cut_short(
    tmp_path: Path, finished_epochs: int
) -> None:
    """The last step of an epoch is followed by two checkpoints: one before the evaluation, one after it."""
    log = TrainingLog(tmp_path, 0, 0)
    for step in range(4):
        if step == 2:
            log.write("epoch", 2, {"epoch": 0, "top1": 0.5})
        log.write("step", step, {"epoch": step // 2, "loss": float(step)})
    log.close()
    with open(tmp_path / "log.jsonl", "a") as file:
        file.write('{"kind": "step", "glob')
    log = TrainingLog(tmp_path, 2, finished_epochs)
    log.write("step", 2, {"epoch": 1, "loss": 20.0})
    log.close()
    assert [(e["kind"], e["global_step"], e.get("loss")) for e in lines(tmp_path)] == [
        ("step", 0, 0.0),
        ("step", 1, 1.0),
        *[("epoch", 2, None)][:finished_epochs],
        ("step", 2, 20.0),
    ]
