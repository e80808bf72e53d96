"""The curves of a training run, from its log."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure


def read_log(run: Path, kind: str) -> list[dict[str, float]]:
    """The lines of a run's ``log.jsonl`` of one kind ("step" or "epoch")."""
    entries = (json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines())
    return [entry for entry in entries if entry["kind"] == kind]


def smooth(values: Sequence[float], width: int) -> np.ndarray:
    """Moving average over ``width`` values, shorter at both ends."""
    kernel = np.ones(min(width, len(values)))
    return np.convolve(values, kernel, "same") / np.convolve(np.ones(len(values)), kernel, "same")


def loss_curves(runs: Mapping[str, Path]) -> dict[str, Figure]:
    """Charts by title: losses by step, validation accuracy by epoch. One line a run, named in the last chart.

    Losses that no run has are left out.
    """
    names = {
        "action_loss": "action loss (nats)",
        "scene_loss": "scene loss (nats)",
        "masked_entropy": "entropy on masked clips (nats)",
        "still_entropy": "entropy on stills (nats)",
    }
    steps = {run: read_log(path, "step") for run, path in runs.items()}
    figures = {}
    for name, title in names.items():
        if not any(name in entries[0] for entries in steps.values()):
            continue
        figures[title], axis = _curves("step")
        for colour, entries in enumerate(steps.values()):
            points = [(entry["global_step"], entry[name]) for entry in entries if name in entry]
            if points:
                at, values = zip(*points, strict=True)
                axis.plot(at, smooth(values, 25), color=f"C{colour}")
    figures["validation top-1 (%)"], axis = _curves("epoch")
    for run, path in runs.items():
        epochs = read_log(path, "epoch")
        axis.plot([e["epoch"] + 1 for e in epochs], [100 * e["top1"] for e in epochs], marker=".", label=run)
    axis.set_ylim(0, 100)
    axis.legend(frameon=False, fontsize=8)
    return figures


def _curves(x_label: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(3, 2.3), layout="constrained")
    axis = figure.subplots()
    axis.set_xlabel(x_label, fontsize=8)
    axis.tick_params(labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)
    return figure, axis
