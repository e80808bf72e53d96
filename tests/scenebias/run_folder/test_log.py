"""The log of a run, also of one that is killed and resumed: as JSON lines, and as TensorBoard reads it."""

import json
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

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


def shown_by_tensorboard(out: Path) -> dict[tuple[str, int], float]:
    """The value of each tag at each step, of what a resume has not purged; the last where an epoch is told twice."""
    events = EventAccumulator(str(out / "tensorboard"), size_guidance={"scalars": 0}).Reload()
    for tag in events.Tags()["scalars"]:
        steps = [event.step for event in events.Scalars(tag)]
        assert tag.startswith("epoch/") or len(steps) == len(set(steps)), f"{tag} has two values at one step"
    return {(tag, event.step): event.value for tag in events.Tags()["scalars"] for event in events.Scalars(tag)}


def due_to_tensorboard(out: Path) -> dict[tuple[str, int], float]:
    """What log.jsonl holds; an epoch belongs to its last step. TensorBoard has float32."""
    return {
        (f"{entry['kind']}/{name}", entry["global_step"] - (entry["kind"] == "epoch")): np.float32(value)
        for entry in lines(out)
        for name, value in entry.items()
        if name not in ("kind", "global_step")
    }


def log_steps(log: TrainingLog, steps: range, level: float) -> None:
    """Epochs of three steps, each with its line."""
    for step in steps:
        log.write("step", step, {"epoch": step // 3, "loss": level + step / 7})
        if step % 3 == 2:
            log.write("epoch", step + 1, {"epoch": step // 3, "top1": level + step / 9, "learning_rate": 0.1})


def test_tensorboard_shows_every_number_of_the_log_at_its_step(tmp_path: Path) -> None:
    log = TrainingLog(tmp_path, 0, 0)
    log_steps(log, range(7), 0.0)
    log.close()
    shown = shown_by_tensorboard(tmp_path)
    assert shown == due_to_tensorboard(tmp_path)
    assert shown["step/loss", 6] == np.float32(6 / 7)
    assert shown["epoch/top1", 5] == np.float32(5 / 9)
    assert len(shown) == 7 * 2 + 2 * 3


@pytest.mark.parametrize(("resume_at_step", "finished_epochs"), [(3, 1), (4, 1), (5, 1), (6, 1), (6, 2)])
def test_after_a_resume_tensorboard_shows_the_log_and_nothing_that_it_dropped(
    tmp_path: Path, resume_at_step: int, finished_epochs: int
) -> None:
    """At step 6 of epochs of three steps, the second is finished or its evaluation comes again."""
    log = TrainingLog(tmp_path, 0, 0)
    log_steps(log, range(8), 0.0)
    log.close()
    (first,) = (tmp_path / "tensorboard").iterdir()
    first.rename(
        first.with_name(first.name.replace("tfevents.", "tfevents.0"))
    )  # read first, though of the same second
    log = TrainingLog(tmp_path, resume_at_step, finished_epochs)
    if resume_at_step == 6 and finished_epochs == 1:
        log.write("epoch", 6, {"epoch": 1, "top1": 55.0, "learning_rate": 0.1})
    log_steps(log, range(resume_at_step, 7), 100.0)
    log.close()
    shown = shown_by_tensorboard(tmp_path)
    assert shown == due_to_tensorboard(tmp_path)
    assert {step for tag, step in shown if tag == "step/loss"} == set(range(7))
    assert all((shown["step/loss", step] > 99) == (step >= resume_at_step) for step in range(7))
